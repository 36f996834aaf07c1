"""`mlflow run` as a user types it, and what signals do to a running entry point."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from mlflow.entities import RunStatus
from mlflow.projects.utils import load_project

from pcc_pipeline.data.sample.messages import sample

pytestmark = pytest.mark.pipeline

REPOSITORY = Path(__file__).parents[2]
LINEAR = "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs"


@pytest.fixture
def mlflow_run(store, outside):
    """`mlflow run . --env-manager local` with what is given, its outputs in this test's folder."""

    def call(*arguments: str, entry: str = "main", **environment: str) -> subprocess.CompletedProcess[str]:
        places = {"EMBEDDED_DIR": "embedded", "PREDICTIONS": "predictions.parquet", "METRICS": "metrics.json"}
        places |= {"REJECTED": "rejected.parquet", "STUDIES_DIR": "studies", "LABEL_ISSUES": "issues.parquet"}
        outputs = {f"PCC_OUTPUT__{name}": str(store.folder / "outputs" / place) for name, place in places.items()}
        command = ["mlflow", "run", ".", "--env-manager", "local", "--experiment-name", "by hand", "-e", entry]
        process = outside(store.folder, *command, *arguments, cwd=REPOSITORY, **(outputs | environment))
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return call


def test_mlflow_run_takes_a_file_to_a_registered_model(mlflow_run, store) -> None:
    """In the experiment that the shell names; options by -P, by `set` and by environment, in that order of weight."""
    sample(120).to_csv(store.folder / "cases.csv", index=False)
    options = ["-P", f"data={store.folder}/cases.csv", "-P", "search_method=none", "-P", f"set={LINEAR}"]
    done = mlflow_run(
        *options, PCC_MODEL__SEARCH_METHOD="grid", PCC_DATA__RANDOM_STATE="7", PCC_MODEL__HYPERPARAMETERS__C="3"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "alias challenger" in done.stdout + done.stderr
    (pipeline,) = [run for run in store.runs() if "mlflow.parentRunId" not in run.data.tags]
    assert pipeline.data.tags["pcc.step"] == "pipeline"
    assert [run.info.run_name for run in store.children(pipeline)] == ["embed", "train", "evaluate"]
    assert {run.info.status for run in store.runs()} == {"FINISHED"}
    assert store.client.get_experiment(pipeline.info.experiment_id).name == "by hand"
    assert {experiment.name for experiment in store.client.search_experiments()} == {"Default", "by hand"}
    params = store.step("train").data.params
    assert (params["model.search_method"], params["data.random_state"]) == ("none", "7")
    assert params["model.hyperparameters.C"] == "3"
    assert params["model.hyperparameters.solver"] == "lbfgs"
    assert (store.folder / "outputs/predictions.parquet").is_file()
    version = store.client.get_model_version_by_alias("pcc-intent-classifier", "challenger")
    assert version.run_id == store.step("train").info.run_id
    # MLflow writes its -P options, those left out too, on the run that it opens; ours are dotted, and stand there once.
    options = set(load_project(str(REPOSITORY)).get_entry_point("main").parameters)
    plain = {run.info.run_name: {name for name in run.data.params if "." not in name} for run in store.runs()}
    assert plain == {"pipeline": options, "embed": set(), "train": set(), "evaluate": set()}


def test_a_mistake_fails_the_run_and_says_why(mlflow_run, store) -> None:
    done = mlflow_run("-P", f"data={store.folder}/missing.csv", entry="train")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert re.search(r"error: the data file does not exist.*missing\.csv", said, re.DOTALL), said
    (run,) = store.runs()
    assert run.info.status == "FAILED"
    assert "does not exist" in run.data.tags["pcc.error"]


@pytest.mark.long
def test_a_mistake_in_the_configuration_fails_the_run(mlflow_run, store) -> None:
    done = mlflow_run("-P", "set=model.cv_fold=3", entry="train")
    assert done.returncode != 0
    assert "did you mean cv_folds?" in done.stdout + done.stderr
    (run,) = store.runs()
    assert run.info.status == "FAILED"
    assert "cv_fold" in run.data.tags["pcc.error"]


def test_an_unknown_option_of_mlflow_run_is_refused(mlflow_run, store) -> None:
    done = mlflow_run("-P", "serch_method=none")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "unrecognized arguments: --serch_method (did you mean --search-method?)" in said
    assert "Traceback" not in said.partition("error: ")[0]
    (run,) = store.runs()
    assert run.info.status == "FAILED"


def _workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("entry", "number", "code", "steps"),
    [("train", signal.SIGINT, 130, {"train"}), ("main", signal.SIGTERM, 143, {"pipeline", "train"})],
)
def test_a_signal_amid_the_search_closes_runs_and_workers(store, outside, small_file, entry, number, code, steps):
    """Runs are KILLED and say so, finished trials stay, and no process or half-written file is left."""
    command = ["python", str(REPOSITORY / f"entrypoints/{entry}.py"), "--params-file", str(REPOSITORY / "params.yaml")]
    command += ["--data", str(small_file), "--model-type", "RandomForest", "--n-iter", "500"]
    process = outside(store.folder, *command, "--set", "model.cv_folds=2 search.n_jobs=2")
    deadline = time.monotonic() + 120
    while not [run for run in store.runs() if run.data.tags.get("pcc.step") == "trial"]:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    workers = _workers(process)
    assert len(workers) >= 2
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 20
    assert process.returncode == code, err
    assert "ended from outside" in err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    ended = {run.data.tags["pcc.step"]: run for run in store.runs()}
    assert {step for step, run in ended.items() if run.info.status == "KILLED"} == steps
    for step in steps:
        assert number.name in ended[step].data.tags["pcc.error"]
    assert "RUNNING" not in {run.info.status for run in store.runs()}
    left = {path.name for path in (store.folder / "outputs").rglob("*") if path.is_file()} if entry == "main" else set()
    assert {re.sub("small-[0-9a-f]{8}", "small", name) for name in left} <= {"small.parquet", "rejected.parquet"}
    assert not list(store.folder.rglob(".partial-*"))
    assert not store.client.search_registered_models()


@pytest.mark.long
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_under_mlflow_run_closes_its_runs_and_says_why(store, outside, small_file, times: int) -> None:
    """As a terminal sends it: to all processes of the group, of which mlflow ends its child by a SIGTERM besides."""
    command = ["mlflow", "run", ".", "--env-manager", "local", "-e", "main", "-P", f"data={small_file}"]
    for option in ("model_type=RandomForest", "n_iter=500", "set=model.cv_folds=2 search.n_jobs=2"):
        command += ["-P", option]
    process = outside(store.folder, *command, cwd=REPOSITORY)
    deadline = time.monotonic() + 180
    while not [run for run in store.runs() if run.data.tags.get("pcc.step") == "trial"]:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    members = [process, *_workers(process)]
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0, out + err
    _, alive = psutil.wait_procs(members[1:], timeout=20)
    assert not alive
    runs = {run.data.tags["pcc.step"]: run for run in store.runs()}
    states = {step: run.info.status for step, run in runs.items()}
    # MLflow 3.17 calls the run that it opened FAILED once we have closed it as KILLED: it asks
    # RunStatus.is_terminated for the status by name, which knows numbers alone. docs/operations.md says so.
    assert not RunStatus.is_terminated("KILLED"), "mended: the pipeline's run is KILLED now, and docs can say so"
    assert states["train"] == "KILLED", out + err
    assert states["pipeline"] in ("FAILED", "KILLED"), out + err  # a second Ctrl-C ends MLflow before it calls it so
    assert "ended from outside" in runs["pipeline"].data.tags["pcc.error"]
    assert "RUNNING" not in states.values()
    assert not store.client.search_registered_models()


@pytest.mark.long
def test_sigterm_while_embedding_keeps_finished_work(store, outside, embedding_cache) -> None:
    """Vectors that were made are in the cache, and no embedded file lies under its final name."""
    sample(3000).to_csv(store.folder / "many.csv", index=False)
    command = ["python", str(REPOSITORY / "entrypoints/embed.py"), "--params-file", str(REPOSITORY / "params.yaml")]
    cache = store.folder / "cache"
    process = outside(store.folder, *command, "--data", "many.csv", PCC_PREPROCESSING__CACHE_DIR=str(cache))
    deadline = time.monotonic() + 120
    while not _cached(cache):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert _cached(cache) > 0
    (run,) = store.runs()
    assert run.info.status == "KILLED"
    assert not [path for path in (store.folder / "outputs").rglob("*") if path.is_file()]


def _cached(folder: Path) -> int:
    import contextlib
    import sqlite3

    for path in folder.glob("*.sqlite"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])
    return 0
