"""A search's trials as nested runs, written by the process that owns the search and by nobody else."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from pcc_pipeline.model.selection import CHOICE
from pcc_pipeline.search.shared_study.conclusion import ConcludedElsewhereError
from pcc_pipeline.search.trials import Trial
from pcc_pipeline.tracking import run_names
from pcc_pipeline.tracking.delivery.operations import Nested
from pcc_pipeline.tracking.payloads import Batch, Number
from pcc_pipeline.tracking.registry.versions import asking
from pcc_pipeline.tracking.runs import StepRun

_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


class TrialRuns:
    """Logs finished trials under one parent run. While MLflow is away they are kept on disk: the search goes on.

    A thread of its own writes them, in their order: a store takes up to a tenth of a second for a trial, most of it
    waiting for its disk, and workers would stand idle meanwhile. Leaving the context waits until all are written.
    """

    def __init__(self, parent: StepRun, scoring: str, solver_of: Callable[[Mapping[str, Any]], str]) -> None:
        """`solver_of`: a trial's hyperparameters -> the tag `pcc.solver` of its run."""
        self._parent = parent
        self._scoring = scoring
        self._solver_of = solver_of
        self._thread = ThreadPoolExecutor(1, "pcc-trials")
        self._writes: deque[Future[None]] = deque()
        self._tags = resolve_tags({MLFLOW_PARENT_RUN_ID: parent.run_id, "pcc.step": "trial"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(wait=True)
        if kind is None or issubclass(kind, ConcludedElsewhereError):
            self._raise_refusals()

    def log(self, trial: Trial) -> None:
        """One nested run `trial-NNN`: parameters, per-fold scores as steps of a metric, mean and deviation.

        A trial resumed from a stored study has its run under the parent that ran it, and gets no second one.

        Raises:
            TrackingError: MLflow refused a trial that was logged before this one.
        """
        self._raise_refusals()
        if trial.resumed:
            return
        name = run_names.of_trial(trial.number)
        start, end = int(trial.started_at * 1000), int((trial.started_at + trial.seconds) * 1000)
        solver = self._solver_of(trial.hyperparameters)
        state = {
            "pcc.trial_state": trial.state,
            "pcc.solver": solver,
            **({"pcc.error": trial.reason} if trial.reason else {}),
        }
        operation = Nested(
            experiment_id=self._parent.experiment_id,
            key=uuid.uuid4().hex,
            name=name,
            tags={**self._tags, MLFLOW_RUN_NAME: name, **state},
            start=start,
            end=end,
            status=_STATUS[trial.state],
            batch=Batch(
                metrics=tuple(self._numbers(trial, end)),
                params={_option(key): str(value) for key, value in trial.hyperparameters.items()},
            ),
        )
        self._writes.append(self._thread.submit(self._write, operation))

    def _write(self, operation: Nested) -> None:
        with asking(operation.name):
            self._parent.writer.write(operation)

    def _raise_refusals(self) -> None:
        while self._writes and self._writes[0].done():
            self._writes.popleft().result()

    def _numbers(self, trial: Trial, moment: int) -> Iterator[Number]:
        for fold, scores in enumerate(trial.fold_scores):
            for metric, value in scores.items():
                if value == value:
                    yield Number(f"cv/{metric}", value, moment, fold)
        if trial.score is None:
            return
        yield Number(f"cv/{self._scoring}_mean", trial.score, moment)
        yield Number("trial/seconds", trial.seconds, moment)
        if trial.std is not None:
            yield Number(f"cv/{self._scoring}_std", trial.std, moment)


def _option(hyperparameter: str) -> str:
    """The key of params.yaml that fixes it."""
    return f"model.{hyperparameter}" if hyperparameter in CHOICE else f"model.hyperparameters.{hyperparameter}"
