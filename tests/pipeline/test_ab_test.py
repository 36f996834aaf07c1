"""Two versions in the field: dealt out by case id, or one beside the other; compared by what came back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.evaluation.predictions import COLUMNS
from pcc_pipeline.steps.answering.challenge import SHADOW_COLUMNS, is_challengers

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
FIXED = ("--search-method", "none")


@pytest.fixture(scope="module")
def two(new_store, in_process, small_file):
    """A store whose version 1 is champion and version 2 challenger, and the names of both."""
    store = new_store("two")
    assert in_process(store.folder, "train", ["--data", str(small_file), *FIXED]) == 0
    store.client.set_registered_model_alias(NAME, "champion", "1")
    other = ["--set", "model.hyperparameters.C=0.001"]
    assert in_process(store.folder, "train", ["--data", str(small_file), *FIXED, *other]) == 0
    return store, *(store.client.get_model_version(NAME, number).tags["pcc.version"] for number in ("1", "2"))


def test_a_hash_of_the_case_id_decides_who_answers(command, two, small_file) -> None:
    store, champion, challenger = two
    done = command("score", "--data", str(small_file), "--output", "plain.parquet", store=store)
    assert done.code == 0, done.err
    shared = ("--data", str(small_file), "--challenger-share", "0.3", "--output", "shared.parquet")
    done = command("score", *shared, store=store)
    assert done.code == 0, done.err
    plain, mixed = (pd.read_parquet(store.folder / name) for name in ("plain.parquet", "shared.parquet"))
    assert list(mixed.columns) == list(COLUMNS)
    assert list(mixed["case_id"]) == list(plain["case_id"])
    its = is_challengers(mixed["case_id"].to_numpy(), 0.3)
    assert 40 < its.sum() < 100
    assert set(mixed["model_version"][its]) == {challenger}
    assert set(mixed["model_version"][~its]) == {champion}
    pd.testing.assert_frame_equal(
        mixed[~its].drop(columns=["inference_timestamp", "ingestion_time"]),
        plain[~its].drop(columns=["inference_timestamp", "ingestion_time"]),
    )
    assert (mixed["confidence"][its] != plain["confidence"][its]).all()
    assert f"challenger {challenger} answered {its.sum():,} rows of them" in done.out
    assert store.step("score").data.metrics["score/challenger_rows"] == its.sum()
    assert not is_challengers(mixed["case_id"].to_numpy(), 0.0).any()
    assert is_challengers(np.array(["case 1", "case 2", "case 3", "case 4"]), 0.5).tolist() == [
        False,
        False,
        True,
        True,
    ]


def test_a_shadow_answers_beside_and_changes_no_prediction(command, two, small_file) -> None:
    store, champion, challenger = two
    done = command("score", "--data", str(small_file), "--shadow", "true", "--output", "day.parquet", store=store)
    assert done.code == 0, done.err
    used, beside = (pd.read_parquet(store.folder / name) for name in ("day.parquet", "day.shadow.parquet"))
    assert pq.read_schema(store.folder / "day.shadow.parquet").names == list(SHADOW_COLUMNS)
    assert set(used["model_version"]) == {champion} == set(beside["champion_version"])
    assert set(beside["challenger_version"]) == {challenger}
    assert list(beside["champion_label"]) == list(used["predicted_label"])
    assert list(beside["champion_confidence"]) == list(used["confidence"])
    assert (beside["challenger_confidence"] != beside["champion_confidence"]).any()
    labels = pd.read_parquet(small_file)[["intent"]].assign(case_id=used["case_id"])
    labels[:200].to_csv(store.folder / "labels.csv", index=False)
    done = command("ab_test", "--data", "day.shadow.parquet", "--labels", "labels.csv", store=store)
    assert done.code == 0, done.err
    assert "both answered each case" in done.out
    run = store.step("ab_test")
    assert run.data.tags["pcc.ab_challenger"] == challenger
    assert run.data.metrics["ab/champion/labelled_rows"] == 200
    wins = (beside["challenger_label"] == labels["intent"])[:200].mean()
    assert run.data.metrics["ab/challenger/accuracy"] == pytest.approx(wins)


def test_shadow_answers_stay_their_versions_when_the_two_change_places(command, store) -> None:
    """A folder of shadow files goes over a promotion; labels are spelled as the answers where trainings normalise."""
    old, new = "v20260101_000000", "v20260201_000000"
    (store.folder / "shadow").mkdir()
    for day, (champion, challenger) in enumerate([(old, new), (new, old), (new, old)]):
        cases = [f"{day}-{place}" for place in range(100)]
        answers = {old: "opt_out", new: "other"}
        frame = pd.DataFrame(dict.fromkeys(SHADOW_COLUMNS, 0.9), index=range(100)).assign(
            case_id=cases,
            champion_label=answers[champion],
            challenger_label=answers[challenger],
            champion_version=champion,
            challenger_version=challenger,
        )
        frame.to_parquet(store.folder / f"shadow/{day}.shadow.parquet", index=False)
    cases = [f"{day}-{place}" for day in range(3) for place in range(100)]
    pd.DataFrame({"case_id": cases, "intent": ["Opt_Out "] * 300}).to_csv(store.folder / "labels.csv", index=False)
    words = ("--data", "shadow/", "--labels", "labels.csv")
    done = command("ab_test", *words, "--set", "data.normalise_labels=true", store=store)
    assert done.code == 0, done.err
    compared = json.loads(store.file(store.step("ab_test"), "comparison.json").read_text())
    assert (compared["challenger"], compared["champion"], compared["accuracy"]) == (new, old, [0.0, 1.0])
    assert compared["verdict"] == "champion better"


def test_without_a_challenger_of_its_own_no_share_is_dealt_out(command, two, small_file) -> None:
    store, _, _ = two
    its = ("--model", f"models:/{NAME}@challenger", "--challenger-share", "0.5")
    done = command("score", "--data", str(small_file), *its, store=store)
    assert done.code == 1
    assert "has no challenger beside" in done.err
    done = command("score", "--data", str(small_file), "--set", "ab_test.shadow=true", *its[2:], store=store)
    assert done.code == 1
    assert "with shadow the challenger's answers are not used" in done.err


def _field(store, versions: tuple[str, str], right: tuple[float, float]) -> None:
    """Scored files and labels of 4,000 cases, of which the challenger answered half."""
    draws = np.random.default_rng(0)
    case_ids = np.array([f"case {number}" for number in range(4000)])
    its = is_challengers(case_ids, 0.5)
    expected = draws.choice(["opt_out", "other", "data_deletion"], size=4000)
    hit = draws.random(4000) < np.where(its, right[1], right[0])
    columns = {"case_id": case_ids, "predicted_label": np.where(hit, expected, "privacy_request")}
    scored = pd.DataFrame(columns | {"model_version": np.where(its, versions[1], versions[0])})
    for day in range(2):
        scored[day::2].to_parquet(store.folder / f"field_{day}.parquet", index=False)
    labels = pd.DataFrame({"case_id": case_ids, "intent": expected})
    labels.to_parquet(store.folder / "back.parquet", index=False)


def test_what_came_back_decides_and_a_gate_reads_it(command, two) -> None:
    store, champion, challenger = two
    gates = "'registry.gates=[{kind: ab_test, demand: better}, {kind: ab_test, demand: no_worse, margin: 0.01}]'"
    _field(store, (champion, challenger), (0.8, 0.9))
    asked = ("--data", "[field_0.parquet, field_1.parquet]", "--labels", "back.parquet")
    done = command("ab_test", *asked, "--challenger-share", "0.5", store=store)
    assert done.code == 0, done.err
    assert "verdict    challenger better (95% at all looks together)" in done.out
    document = json.loads(store.file(store.step("ab_test"), "comparison.json").read_text(encoding="utf-8"))
    assert (document["challenger"], document["champion"]) == (challenger, champion)
    assert document["differences"]["accuracy"]["low"] > 0.03
    turned = command("ab_test", *asked, "--challenger", champion, store=store)
    assert "verdict    champion better" in turned.out
    assert "whether the shares match was not checked" in turned.out
    mismatched = command("ab_test", *asked, "--challenger-share", "0.1", store=store)
    assert "verdict    shares do not match: the challenger has" in mismatched.out
    done = command("promote", "--set", gates, store=store)
    assert done.code == 1
    assert "shares do not match" in done.err
    assert command("ab_test", *asked, "--challenger-share", "0.5", store=store).code == 0
    done = command("promote", "--set", gates, store=store)
    assert done.code == 0, done.err
    assert store.client.get_model_version_by_alias(NAME, "champion").version == 2
    store.client.set_registered_model_alias(NAME, "champion", "1")


def test_what_cannot_be_compared_says_why(command, two, small_file) -> None:
    store, champion, challenger = two
    _field(store, (champion, challenger), (0.8, 0.8))
    for arguments, message in (
        (("--data", "field_0.parquet"), "no labels are named"),
        (("--data", str(small_file), "--labels", "back.parquet"), "the file has no column predicted_label"),
        (("--data", "field_0.parquet", "--labels", "back.parquet", "--label", "topic"), "has no column topic"),
        (("--data", "field_0.parquet", "--labels", "back.parquet", "--challenger", "v1"), "v1 did not answer here"),
        (("--plan", "9"), "'9' is no accuracy"),
    ):
        done = command("ab_test", *arguments, store=store)
        assert done.code == 1
        assert message in done.err
    done = command("ab_test", "--plan", "0.9", "--challenger-share", "0.1", store=store)
    assert done.code == 0
    assert "a difference of 0.03:" in done.out
