"""`monitor` of several files: whoever looks at them, it says the same."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.data.vector_origin import signed
from pcc_pipeline.search.pools import dask_cluster
from pcc_pipeline.steps.inputs.chosen_model import chosen_model
from pcc_pipeline.steps.parameters import resolve
from pcc_pipeline.steps.parts.surroundings import Surroundings
from pcc_pipeline.steps.watching.watched_file import WatchTask
from pcc_pipeline.tracking.registry.reference_profiles import read_profile
from tests import process_state
from tests.pipeline.conftest import Store

pytestmark = pytest.mark.pipeline

MODEL = "pcc-intent-classifier"
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")
DAY = 60
IN_WORKERS = ("--workers", "2")
BY_DASK = (*IN_WORKERS, "--set", "compute.engine=dask")


@pytest.fixture(scope="module")
def watched(new_store, in_process, with_vectors) -> Store:
    """A store with a champion, and a folder of a file a day: most things that files can lack, one lacks."""
    store = new_store("watched")
    rows = with_vectors(sample(700)).sample(frac=1, random_state=0).reset_index(drop=True)
    rows["case_id"] = [f"case-{place}" for place in range(len(rows))]
    rows["timestamp"] = pd.date_range("2026-10-05", periods=len(rows), freq="h", tz="UTC")
    rows[:400].to_parquet(store.folder / "learned.parquet", index=False)
    assert in_process(store.folder, "train", ["--data", str(store.folder / "learned.parquet"), *FIXED]) == 0
    assert in_process(store.folder, "evaluate", []) == 0
    store.client.set_registered_model_alias(MODEL, "champion", "1")
    (store.folder / "days").mkdir()
    days = [rows[400 + DAY * day :][:DAY].reset_index(drop=True) for day in range(5)]
    days[0] = days[0].drop(columns="intent")
    days[1].loc[7, "case_id"] = days[0].loc[3, "case_id"]  # that stood in a file before
    days[1].loc[9, "text"] = " "
    days[2] = days[2].drop(columns="timestamp")
    days[3] = days[3].drop(columns="case_id")
    days[4] = pd.concat([days[3], days[4].drop(columns="case_id")[:5]])  # rows without case ids that stood before
    for number, day in enumerate(days):
        day.to_parquet(store.folder / f"days/day_{number}.parquet", index=False)
    assert in_process(store.folder, "monitor", ["--data", "days/", "--windows", "week"]) == 0  # alerts are told once
    return store


def _look(
    command, store: Store, *words: str
) -> tuple[dict[str, float], list[tuple[str, str]], pd.DataFrame, list[str]]:
    """What one says: metrics, inputs with their digests, the novel rows, and the lines of the summary."""
    done = command("monitor", "--data", "days/", "--windows", "week", *words, store=store)
    assert done.code == 0, done.err
    run = store.step("monitor")
    summary = done.out.split("next  ")[0].splitlines()
    metrics = {name: value for name, value in run.data.metrics.items() if "days_old" not in name}
    inputs = [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs]
    return metrics, sorted(inputs), pd.read_parquet(store.folder / "outputs/novel_rows.parquet"), summary


@pytest.mark.long
@pytest.mark.parametrize("words", [IN_WORKERS, BY_DASK], ids=["two workers", "Dask"])
def test_workers_see_what_this_process_sees(command, watched, words) -> None:
    metrics, inputs, novel, lines = _look(command, watched)
    assert len(inputs) == 5
    # One row breaks the contract, one case stood in a file before; rows without case ids may be alike.
    assert metrics["quality/rows"] == 5 * DAY + 5 - 2
    assert len(novel) > 3
    assert any("of the 303 rows" in line for line in lines)
    there = _look(command, watched, *words)
    assert (there[0], there[1]) == (metrics, inputs)
    assert there[3] == lines
    pd.testing.assert_frame_equal(there[2], novel)


@pytest.mark.parametrize("words", [(), IN_WORKERS], ids=["this process", "two workers"])
def test_a_file_that_cannot_be_used_is_named(command, watched, words) -> None:
    (watched.folder / "bad").mkdir(exist_ok=True)
    good = pd.read_parquet(watched.folder / "days/day_1.parquet")
    good.to_parquet(watched.folder / "bad/a.parquet", index=False)
    (watched.folder / "bad/b.parquet").write_bytes((watched.folder / "bad/a.parquet").read_bytes()[:-100])
    done = command("monitor", "--data", "bad/", *words, store=watched)
    assert (done.code, "bad/b.parquet" in done.err, "Traceback" in done.err) == (1, True, False), done.err


@pytest.mark.long
def test_predictions_are_read_by_workers_too_and_are_not_mixed_with_messages(command, watched) -> None:
    done = command("score", "--data", "days/day_1.parquet", "--output", "scored/one.parquet", store=watched)
    assert done.code == 0, done.err
    for name in ("two", "three"):
        scores = pd.read_parquet(watched.folder / "scored/one.parquet")
        scores.assign(case_id=name + scores["case_id"]).to_parquet(watched.folder / f"scored/{name}.parquet")
    done = command("monitor", "--data", "scored/", *IN_WORKERS, store=watched)
    assert done.code == 0, done.err
    assert watched.step("monitor").data.metrics["quality/rows"] == 3 * (DAY - 1)
    done = command("monitor", "--data", '["days/day_1.parquet", "scored/one.parquet"]', *IN_WORKERS, store=watched)
    assert (done.code, "and others predictions without texts" in done.err) == (1, True), done.err


@pytest.mark.parametrize("words", [(), pytest.param(IN_WORKERS, marks=pytest.mark.long)], ids=["here", "two workers"])
def test_a_file_without_rows_is_told_of_among_messages_and_among_predictions(command, watched, words) -> None:
    day = pd.read_parquet(watched.folder / "days/day_2.parquet")
    folder = watched.folder / f"quiet_days_{len(words)}"
    folder.mkdir()
    day.to_parquet(folder / "saturday.parquet", index=False)
    day[:0].to_parquet(folder / "sunday.parquet", index=False)
    done = command("monitor", "--data", f"{folder.name}/", *words, store=watched)
    assert done.code == 0, done.err
    assert f"warning    {folder.name}/sunday.parquet: it has columns and no rows" in done.out
    assert len(watched.step("monitor").inputs.dataset_inputs) == 2
    done = command("score", "--data", f"{folder.name}/", "--output", f"{folder.name}_scored/", store=watched)
    assert done.code == 0, done.err
    done = command("monitor", "--data", f"{folder.name}_scored/", *words, store=watched)
    assert done.code == 0, done.err
    assert watched.step("monitor").data.metrics["quality/rows"] == len(day)
    (folder / "saturday.parquet").unlink()
    done = command("monitor", "--data", f"{folder.name}/sunday.parquet", *words, store=watched)
    assert (done.code, "columns and no rows" in done.err) == (1, True), done.err


@pytest.mark.parametrize("words", [(), pytest.param(IN_WORKERS, marks=pytest.mark.long)], ids=["here", "two workers"])
def test_vectors_of_another_encoder_are_told_with_their_file(command, watched, words) -> None:
    (watched.folder / "foreign").mkdir(exist_ok=True)
    good = pq.read_table(watched.folder / "days/day_1.parquet")
    for name, digest in (("a", None), ("b", "0" * 64)):
        table = pa.Table.from_arrays(good.columns, schema=signed(good.schema, digest))
        pq.write_table(table, watched.folder / f"foreign/{name}.parquet")
    done = command("monitor", "--data", "foreign/", *words, store=watched)
    assert (done.code, "foreign/b.parquet, embeddings" in done.err) == (1, True), done.err


@pytest.mark.long
def test_workers_that_are_configured_for_it_do_not_stop_the_training_before_it(command, watched) -> None:
    """As in `pcc auto`, whose training and look share one configuration."""
    settings = ("--set", "compute.workers=2")
    done = command("main", "--data", "learned.parquet", *FIXED, *settings, store=watched)
    assert done.code == 0, done.err
    done = command("main", "--data", "learned.parquet", *FIXED, "--set", "compute.shard=1/2", store=watched)
    assert (done.code, "compute.shard is for a data set in parts" in done.err) == (1, True), done.err


@pytest.mark.long
@pytest.mark.long
def test_a_worker_of_several_threads_looks_at_one_file_at_a_time(command, watched, start_dask, tmp_path) -> None:
    start_dask("scheduler", "--port", "0")
    start_dask("worker", "--nworkers", "1", "--nthreads", "3", "--death-timeout", "60")
    known, end = tmp_path / "scheduler.json", time.monotonic() + 60
    while not known.exists() or not known.read_text().strip():
        assert time.monotonic() < end
        time.sleep(0.1)
    settings = ("--set", f"compute.engine=dask compute.address={json.loads(known.read_text())['address']}")
    (watched.folder / "texts").mkdir()
    for day in range(5):
        rows = pd.read_parquet(watched.folder / f"days/day_{day}.parquet").drop(columns="embeddings")
        rows.to_csv(watched.folder / f"texts/day_{day}.csv", index=False)
    for address in ("texts/", "texts/day_*.csv"):  # what one run left open, the next one closes
        done = command("monitor", "--data", address, *settings, store=watched)
        assert done.code == 0, done.err


def test_predictions_of_several_kinds_of_file_are_one_set(command, watched) -> None:
    done = command("score", "--data", "days/day_4.parquet", "--output", "kinds/a.parquet", store=watched)
    assert done.code == 0, done.err
    folder = watched.folder / "kinds"
    scores = pd.read_parquet(folder / "a.parquet")
    written = [str(time) for time in scores["inference_timestamp"]]
    written[1] = written[1].partition(".")[0] + "+00:00"  # as it is written in the one second of a million
    confidence = [str(value) for value in scores["confidence"]]
    confidence[2] = "high"
    scores.assign(inference_timestamp=written, confidence=confidence).to_csv(folder / "b.csv", index=False)
    texts = scores.assign(inference_timestamp=1795819809861, ingestion_time=None)  # milliseconds, as pandas has them
    texts.to_json(folder / "c.jsonl", orient="records", lines=True)
    proba = {f"probability/{label}": 0.25 for label in scores["predicted_label"].unique()}
    scores.assign(**proba).to_parquet(folder / "d.parquet")
    done = command("monitor", "--data", "kinds/", store=watched)
    assert done.code == 0, done.err
    metrics = watched.step("monitor").data.metrics
    assert (metrics["quality/rows"], metrics["quality/rejected_share"]) == (4 * len(scores) - 1, 1 / (4 * len(scores)))
    scores.drop(columns="confidence").to_parquet(folder / "e.parquet")
    done = command("monitor", "--data", "kinds/", store=watched)
    assert (done.code, "has no column confidence" in done.err, "kinds/e.parquet" in done.err) == (1, True, True)


def test_a_share_and_a_cluster_that_is_not_there_are_refused_before_anything_slow(
    command, watched, monkeypatch
) -> None:
    done = command("monitor", "--data", "days/", "--set", "compute.shard=1/2", store=watched)
    assert (done.code, "messages are judged over all files" in done.err) == (1, True), done.err
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1)
    settings = "compute.engine=dask compute.address=tcp://127.0.0.1:1"
    done = command("monitor", "--data", "days/", "--set", settings, store=watched)
    assert (done.code, "no scheduler of Dask answers" in done.err) == (1, True), done.err
    assert "watching" not in done.err


@pytest.mark.parametrize("bad", [0, 1], ids=["empty", "all bad"])
def test_where_no_row_is_good_it_says_why(command, watched, bad) -> None:
    (watched.folder / "none").mkdir(exist_ok=True)
    rows = pd.read_parquet(watched.folder / "days/day_1.parquet")[: 3 * bad].assign(text=" ")
    for name in ("a", "b"):
        rows.to_csv(watched.folder / f"none/{name}.csv", index=False)
    done = command("monitor", "--data", "none/", store=watched)
    assert (done.code, "Traceback" in done.err) == (1, False), done.err
    assert ("blank" if bad else "no rows") in done.err


def test_rows_are_seen_in_the_space_of_the_profile_that_judges_them_whatever_a_worker_holds(
    watched, monkeypatch
) -> None:
    """A worker of Dask outlives a run, and an `evaluate` may leave the version another profile while one goes on."""
    monkeypatch.chdir(watched.folder)
    with process_state.mlflow_undone():
        mlflow.set_tracking_uri(watched.uri)
        params = resolve(None, {"data": "days/day_1.parquet"}, [], {})
        loaded = chosen_model(params, None)
        space = read_profile(loaded.source).space
        task = WatchTask(params, loaded.model_uri, space, Surroundings.here(params))
        other = replace(task, space=replace(space, basis=-space.basis))
        try:
            first, second = (pickle.loads(pickle.dumps(each))("days/day_1.parquet") for each in (task, other))
        finally:
            task.let_go()
    np.testing.assert_allclose(second.signals.components, -first.signals.components, rtol=1e-5)
    np.testing.assert_array_equal(second.signals.probabilities, first.signals.probabilities)
