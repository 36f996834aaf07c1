"""`main`: embed, train, evaluate and, if asked, promote, as nested runs of one `pipeline` run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pcc_pipeline.config import Params
from pcc_pipeline.errors import DataError, PccError
from pcc_pipeline.search.pools.dask_cluster import demand_cluster
from pcc_pipeline.steps import embed, evaluate, promote, publish, train
from pcc_pipeline.steps.inputs.datasets import input_files
from pcc_pipeline.steps.inputs.test_rows import HeldOut
from pcc_pipeline.steps.pages.mlflow_pages import pipeline_page
from pcc_pipeline.steps.records.summary import duration
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.runs import StepRun, step_run

# The figures that the page shows, and their titles.
_SHOWN = {
    "scores_by_class": "scores by class",
    "confusion_matrix": "confusion matrix",
    "calibration_curve": "calibration",
}


Promoted = promote.PromoteOutcome | promote.WaitingOutcome | promote.PromotionRefusedError


class ChangedDataError(DataError):
    """The data is not what it was when somebody decided to train on it."""


@dataclass(frozen=True)
class PipelineOutcome:
    """What the steps did.

    Attributes:
        seconds: that all of it took.
        promoted: the version's promotion, which may wait for an approver; a refusal where a gate failed; None where
            nobody asked for it.
    """

    run_id: str
    embedded: embed.EmbedOutcome
    trained: train.TrainOutcome
    evaluated: evaluate.EvaluateOutcome
    seconds: float
    promoted: Promoted | None = None

    @property
    def next_steps(self) -> list[str]:
        """What to do now; nothing of it where a promotion was asked for."""
        return self.evaluated.next_steps if self.promoted is None else []

    @property
    def summary(self) -> list[str]:
        lines = [*self.embedded.summary, *self.trained.summary, *self.evaluated.summary]
        match self.promoted:
            case promote.PromoteOutcome() | promote.WaitingOutcome() as outcome:
                lines += outcome.summary
            case promote.PromotionRefusedError() as refusal:
                lines += [f"refused    {refusal.what}"]
        return [*lines, f"took       {duration(self.seconds)}"]


@dataclass(frozen=True)
class SharedPipelineOutcome:
    """What the steps did where another run of the same study registered the model, and measures it."""

    run_id: str
    embedded: embed.EmbedOutcome
    trained: train.SharedOutcome
    seconds: float

    @property
    def summary(self) -> list[str]:
        return [*self.embedded.summary, *self.trained.summary, f"took       {duration(self.seconds)}"]


def run(
    params: Params,
    *,
    promotion: bool = False,
    reason: str = "promote=auto",
    before_move: Callable[[], None] = lambda: None,
    expected_digest: str | None = None,
) -> PipelineOutcome | SharedPipelineOutcome:
    """The whole way from a file to an evaluated, registered model.

    Args:
        promotion: make it the champion if it passes `registry.gates`; a refusal leaves the rest as it is.
        reason, before_move: of the promotion, as `promote.run` takes them.
        expected_digest: of the rows that are meant; nothing is trained on others.

    Raises:
        ChangedDataError: the rows are others.
        DataError, …: as the steps.
    """
    began = time.perf_counter()
    with step_run("pipeline", params) as opened:
        opened.log(
            payloads.LoggedParams(used(params, "embed", "train", "evaluate", *(["promote"] if promotion else [])))
        )
        if promotion:
            publish.check_room(params)
        demand_cluster(params.compute)
        embedded = embed.run(params, for_training=True)
        if expected_digest not in (None, embedded.digest):
            raise ChangedDataError(
                "the data was changed since it was looked at: its rows have another digest now",
                where=params.data.path,
                fix="see that nobody writes there meanwhile, and run it again",
            )
        trained = train.run(params, embedded.handed_on)
        if isinstance(trained, train.SharedOutcome):
            opened.log(payloads.Tags({"pcc.concluded_by": trained.concluded_by}))
            return SharedPipelineOutcome(opened.run_id, embedded, trained, time.perf_counter() - began)
        version = f"models:/{trained.registered_name}/{trained.registered_version}"
        evaluated = evaluate.run(params, version, at_hand=trained.held_out)
        # The tree's root carries what people compare whole runs by.
        headline = ("accuracy", "f1_macro", "f1_weighted", "roc_auc", "pr_auc", "log_loss")
        scores = evaluated.test.metrics(by_class=False)
        opened.log(
            payloads.Metrics({f"test/{name}": scores[f"test/{name}"] for name in headline if f"test/{name}" in scores}),
            payloads.Metrics(trained.cross_validation),
            payloads.Tags({"pcc.version": trained.pcc_version, "pcc.data_digest": embedded.digest}),
            *_page(opened, embedded, trained, evaluated),
        )
        promoted = _promote(params, version, trained.held_out, reason, before_move) if promotion else None
    return PipelineOutcome(opened.run_id, embedded, trained, evaluated, time.perf_counter() - began, promoted)


def _page(
    opened: StepRun, embedded: embed.EmbedOutcome, trained: train.TrainOutcome, evaluated: evaluate.EvaluateOutcome
) -> list[payloads.Payload]:
    """What makes the run's page tell of the whole way: the files, the figures that say most, and a note."""
    data = embedded.files[0]
    files = [*input_files(data.source, "training", data), *evaluated.inputs]
    where = f"#/experiments/{opened.experiment_id}/runs/{opened.run_id}/artifacts/figures/"
    note = pipeline_page(
        evaluated.facts,
        evaluated.document,
        evaluated.warnings,
        (trained.registered_name, trained.registered_version),
        {"train": trained.run_id, "evaluate": evaluated.run_id},
        opened.experiment_id,
        {title: f"{where}{stem}.png" for stem, title in _SHOWN.items()},
    )
    pictures = {stem: evaluated.pictures[stem] for stem in _SHOWN}
    made = payloads.Models(made=[evaluated.model_id])
    return [payloads.Inputs(files), made, payloads.Figures(pictures), payloads.Note(note)]


def _promote(params: Params, version: str, tested: HeldOut, reason: str, before_move: Callable[[], None]) -> Promoted:
    try:
        return promote.run(params, version, reason=reason, data=tested, before_move=before_move)
    except promote.PromotionRefusedError as refusal:
        return refusal
    except PccError as error:
        # Hours of training must not seem lost with it.
        what = f"{error.what}\n  the training is done: {version}, evaluated and registered as challenger"
        raise type(error)(what, where=error.where, fix=error.fix) from error
