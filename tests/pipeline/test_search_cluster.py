"""A search whose candidates are measured by the workers of a cluster of Dask."""

from __future__ import annotations

import time
from collections.abc import Callable

import pandas as pd
import psutil
import pytest

from pcc_pipeline.search.pools import dask_cluster

pytestmark = pytest.mark.pipeline

# Of a trial: what depends on the clock.
_TIMES = ["seconds", "started_at"]
SLOW = ("--model-type", "RandomForest", "--search-method", "random", "--n-iter", "12")


def _trials(store) -> pd.DataFrame:
    table = pd.read_parquet(store.file(store.step("train"), "trials.parquet"))
    return table.drop(columns=[name for name in table.columns if name in _TIMES])


def _done_trials(store) -> int:
    return sum(run.data.tags.get("pcc.step") == "trial" for run in store.runs())


def _once(condition: Callable[[], bool], process) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def _kill(process) -> None:
    for one in (*psutil.Process(process.pid).children(recursive=True), process):
        one.kill()


@pytest.mark.parametrize("method", ["random", pytest.param("optuna", marks=pytest.mark.long)])
def test_a_cluster_measures_what_this_machine_would_to_the_last_digit(
    method, command, store, new_store, small_file, cluster
) -> None:
    address, _, _ = cluster
    words = ["--data", str(small_file), "--search-method", method, "--n-iter", "5", "--set"]
    settings = "model.cv_folds=3 model.feature_selection=mutual_information"
    there = command("train", *words, f"{settings} search.n_jobs=1 compute.engine=dask compute.address={address}")
    assert there.code == 0, there.err
    assert "candidates are measured by Dask, 2 at a time" in there.err
    assert store.step("train").data.params["compute.address"] == address
    beside = new_store("beside")
    here = command("train", *words, f"{settings} search.n_jobs=2", store=beside)
    assert here.code == 0, here.err
    pd.testing.assert_frame_equal(_trials(store), _trials(beside))
    assert store.step("train").data.metrics["cv/f1_macro_mean"] == beside.step("train").data.metrics["cv/f1_macro_mean"]


@pytest.mark.parametrize("entry", ["train", "main"])
def test_a_cluster_that_is_not_there_is_told_before_anything_slow(
    entry, command, store, small_file, monkeypatch
) -> None:
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1)
    settings = "compute.engine=dask compute.address=tcp://127.0.0.1:1"
    done = command(entry, "--data", str(small_file), "--set", settings)
    assert done.code == 1
    assert "no scheduler of Dask answers" in done.err
    assert "encoder runs by" not in done.err


@pytest.mark.long
def test_a_worker_that_dies_is_a_fold_done_again_and_no_failed_trial(outside, store, small_file, cluster) -> None:
    address, _, workers = cluster
    words = ("pcc", "train", "--data", str(small_file), *SLOW, "--set")
    settings = "model.cv_folds=3 search.n_jobs=1"
    process = outside(store.folder, *words, f"{settings} compute.engine=dask compute.address={address}")
    _once(lambda: _done_trials(store) >= 2, process)
    _kill(workers[0])
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    trials = _trials(store)
    assert list(trials["state"]) == ["complete"] * 12
    assert trials["number"].is_unique


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0, 45], ids=["at once", "longer than a scheduler may take to answer"])
def test_a_cluster_whose_workers_all_die_goes_on_with_those_that_come(
    outside, store, small_file, cluster, start_dask_worker, seconds
) -> None:
    """The folds were with them, and are brought there again."""
    address, _, workers = cluster
    words = ("pcc", "train", "--data", str(small_file), *SLOW, "--set")
    settings = f"model.cv_folds=3 search.n_jobs=1 compute.engine=dask compute.address={address}"
    process = outside(store.folder, *words, settings)
    _once(lambda: _done_trials(store) >= 2, process)
    for worker in workers:
        _kill(worker)
    time.sleep(seconds)
    assert process.poll() is None, process.communicate()
    start_dask_worker()
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert not seconds or "has no worker any more" in err
    assert list(_trials(store)["state"]) == ["complete"] * 12


@pytest.mark.long
def test_a_scheduler_that_dies_ends_the_run_with_a_reason(outside, store, small_file, cluster) -> None:
    address, scheduler, _ = cluster
    words = ("pcc", "train", "--data", str(small_file), *SLOW, "--set")
    settings = f"model.cv_folds=3 search.n_jobs=1 compute.engine=dask compute.address={address}"
    process = outside(store.folder, *words, settings)
    _once(lambda: _done_trials(store) >= 2, process)
    _kill(scheduler)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "the scheduler of Dask is gone" in err
    assert "Traceback" not in err
    assert store.step("train").info.status == "FAILED"
