"""`retrain`: train again by itself where there is data that the champion has not learned; else say why not.

Which data that is follows from the digest of its rows: the same rows under a new name train nothing, other rows under
an old name do. One at a time over all machines that share a tracking server.

What a crash leaves is seen by the registry and done by the next one, each thing once:

- a version that was trained and not judged is known by the digest of its rows; it is evaluated and promoted;
- a champion whose move was not counted, or that was not published for its last move, is;
- `DECIDED_TAG` comes last, when people were told: a version of `retrain` that lacks it is told of. The book of alerts
  knows what was told by this machine before, under the version's name.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pcc_pipeline.config import Params
from pcc_pipeline.errors import ConfigError, DataError, PccError
from pcc_pipeline.interruption import allowed
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps import evaluate, pipeline, promote, publish
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.datasets import load_dataset
from pcc_pipeline.steps.records.alerts import tell_of_event
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.steps.retraining.champion import Champion, read_champion
from pcc_pipeline.steps.retraining.demand import demand_of
from pcc_pipeline.steps.retraining.guards import RetrainStoppedError, demand_sense, not_fit
from pcc_pipeline.steps.retraining.sources import new_enough, settled, unchanged
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.delivery.catching_up import catch_up
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.registry.champion import MOVE_TAG
from pcc_pipeline.tracking.registry.locks import RETRAINING, BusyError, Turn, turn
from pcc_pipeline.tracking.runs import StepRun, outermost_step, read_training_run, step_run

__all__ = ["DECIDED_TAG", "RetrainOutcome", "RetrainStoppedError", "demand_watch", "run"]

logger = logging.getLogger(__name__)

# Of a version: what became of it, once that is decided and told.
DECIDED_TAG = "pcc.retrained"
_REASON = "retrain"


@dataclass(frozen=True)
class RetrainOutcome:
    """What was done, or why nothing was.

    Attributes:
        action: trained, resumed or none.
        details: the lines of the steps that ran.
    """

    run_id: str
    action: str
    why: str
    details: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        title = "retrained" if self.action != "none" else "no need"
        return [*self.details, f"{title:<10} {self.why}"]


def run(params: Params) -> RetrainOutcome:
    """Look at `retrain.watch`, and train, evaluate, promote and publish if there is something new.

    What ends it early is told as an alert, once a day for each reason, and raised.

    Raises:
        ConfigError: nothing is watched.
        RetrainStoppedError: a guard of `retrain` stands against it.
        DataError, StorageError, …: as the steps.
    """
    demand_watch(params)
    if params.data.split == "random":
        # Rows that come later must move no row: what tested one champion never trains the next.
        params = params.model_copy(update={"data": params.data.model_copy(update={"split": "stable"})})
    try:
        with step_run("retrain", params) as opened:
            opened.log(payloads.LoggedParams(used(params, "retrain")))
            outcome = _in_turn(params, opened)
            opened.log(payloads.Tags({"pcc.action": outcome.action, "pcc.reason": outcome.why}))
    except PccError as error:
        _tell_of_end(params, error)
        raise
    return outcome


def demand_watch(params: Params) -> None:
    """Raise ConfigError where there is nothing to look at."""
    if params.retrain.watch is None:
        raise ConfigError(
            "nothing is watched",
            where="retrain.watch",
            fix="give --watch FOLDER, or a pattern such as --watch 'gs://bucket/cases_*.csv'",
        )


def _tell_of_end(params: Params, error: PccError) -> None:
    name, kind = params.registry.model_name, type(error).__name__
    # A guard's numbers change from look to look, and its reason stays.
    reason = error.guard if isinstance(error, RetrainStoppedError) else error.what
    title = f"{name}: not trained again" if isinstance(error, RetrainStoppedError) else f"{name}: retraining failed"
    key = f"{kind} {name} {datetime.now(UTC):%Y-%m-%d} {reason}"
    for line in tell_of_event(params, key, title, ". ".join(part for part in (error.what, error.fix) if part)):
        logger.warning("%s", line.strip())


def _in_turn(params: Params, opened: StepRun) -> RetrainOutcome:
    name = params.registry.model_name
    versions.demand_model(name)
    try:
        with turn(name, account(), RETRAINING) as own, allowed():
            kept = catch_up(Path(params.output.unlogged_dir))
            for fault in kept.faults:
                logger.warning("MLflow was not told everything that an earlier run kept: %s", fault)
            champion = read_champion(name)
            lines = [*kept.lines, *([] if champion is None else _completed(params, champion, own))]
            outcome = _looked(params, opened, own, champion)
            return replace(outcome, details=(*lines, *outcome.details))
    except BusyError:
        return RetrainOutcome(opened.run_id, "none", "another retraining is under way, and does it")


def _completed(params: Params, champion: Champion, own: Turn) -> list[str]:
    """What the process that made this version the champion did not come to."""
    current, lines = champion.current, []
    unfinished = DECIDED_TAG not in current.tags and outermost_step(current.run_id) == "retrain"
    uncounted = unfinished and not current.is_on_record
    if uncounted:
        own.check()
        promote.put_on_record(params, champion.version, reason=_REASON)
        lines.append(f"completed  the move that made {champion.name} the champion is on record now")
    if publish.targets(params) and (uncounted or not current.is_published):
        own.check()
        lines += publish.run(params).summary
    if unfinished:
        lines += _concluded(params, champion.version, champion.training.run_id, "promoted")[1]
    return lines


def _looked(params: Params, opened: StepRun, own: Turn, champion: Champion | None) -> RetrainOutcome:
    demand = "" if champion is None else demand_of(params, champion)

    def nothing(why: str) -> RetrainOutcome:
        return RetrainOutcome(opened.run_id, "none", why)

    def nothing_new(why: str) -> RetrainOutcome:
        if champion is None or not demand:
            return nothing(why)
        name = params.registry.model_name
        what = f"{why}. Against the champion, {champion.name}, stands: {demand}"
        body = f"{what}. Give newer labelled data where retrain.watch looks, or take the last promotion back."
        title = f"{name}: an alert demands training, and there is nothing new to learn from"
        alerts = tell_of_event(params, f"nothing new {name} {champion.pcc_version}", title, body)
        return RetrainOutcome(opened.run_id, "none", f"{what}; there is nothing new to learn from", tuple(alerts))

    files = new_enough(files_of(str(params.retrain.watch)), params.retrain, None if champion is None else champion.day)
    if not files:
        return nothing_new("no file is as new as is asked for")
    states = settled(files, params.retrain.settle_seconds)
    if states is None:
        return nothing("a file is still being written: it is left for the next time")
    address = files[0] if len(files) == 1 else json.dumps(files, ensure_ascii=False)
    params = params.model_copy(update={"data": params.data.model_copy(update={"path": address})})
    written = "a file was written while it was read: it is left for the next time"
    try:
        dataset = load_dataset(address, params)
    except DataError as error:
        if not unchanged(files, states):  # half a file need not be one that can be read
            return nothing(written)
        raise not_fit(error, address) from error
    if not unchanged(files, states):
        return nothing(written)
    opened.log(payloads.Tags({"pcc.data_digest": dataset.digest}))
    rows = "this row" if len(dataset.frame) == 1 else f"these {len(dataset.frame):,} rows"
    if champion is not None and champion.training.tags.get("pcc.data_digest") == dataset.digest:
        return nothing_new(f"the champion, {champion.name}, learned {rows}")
    every = versions.versions_of(params.registry.model_name)
    same = [version for version in every if version.tags.get("pcc.data_digest") == dataset.digest]
    for version in same:
        # Who took back a promotion does not want it again.
        became = "champion before" if MOVE_TAG in version.tags else version.tags.get(DECIDED_TAG)
        if became:
            return nothing_new(f"version {version.version} learned {rows}, and was {became}")
    own.check()
    if same:
        return _resumed(params, opened, own, str(same[0].version), str(same[0].run_id))
    demand_sense(params, dataset, champion, demanded=bool(demand))
    try:
        done = pipeline.run(
            params, promotion=True, reason=_REASON, before_move=own.check, expected_digest=dataset.digest
        )
    except pipeline.ChangedDataError:
        return nothing(written)
    if isinstance(done, pipeline.SharedPipelineOutcome):
        return replace(nothing("another run has trained on them, and judges the model"), details=tuple(done.summary))
    number, training = done.trained.registered_version, done.trained.run_id
    why, lines = _concluded(params, number, training, _decided(done.promoted))
    return RetrainOutcome(opened.run_id, "trained", why, (*done.summary, *lines))


def _resumed(params: Params, opened: StepRun, own: Turn, number: str, training: str) -> RetrainOutcome:
    """Judge a version whose training was the last thing that was done."""
    address = f"models:/{params.registry.model_name}/{number}"
    # The same rows, wherever that training had them.
    lines = evaluate.run(params, address, params.data.path).summary
    try:
        promoted = promote.run(params, address, reason=_REASON, data=params.data.path, before_move=own.check)
        lines += promoted.summary
        decided = _decided(promoted)
    except promote.PromotionRefusedError as refusal:
        lines.append(f"refused    {refusal.what}")
        decided = "refused"
    why, alerts = _concluded(params, number, training, decided)
    return RetrainOutcome(opened.run_id, "resumed", f"{why}; it had been trained before", (*lines, *alerts))


def _decided(promoted: pipeline.Promoted | None) -> str:
    match promoted:
        case promote.PromotionRefusedError():
            return "refused"
        case promote.WaitingOutcome():
            return "left to an approver"
        case _:
            return "promoted"


def _concluded(params: Params, number: str, training: str, decided: str) -> tuple[str, list[str]]:
    """Tell of a version, once, and then note that all is done; what became of it in words, and lines of the alert."""
    name, record = params.registry.model_name, read_training_run(training)
    version, rows = record.tags.get(versions.VERSION_TAG, ""), record.metrics["data"]["rows"]
    why = f"version {number} ({version}) learned {counted(rows, 'row')}, and was {decided}"
    alerts = tell_of_event(
        params, f"retrained {name} {version}", f"{name}: trained again", f"{why}.", good=decided != "refused"
    )
    versions.tag_version(name, number, {DECIDED_TAG: decided})
    return why, alerts
