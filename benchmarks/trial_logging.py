"""What logging costs a search of 100 trials: processor seconds of the whole, and of the workers that score the trials.

Once on SQLite, once on an MLflow server on this machine. "Ours" is the workers', this process's and the server's
seconds while trials are searched and logged, "peer" the workers' alone. Processor time and not the clock's: with all
cores busy both have the same share, and the clock of a shared machine is not good for one part in twenty.

Logging costs the same however long a trial takes, so its share falls with the rows:
`python -m benchmarks.trial_logging --rows 10000`.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.comparison import Comparison
from benchmarks.random_search import balancing
from benchmarks.real_data import Messages, messages
from pcc_pipeline.config.schema import PreprocessingParams
from pcc_pipeline.data.splits import cross_validation_folds, group_ids
from pcc_pipeline.evaluation.metrics import objective, scores
from pcc_pipeline.model.families import complete
from pcc_pipeline.model.fitting import Recipe, Rows
from pcc_pipeline.model.folds import FoldObjective, prepare_fold
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.plan import Scoring
from pcc_pipeline.search.pools.workers import WorkerPool
from pcc_pipeline.search.searchers import RandomSearcher
from pcc_pipeline.search.spaces import space_of
from pcc_pipeline.search.trials import Trial
from pcc_pipeline.solvers.logistic import solver_of

_FAMILY = "LogisticRegression"
_TRIALS, _FOLDS, _ROWS = 100, 5, 2_000
# As the entry points set it: otherwise MLflow's client asks for each run again, to print its address.
_QUIET = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"


def comparisons(n_rows: int = _ROWS) -> Iterator[Comparison]:
    """A part of pcc_bitext, if it is there."""
    rows = messages("pcc_bitext", n_rows)
    if rows is None:
        print("logging of trials: skipped, pcc_bitext is not beside the checkout", file=sys.stderr)
        return
    os.environ[_QUIET] = "true"
    for place, store in (("SQLite", _database), ("local server", _server)):
        title = f"{_TRIALS} trials logged, {place}, {len(rows.texts):,} rows"
        yield Comparison(title, partial(_pair, rows, store), 0.95, most_runs=1)


def _pair(
    rows: Messages, store: Callable[[Path], AbstractContextManager[tuple[str, list[psutil.Process]]]]
) -> tuple[float, float, str]:
    import mlflow

    from pcc_pipeline.tracking.runs import step_run
    from pcc_pipeline.tracking.trial_runs import TrialRuns

    n_classes = np.unique(rows.labels).size

    def solver(values: Mapping[str, Any]) -> str:
        return solver_of(_FAMILY, complete(_FAMILY, values), n_classes)

    with _prepared(rows) as (search, workers), tempfile.TemporaryDirectory() as name, store(Path(name)) as place:
        address, server = place
        mlflow.set_tracking_uri(address)
        mlflow.set_experiment("logging")  # otherwise the last store's number is taken for this one's
        with step_run("train") as run:
            loggers, scorers = [psutil.Process(), *server], [psutil.Process(pid) for pid in workers]
            begun = _seconds(loggers), _seconds(scorers), time.perf_counter()
            with TrialRuns(run, "f1_macro", solver) as logged:
                search(logged.log)
            logging, scoring = _seconds(loggers) - begun[0], _seconds(scorers) - begun[1]
            wall = time.perf_counter() - begun[2]
    check = f"logging adds {100 * logging / scoring:.1f} %, {1000 * logging / _TRIALS:.0f} ms a trial; {wall:.1f} s"
    return scoring + logging, scoring, check


def _seconds(processes: list[psutil.Process]) -> float:
    """Processor seconds so far."""
    return float(sum(times.user + times.system for times in (process.cpu_times() for process in processes)))


@contextmanager
def _prepared(rows: Messages) -> Iterator[tuple[Callable[[Callable[[Trial], None]], None], list[int]]]:
    """A search whose folds are prepared, given what to do with each trial, and its workers' process numbers."""
    classes = np.unique(rows.labels)
    encoded = Rows(rows.texts, rows.vectors, np.searchsorted(classes, rows.labels))
    recipe = Recipe(_FAMILY, balancing(rows), PreprocessingParams().lexical, 42)
    folds = cross_validation_folds(rows.labels, group_ids(rows.texts), _FOLDS, True, 42)
    before = {process.pid for process in psutil.Process().children()}
    with tempfile.TemporaryDirectory() as name, WorkerPool(2) as pool:
        scored = FoldObjective(Path(name), recipe, len(classes), partial(scores, positive=1))
        with pool.sharing(encoded) as shared:
            pool.run_all(
                prepare_fold,
                [(shared, *fold, recipe, scored.fold_folder(number)) for number, fold in enumerate(folds)],
                "preparing the folds",
            )

        def search(on_trial: Callable[[Trial], None]) -> None:
            searcher = RandomSearcher({}, space_of(_FAMILY, None), _TRIALS, 42)
            scoring = Scoring(scored, _FOLDS, partial(objective, scoring="f1_macro"))
            run_search(searcher, scoring, pool, None, on_trial)

        yield search, [process.pid for process in psutil.Process().children() if process.pid not in before]


@contextmanager
def _database(folder: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    yield f"sqlite:///{folder}/mlflow.db", []


@contextmanager
def _server(folder: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
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
        process = psutil.Process(server.pid)
        yield f"http://127.0.0.1:{port}", [process, *process.children(recursive=True)]
    finally:
        server.terminate()
        server.wait(20)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=_ROWS)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for comparison in comparisons(options.rows):
        for _ in range(options.runs):
            whole, workers, check = comparison.pair()
            print(f"{comparison.title}: {whole:.1f} s of processor, {workers:.1f} s the workers'; {check}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
