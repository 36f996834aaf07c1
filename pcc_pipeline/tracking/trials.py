"""A search's trials as nested runs, written by the process that owns the search and by nobody else."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import RunStatus
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from pcc_pipeline.search.trials import Trial
from pcc_pipeline.tracking.payloads import Metrics, Params, Payload, Tags, log
from pcc_pipeline.tracking.registry import asking
from pcc_pipeline.tracking.runs import StepRun

_STATUS = {"complete": RunStatus.FINISHED, "pruned": RunStatus.FINISHED, "failed": RunStatus.FAILED}


class TrialRuns:
    """Logs finished trials under one parent run."""

    def __init__(self, parent: StepRun, scoring: str) -> None:
        self._parent = parent
        self._scoring = scoring
        self._client = MlflowClient()
        self._tags = resolve_tags({MLFLOW_PARENT_RUN_ID: parent.run_id, "pcc.step": "trial"})

    def log(self, trial: Trial) -> None:
        """One nested run `trial-NNN`: parameters, per-fold scores as steps of a metric, mean and deviation.

        A trial resumed from a stored study has its run under the parent that ran it, and gets no second one.
        """
        if trial.resumed:
            return
        name = f"trial-{trial.number:03d}"
        start, end = int(trial.started_at * 1000), int((trial.started_at + trial.seconds) * 1000)
        with asking(name):
            run = self._client.create_run(
                self._parent.experiment_id, start, {**self._tags, MLFLOW_RUN_NAME: name}, run_name=name
            )
            payloads: list[Payload] = [
                Params({f"model.hyperparameters.{key}": str(value) for key, value in trial.hyperparameters.items()}),
                Tags({"pcc.trial_state": trial.state, **({"pcc.error": trial.reason} if trial.reason else {})}),
                *(
                    Metrics({f"cv/{metric}": value for metric, value in scores.items() if value == value}, step=fold)
                    for fold, scores in enumerate(trial.fold_scores)
                ),
            ]
            if trial.score is not None:
                summary = {f"cv/{self._scoring}_mean": trial.score, "trial/seconds": trial.seconds}
                if trial.std is not None:
                    summary[f"cv/{self._scoring}_std"] = trial.std
                payloads.append(Metrics(summary))
            log(self._client, run.info.run_id, payloads)
            self._client.set_terminated(run.info.run_id, RunStatus.to_string(_STATUS[trial.state]), end)
