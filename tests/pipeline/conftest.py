"""Whole steps as a user starts them: entry points in this process or in one of their own, each with its own MLflow."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pcc_pipeline.command_line import pcc
from pcc_pipeline.data.sample.messages import sample
from tests import process_state

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said; `err` holds its log as well."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Store:
    """What lies in one MLflow store after commands ran."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri)

    def runs(self) -> list[Run]:
        """All runs of all experiments, oldest first."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, max_results=1000, order_by=["attributes.start_time ASC"]))

    def step(self, name: str) -> Run:
        """The newest run of a step."""
        return [run for run in self.runs() if run.data.tags.get("pcc.step") == name][-1]

    def children(self, parent: Run) -> list[Run]:
        found = [run for run in self.runs() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        return sorted(found, key=lambda run: (run.info.start_time, run.info.run_name))

    def files(self, run: Run) -> set[str]:
        """Names of a run's artifacts, with their folders."""
        found: set[str] = set()
        folders: list[str | None] = [None]
        while folders:
            for entry in self.client.list_artifacts(run.info.run_id, folders.pop()):
                if entry.is_dir:
                    folders.append(entry.path)
                else:
                    found.add(entry.path)
        return found

    def file(self, run: Run, name: str) -> Path:
        """A run's artifact on this machine."""
        return Path(
            mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name, tracking_uri=self.uri)
        )


Command = Callable[..., Done]


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[Store]:
    """`folder` as working folder and place of the MLflow store; all that MLflow and an entry point set is undone."""
    place = Path.cwd()
    with process_state.entry_point_undone():
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PCC_"))]:
            del os.environ[name]
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        os.chdir(folder)
        try:
            with process_state.mlflow_undone():
                mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
                yield Store(folder)
        finally:
            os.chdir(place)


def said(folder: Path, *words: str) -> Done:
    """`pcc WORDS` in a folder with an MLflow of its own."""
    out, err = io.StringIO(), io.StringIO()
    with _inside(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = pcc.main([*words])
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def entrypoints() -> Iterator[None]:
    """The scripts' folder on the module path, as Python puts it there for a script."""
    sys.path.insert(0, str(REPOSITORY / "entrypoints"))
    yield
    sys.path.remove(str(REPOSITORY / "entrypoints"))


@pytest.fixture(scope="session")
def embedding_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, so that a text is encoded once in a session."""
    return tmp_path_factory.mktemp("embedding-cache")


@pytest.fixture(scope="session")
def new_store(empty_mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Store]:
    """A folder with an MLflow database without runs."""

    def make(name: str) -> Store:
        folder = tmp_path_factory.mktemp(name)
        shutil.copyfile(empty_mlflow_database, folder / "mlflow.db")
        return Store(folder)

    return make


@pytest.fixture(scope="session")
def in_process(entrypoints: None, embedding_cache: Path) -> Callable[[Path, str, Sequence[str]], int]:
    """Run an entry point's own code in this process, in a folder that holds its MLflow; returns the exit code."""

    def call(folder: Path, entry: str, arguments: Sequence[str]) -> int:
        given = [*arguments]
        if "--params-file" not in given:
            given += ["--params-file", str(REPOSITORY / "params.yaml")]
        if entry != "manage_models" and not any("preprocessing.cache_dir" in argument for argument in given):
            given += ["--set", f"preprocessing.cache_dir={embedding_cache}"]
        with _inside(folder):
            return int(importlib.import_module(entry).main(given))

    return call


@pytest.fixture
def store(new_store: Callable[[str], Store]) -> Store:
    """This test's own MLflow, in a folder of its own."""
    return new_store("store")


def moved(database: Path, before: str, now: str) -> None:
    """Tell an MLflow database that its artifacts lie in another folder, as somebody does who moves a store."""
    places = {
        "runs": "artifact_uri",
        "experiments": "artifact_location",
        "logged_models": "artifact_location",
        "model_versions": "storage_location",
    }
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in places.items():
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, now))


@pytest.fixture(scope="session")
def move_store() -> Callable[[Path, str, str], None]:
    return moved


@pytest.fixture(scope="session")
def trained_stores(
    new_store: Callable[[str], Store], in_process: Callable[[Path, str, Sequence[str]], int]
) -> tuple[Store, Store]:
    """Stores in which the sample was trained once, and once more with a weaker model."""
    one = new_store("one-version")
    assert in_process(one.folder, "main", ["--search-method", "none"]) == 0
    two = new_store("two-versions")
    _copy(one, two)
    assert in_process(two.folder, "main", ["--search-method", "none", "--set", "model.hyperparameters.C=0.001"]) == 0
    return one, two


def _copy(source: Store, target: Store) -> None:
    shutil.copytree(source.folder, target.folder, dirs_exist_ok=True)
    moved(target.folder / "mlflow.db", str(source.folder), str(target.folder))


@pytest.fixture
def one_version(trained_stores: tuple[Store, Store], store: Store) -> Store:
    """This test's store, in which the sample was trained: version 1, the challenger."""
    _copy(trained_stores[0], store)
    return store


@pytest.fixture
def two_versions(trained_stores: tuple[Store, Store], store: Store) -> Store:
    """This test's store, in which the sample was trained twice: version 2, the challenger, is the weaker one."""
    _copy(trained_stores[1], store)
    return store


@pytest.fixture
def command(
    in_process: Callable[[Path, str, Sequence[str]], int],
    store: Store,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Command:
    """`command("train", "--data", "cases.csv")` in this test's folder, or in that of another `store`."""

    def call(entry: str, *arguments: str, store: Store = store) -> Done:
        capfd.readouterr()
        caplog.clear()
        code = in_process(store.folder, entry, arguments)
        said = capfd.readouterr()
        return Done(code, said.out, said.err + caplog.text)

    return call


def _with_vectors(frame: pd.DataFrame, label: str = "intent", width: int = 384) -> pd.DataFrame:
    """`frame` with vectors that tell the labels apart, not too well: no encoder is needed for what is not about it."""
    rows = []
    for text, name in zip(frame["text"], frame[label], strict=True):
        of_label = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)).normal(size=width)
        of_text = np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)).normal(size=width)
        vector = of_label + 4 * of_text
        rows.append((vector / np.linalg.norm(vector)).astype(np.float32).tolist())
    return frame.assign(embeddings=rows)


@pytest.fixture(scope="session")
def with_vectors() -> Callable[..., pd.DataFrame]:
    return _with_vectors


@pytest.fixture(scope="session")
def small_frame() -> pd.DataFrame:
    """240 rows of the sample with vectors of their own."""
    return _with_vectors(sample(240))


@pytest.fixture(scope="session")
def small_file(small_frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "small.parquet"
    small_frame.to_parquet(path, index=False)
    return path


@pytest.fixture(scope="session")
def traced(
    new_store: Callable[[str], Store],
    in_process: Callable[[Path, str, Sequence[str]], int],
    with_vectors: Callable[..., pd.DataFrame],
) -> Store:
    """A version whose 240 rows are of 40 customers, trained, evaluated and used on a file of two of them."""
    store = new_store("lineage")
    rows = with_vectors(sample(240)).reset_index(drop=True)
    rows["case_id"] = [f"case-{place}" for place in range(240)]
    rows["customer"] = [f"customer-{place % 40}" for place in range(240)]
    rows.to_parquet(store.folder / "cases.parquet", index=False)
    rows[:2].drop(columns="intent").to_parquet(store.folder / "today.parquet", index=False)
    (store.folder / "params.yaml").write_text(
        "data: {subject_column: customer}\nlineage: {key_file: lineage.key}\nregistry: {publish: {target: published}}\n"
    )
    with process_state.entry_point_undone():
        from pcc_pipeline.command_line import pcc

        place = Path.cwd()
        try:
            os.chdir(store.folder)
            assert pcc.main(["lineage", "key"]) == 0
        finally:
            os.chdir(place)
    given = ["--params-file", str(store.folder / "params.yaml")]
    trained = [*given, "--data", "cases.parquet", "--search-method", "none", "--promote", "auto", "--set"]
    assert in_process(store.folder, "main", [*trained, "registry.gates=[]"]) == 0
    assert in_process(store.folder, "score", [*given, "--data", "today.parquet"]) == 0
    return store


@pytest.fixture
def traced_copy(traced: Store, store: Store) -> Store:
    """This test's own copy of it."""
    _copy(traced, store)
    return store


@pytest.fixture(scope="session")
def outside(embedding_cache: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a user's shell would, with the virtual environment first on PATH."""

    def start(folder: Path, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PCC_"))}
        kept |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "PCC_PREPROCESSING__CACHE_DIR": str(embedding_cache),
        }
        return subprocess.Popen(
            command,
            cwd=cwd or folder,
            env=kept | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.fixture
def start_dask(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start one of Dask's programs, such as `scheduler`, as a process of its own; those of a test find one another."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        # A worker of which nothing was heard for so long is taken for gone; Dask's own is five minutes.
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
    }

    def start(*words: str) -> subprocess.Popen[bytes]:
        program = str(Path(sys.executable).with_name("dask"))
        command = [program, *words, "--scheduler-file", str(tmp_path / "scheduler.json"), "--no-dashboard"]
        silent = subprocess.DEVNULL
        started.append(subprocess.Popen(command, env=environment, stdout=silent, stderr=silent, cwd=tmp_path))
        return started[-1]

    yield start
    for process in reversed(started):
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            child.kill()
        process.kill()
        process.wait(timeout=20)


@pytest.fixture
def start_dask_worker(start_dask: Callable[..., subprocess.Popen[bytes]]) -> Callable[[], subprocess.Popen[bytes]]:
    return lambda: start_dask("worker", "--nthreads", "1", "--death-timeout", "60")


@pytest.fixture
def cluster(
    tmp_path: Path,
    start_dask: Callable[..., subprocess.Popen[bytes]],
    start_dask_worker: Callable[[], subprocess.Popen[bytes]],
) -> tuple[str, subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]:
    """A scheduler of Dask and two workers: address, scheduler, workers."""
    scheduler = start_dask("scheduler", "--port", "0")
    workers = [start_dask_worker() for _ in range(2)]
    known, end = tmp_path / "scheduler.json", time.monotonic() + 60
    while not known.exists() or not known.read_text().strip():
        assert time.monotonic() < end
        time.sleep(0.1)
    address = json.loads(known.read_text())["address"]
    # A search asks once how many there are.
    distributed = importlib.import_module("distributed")  # an extra: not for tests that start no cluster
    with distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=60)
    return address, scheduler, workers
