"""What logging costs a search of 100 trials: the same search with every trial written to MLflow, and with none.

Once on SQLite, once on an MLflow server on this machine. "Ours" is with logging, "peer" without.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_data import Messages, messages
from pcc_pipeline.config.schema import PreprocessingParams
from pcc_pipeline.data.splits import cross_validation_folds, group_ids
from pcc_pipeline.evaluation.metrics import objective, scores
from pcc_pipeline.model.fitting import Recipe, Rows
from pcc_pipeline.model.folds import FoldObjective, prepare_fold
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.searchers import RandomSearcher
from pcc_pipeline.search.spaces import space_of
from pcc_pipeline.search.workers import WorkerPool

Pair = Callable[[], tuple[float, float, str]]
_TRIALS, _FOLDS, _ROWS = 100, 5, 3_000


def pairs() -> Iterator[tuple[str, Pair]]:
    """A part of pcc_bitext, if it is there."""
    rows = messages("pcc_bitext", _ROWS)
    if rows is None:
        print("logging of trials: skipped, pcc_bitext is not beside the checkout", file=sys.stderr)
        return
    yield f"{_TRIALS} trials logged, SQLite, {len(rows.texts):,} rows", lambda: _pair(rows, _database)
    yield f"{_TRIALS} trials logged, local server, {len(rows.texts):,} rows", lambda: _pair(rows, _server)


def _pair(rows: Messages, store: Any) -> tuple[float, float, str]:
    import mlflow

    from pcc_pipeline.tracking.runs import step_run
    from pcc_pipeline.tracking.trials import TrialRuns

    with _prepared(rows) as search, tempfile.TemporaryDirectory() as name, store(Path(name)) as address:
        mlflow.set_tracking_uri(address)
        mlflow.set_experiment("logging")  # otherwise the last store's number is taken for this one's
        search(lambda trial: None)  # reads the folds into memory
        without = search(lambda trial: None)
        with step_run("train") as run:
            begun = time.perf_counter()
            with TrialRuns(run, "f1_macro") as logged:
                search(logged.log)
            with_logging = time.perf_counter() - begun
    return with_logging, without, f"logging adds {100 * (with_logging / without - 1):+.1f} %"


@contextmanager
def _prepared(rows: Messages) -> Iterator[Callable[[Any], float]]:
    """Seconds of a search whose folds are prepared, given what to do with each trial."""
    classes = np.unique(rows.labels)
    encoded = Rows(rows.texts, rows.vectors, np.searchsorted(classes, rows.labels))
    options = PreprocessingParams()
    recipe = Recipe(
        "LogisticRegression", "none", {**options.tfidf.model_dump(), "components": options.svd_components}, 42
    )
    folds = cross_validation_folds(rows.labels, group_ids(rows.texts), _FOLDS, True, 42)
    with tempfile.TemporaryDirectory() as name, WorkerPool(2) as pool:
        scored = FoldObjective(Path(name), recipe, len(classes), partial(scores, positive=1))
        pool.run_all(
            prepare_fold, [(encoded, *sides, recipe, scored.fold_folder(number)) for number, sides in enumerate(folds)]
        )

        def search(on_trial: Any) -> float:
            searcher = RandomSearcher({}, space_of("LogisticRegression", None), _TRIALS, 42)
            begun = time.perf_counter()
            run_search(searcher, scored, _FOLDS, partial(objective, scoring="f1_macro"), pool, None, on_trial)
            return time.perf_counter() - begun

        yield search


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/mlflow.db"


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _answers(port):
            assert server.poll() is None, "the server ended"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
