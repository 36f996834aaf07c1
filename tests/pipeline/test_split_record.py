"""The split is a record of the training: later runs use it, know by it what was learned, and never make another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.split_record import LEFT_OUT, TEST, TRAIN, VALIDATION
from pcc_pipeline.steps import embed, train
from pcc_pipeline.steps.inputs import split as splitting
from pcc_pipeline.storage.objects import open_store

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")
GATES = ("--set", "'registry.gates=[{kind: minimum, metric: test/f1_macro, threshold: 0.1}]'")
COMPARED = ("--set", "'registry.gates=[{kind: no_worse_than_champion, margin: 0.2}]'")
INTENTS = ("data_deletion", "opt_out", "privacy_request", "other")


def rows_of(n_rows: int, start: int = 0) -> pd.DataFrame:
    """Rows with vectors that tell their labels, so that no encoder is needed; texts of the same number are equal."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(INTENTS), 384))
    numbers = range(start, start + n_rows)
    labels = [int(hashlib.sha256(str(number).encode()).hexdigest(), 16) % len(INTENTS) for number in numbers]
    vectors = [
        centres[label] + 2 * np.random.default_rng(n).normal(size=384) for n, label in zip(numbers, labels, strict=True)
    ]
    return pd.DataFrame(
        {
            "case_id": [f"case {number}" for number in numbers],
            "text": [f"Message number {number}" for number in numbers],
            "intent": [INTENTS[label] for label in labels],
            "customer": [f"customer {number // 2}" for number in numbers],
            "embeddings": [vector.astype(np.float32).tolist() for vector in vectors],
        }
    )


@pytest.fixture
def file(store):
    """Writes rows into the test's folder; returns the path."""

    def write(frame: pd.DataFrame, name: str = "cases.parquet") -> str:
        frame.to_parquet(store.folder / name, index=False)
        return str(store.folder / name)

    return write


def trained(command, path: str, *more: str) -> None:
    done = command("train", "--data", path, *FIXED, *more)
    assert done.code == 0, done.err


def ids_of(store) -> set[str]:
    return set(pd.read_parquet(store.folder / "outputs/predictions.parquet")["case_id"])


def without_record(store) -> None:
    """Makes the newest training one of a time when no record was kept."""
    store.client.delete_tag(store.step("train").info.run_id, "pcc.split_digest")


def test_training_keeps_a_record_and_evaluation_uses_its_positions(command, store, file, monkeypatch) -> None:
    frame = rows_of(200)
    path = file(frame)
    trained(command, path)
    run = store.step("train")
    record = pd.read_parquet(store.file(run, "split.parquet"))
    assert record["position"].tolist() == list(range(200))
    assert set(record["split"]) == {TRAIN, VALIDATION, TEST}
    assert (record["learned"] == (record["split"] != TEST)).all(), "the final model was fitted on both"
    assert len(run.data.tags["pcc.split_digest"]) == 64

    def not_again(*_: object) -> None:
        raise AssertionError("the split was computed again")

    monkeypatch.setattr(splitting, "split", not_again)
    done = command("evaluate", "--data", path)
    assert done.code == 0, done.err
    assert ids_of(store) == set(frame["case_id"][record["split"] == TEST])


@pytest.mark.long
def test_the_order_of_the_rows_decides_nothing(command, store, file) -> None:
    frame = rows_of(200)
    found = []
    for number, rows in enumerate((frame, frame.sample(frac=1, random_state=1))):
        trained(command, file(rows, f"{number}.parquet"), "--set", "model.cross_val=true")
        assert command("evaluate").code == 0
        predictions = pd.read_parquet(store.folder / "outputs/predictions.parquet").set_index("case_id")["confidence"]
        measured = store.step("train").data.metrics
        found.append((predictions.sort_index(), {n: v for n, v in measured.items() if n.startswith(("val/", "cv/"))}))
    (one, scores), (other, others) = found
    assert one.to_dict() == other.to_dict()
    assert scores == pytest.approx(others, abs=1e-12)
    assert len(scores) > 4


def test_rows_that_the_version_learned_are_left_out_of_test_data_and_counted(command, store, file) -> None:
    frame = rows_of(200)
    path = file(frame)
    trained(command, path)
    assert command("evaluate").code == 0
    honest, set_aside = store.step("evaluate").data.metrics, ids_of(store)

    shouted = frame.assign(text=frame["text"].str.upper() + "!", case_id=[f"other {i}" for i in range(200)])
    done = command("evaluate", "--test-data", file(shouted, "again.parquet"))
    assert done.code == 0, done.err
    run = store.step("evaluate")
    assert f"{200 - len(set_aside)} of 200 rows left out: the model learned" in done.out
    assert run.data.metrics["test/overlap_removed_rows"] == 200 - len(set_aside)
    assert run.data.metrics["test/rows"] == len(set_aside)
    assert run.data.metrics["test/f1_macro"] == pytest.approx(honest["test/f1_macro"], abs=1e-9)
    document = json.loads(store.file(run, "metrics.json").read_text())
    assert document["test"]["overlap_removed_rows"] == 200 - len(set_aside)
    line = json.loads((store.folder / "outputs/monitoring_log.jsonl").read_text().splitlines()[-1])
    assert (line["total_cases"], line["passed_validation"]) == (200, len(set_aside))


@pytest.mark.long
def test_rows_of_groups_that_the_version_learned_are_left_out_too(command, store, file) -> None:
    frame = rows_of(200)
    trained(command, file(frame), "--set", "data.group_column=customer")
    record = pd.read_parquet(store.file(store.step("train"), "split.parquet"))
    learned = set(frame["customer"][record["learned"]])
    assert not learned & set(frame["customer"][~record["learned"]])
    others = rows_of(40, 1000).assign(customer=frame["customer"].iloc[::5].tolist())
    done = command("evaluate", "--test-data", file(others, "others.parquet"))
    assert done.code == 0, done.err
    assert ids_of(store) == set(others["case_id"][~others["customer"].isin(learned)])

    nameless = file(others.drop(columns="customer"), "nameless.parquet")
    done = command("evaluate", "--test-data", nameless)
    assert done.code == 0, done.err
    assert "Rows that the model learned may be among them: the file has no column customer" in done.out
    refused = command("promote", *GATES, "--test-data", nameless)
    assert refused.code == 1
    assert "surely not learned: the file has no column customer" in refused.err


def test_groups_of_the_test_file_are_left_out_of_training(command, store, file) -> None:
    frame, others = rows_of(200), rows_of(40, 1000)
    others["customer"] = frame["customer"].iloc[::5].tolist()
    trained(command, file(frame), "--set", "data.group_column=customer", "--test-data", file(others, "test.parquet"))
    run = store.step("train")
    record = pd.read_parquet(store.file(run, "split.parquet"))
    shared = frame["customer"].isin(others["customer"])
    assert (record["split"] == LEFT_OUT).tolist() == shared.tolist()
    assert run.data.metrics["data/overlap_removed_rows"] == shared.sum() > 40


def test_nothing_left_to_measure_on_is_an_error_and_a_failed_gate(command, store, file) -> None:
    frame = rows_of(200)
    trained(command, file(frame))
    record = pd.read_parquet(store.file(store.step("train"), "split.parquet"))
    learned = file(frame[record["learned"]], "learned.parquet")
    done = command("evaluate", "--test-data", learned)
    assert done.code == 1
    assert f"learned the text or the group of each of these {record['learned'].sum()} rows" in done.err
    refused = command("promote", *GATES, "--test-data", learned)
    assert refused.code == 1
    assert "not computed" in refused.err
    assert "nothing to measure it on" in refused.err
    forced = command("promote", *GATES, "--test-data", learned, "--force", "true", "--reason", "drill")
    assert forced.code == 0, forced.err


def test_both_are_compared_on_rows_that_neither_learned(command, store, file) -> None:
    """Some rows that the version set aside, by another seed, are rows that the champion learned."""
    trained(command, file(rows_of(200), "spring.parquet"))
    assert command("promote", *GATES).code == 0
    champion = pd.read_parquet(store.file(store.step("train"), "split.parquet"))
    later = rows_of(300, 100)
    trained(command, file(later, "summer.parquet"), "--set", "data.random_state=1")
    record = pd.read_parquet(store.file(store.step("train"), "split.parquet"))
    known = set(champion["text_hash"][champion["learned"]])
    test = record[record["split"] == TEST]
    shared = int(test["text_hash"].isin(known).sum())
    assert 0 < shared < len(test)
    only = file(later[record["split"] == TEST][test["text_hash"].isin(known).to_numpy()], "only.parquet")
    refused = command("promote", *COMPARED, "--test-data", only)
    assert refused.code == 1
    assert f"learned all {shared} test rows, so the two cannot be compared" in refused.err

    done = command("promote", *COMPARED)
    assert f"on {len(test) - shared} test rows" in done.out + done.err
    assert f"{shared} test rows that the champion learned are left out" in done.out + done.err
    run = store.step("promote")
    assert run.data.metrics["test/champion_overlap_removed_rows"] == shared
    assert run.data.metrics["test/rows"] == len(test), "the version itself is measured on all that it set aside"


def test_a_later_file_keeps_most_of_what_was_set_aside(command, store, file) -> None:
    """So a champion and the next version, trained on a file that grew, are compared on rows that neither learned."""
    records = []
    for number, frame in enumerate((rows_of(200), rows_of(300))):
        trained(command, file(frame, f"{number}.parquet"))
        records.append(pd.read_parquet(store.file(store.step("train"), "split.parquet")))
    before, after = (set(record["text_hash"][record["split"] == TEST]) for record in records)
    learned = set(records[0]["text_hash"][records[0]["learned"]])
    assert len(after & learned) < 0.1 * len(after)
    assert len(after & before) > 0.8 * len(before)


@pytest.mark.long
def test_a_run_without_a_record_says_what_to_do(command, store, file) -> None:
    path = file(rows_of(200))
    trained(command, path)
    without_record(store)
    done = command("evaluate")
    assert done.code == 1
    assert "kept no record of its split" in done.err
    assert "train again, or give labelled rows that it has not seen with --test-data FILE" in done.err
    assert "Traceback" not in done.err
    other = file(rows_of(40, 1000), "other.parquet")
    done = command("evaluate", "--test-data", other)
    assert done.code == 0, done.err
    assert "warning    Rows that the model learned may be among them" in done.out
    for more in ((), ("--test-data", other)):
        refused = command("promote", *GATES, *more)
        assert refused.code == 1
        assert "kept no record of its split" in refused.err
    forced = command("promote", *GATES, "--force", "true", "--reason", "of before the record")
    assert forced.code == 0, forced.err
    trained(command, path)
    done = command("promote", *COMPARED)
    assert "the champion's run kept no record of its split: rows that it learned may make it look better" in (
        done.out + done.err
    )


def test_an_altered_record_is_refused(command, store, file) -> None:
    trained(command, file(rows_of(200)))
    path = Path(store.step("train").info.artifact_uri.removeprefix("file://")) / "split.parquet"
    frame = pd.read_parquet(path)
    frame.assign(split=frame["split"].cat.rename_categories({TRAIN: TEST, TEST: TRAIN})).to_parquet(path, index=False)
    done = command("evaluate")
    assert done.code == 1
    assert "the record of the split is damaged or was altered" in done.err


def test_a_file_with_other_groups_is_another_file(command, store, file) -> None:
    """By other groups, rows that were learned would count as set aside."""
    frame = rows_of(200)
    path = file(frame)
    trained(command, path, "--set", "data.group_column=customer")
    file(frame.assign(customer=frame["customer"].iloc[::-1].tolist()))
    done = command("evaluate", "--data", path)
    assert done.code == 1
    assert "its rows differ" in done.err


def test_a_file_with_other_vectors_is_another_file(command, store, file) -> None:
    frame = rows_of(200)
    path = file(frame)
    trained(command, path)
    file(frame.assign(embeddings=frame["embeddings"].iloc[::-1].tolist()))
    done = command("evaluate", "--data", path)
    assert done.code == 1
    assert "the vectors in this file are not those that" in done.err


def test_main_measures_the_rows_that_it_trained_on_whatever_becomes_of_the_file(
    command, store, file, monkeypatch
) -> None:
    path, assign = file(rows_of(200)), train.assign

    def replaced(*arguments: object) -> splitting.Split:
        file(rows_of(200, 500))
        return assign(*arguments)

    monkeypatch.setattr(train, "assign", replaced)
    done = command("main", "--data", path, *FIXED, *GATES, "--promote", "auto")
    assert done.code == 0, done.err
    assert ids_of(store) <= set(rows_of(200)["case_id"])
    assert store.client.get_model_version_by_alias(NAME, "champion").version == 1


@pytest.mark.long
def test_a_file_that_is_replaced_before_training_changes_nothing_that_main_does(
    command, store, file, monkeypatch
) -> None:
    path, run = file(rows_of(200)), embed.run

    def replaced(*arguments: object, **named: bool) -> embed.EmbedOutcome:
        outcome = run(*arguments, **named)
        file(rows_of(200, 500))
        return outcome

    monkeypatch.setattr(embed, "run", replaced)
    done = command("main", "--data", path, *FIXED)
    assert done.code == 0, done.err
    assert ids_of(store) <= set(rows_of(200)["case_id"])
    digests = {store.step(name).data.tags["pcc.data_digest"] for name in ("embed", "train", "pipeline")}
    assert len(digests) == 1


@pytest.mark.long
def test_an_object_that_is_replaced_while_main_runs_leaves_a_version_that_can_be_evaluated(
    command, store, file, bucket: str, monkeypatch
) -> None:
    path, run = Path(file(rows_of(200))), embed.run
    open_store(bucket).upload(path, path.name)

    def replaced(*arguments: object, **named: bool) -> embed.EmbedOutcome:
        outcome = run(*arguments, **named)
        open_store(bucket).upload(Path(file(rows_of(200, 500))), path.name)
        return outcome

    monkeypatch.setattr(embed, "run", replaced)
    done = command("main", "--data", f"{bucket}/{path.name}", *FIXED)
    assert done.code == 0, done.err
    assert ids_of(store) <= set(rows_of(200)["case_id"])
    digests = {store.step(name).data.tags["pcc.data_digest"] for name in ("embed", "train", "pipeline")}
    assert len(digests) == 1
    done = command("evaluate", "--model", f"models:/{NAME}/1")
    assert (done.code, "this is not the file that" in done.err) == (1, True)
    (embedded,) = (store.folder / "outputs" / "embedded").glob("*.parquet")
    done = command("evaluate", "--model", f"models:/{NAME}/1", "--data", str(embedded))
    assert done.code == 0, done.err


def test_rows_without_a_group_are_told_where_the_version_is(command, store, file) -> None:
    frame = rows_of(200)
    frame.loc[[3, 5, 7], "customer"] = None
    path = file(frame)
    grouped = ("--set", "data.group_column=customer")
    done = command("train", "--data", path, *FIXED, *grouped)
    assert done.code == 0, done.err
    assert "3 of 200 rows rejected: 3 x customer: missing (first in row 3)" in done.out
    done = command("evaluate", "--test-data", path)
    assert "3 of 200 rows rejected: 3 x customer: missing (first in row 3)" in done.out


def test_a_column_of_different_labels_is_told_as_such(command, store, file) -> None:
    done = command("train", "--data", file(rows_of(40).assign(ticket=range(40))), *FIXED, "--label", "ticket")
    assert done.code == 1
    assert "each of the 40 rows has a label of its own" in done.err
    assert "--label " in done.err


def test_a_stable_split_keeps_the_sides_of_a_file_that_grew_and_names_what_it_cannot_learn(
    command, store, file
) -> None:
    stable, sides = ("--set", "data.split=stable"), []
    for n_rows in (200, 320):
        frame = rows_of(n_rows)
        path = file(frame, f"cases_{n_rows}.parquet")
        trained(command, path, *stable)
        sides.append(pd.read_parquet(store.file(store.step("train"), "split.parquet"))["split"].astype(str).tolist())
    assert sides[1][:200] == sides[0]
    assert "left_out" not in sides[1]
    tested = sides[1].index(TEST)
    frame.loc[tested, "intent"] = "rare"
    done = command("train", "--data", file(frame), *FIXED, *stable)
    assert done.code == 0, done.err
    assert "Classes with test rows alone, which the model cannot learn: 1 (rare)." in done.out
    # With a test file of their own, rows are validated on as before.
    trained(command, path, *stable, "--test-data", file(rows_of(40, 1000), "later.parquet"))
    with_file = pd.read_parquet(store.file(store.step("train"), "split.parquet"))["split"].astype(str).tolist()
    assert [side == VALIDATION for side in with_file] == [side == VALIDATION for side in sides[1]]
    assert TEST not in with_file
    # What changed from one of these versions to the next is their number; a label that none learns changes no answer.
    versions = {one.version: one for one in store.client.search_model_versions(f"name='{NAME}'")}
    numbers = [versions[number].tags["pcc.semver"] for number in sorted(versions)]
    assert numbers == ["1.0.0", "1.0.1", "1.1.0", "1.2.0"]
    last = store.step("train")
    assert json.loads(store.file(last, "metadata.json").read_text(encoding="utf-8"))["semver"] == "1.2.0"
    assert last.data.tags["pcc.follows"] == versions[3].tags["pcc.version"]
    assert "1.2.0: minor, since 1.1.0" in versions[4].description
    assert "1.2.0 #4 @challenger" in command("manage_models", "summary").out
