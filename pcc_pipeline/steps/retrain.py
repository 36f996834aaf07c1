"""`retrain`: train again by itself where there is data that the champion has not learned; else say why not.

Which data that is follows from the digest of its rows: the same rows under a new name train nothing, other rows under
an old name do. One at a time over all machines that share a tracking server. What a crash leaves is found by the same
digest: a version that was trained and not judged yet is evaluated and promoted, not trained once more.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import ConfigError, PccError
from pcc_pipeline.interruption import allowed, sleep
from pcc_pipeline.steps import evaluate, pipeline, promote
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.datasets import load_dataset
from pcc_pipeline.steps.records.alerts import tell_of_event
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.storage.objects import ObjectState, state_of
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.registry.champion import CHAMPION
from pcc_pipeline.tracking.registry.turns import RETRAINING, BusyError, Turn, turn
from pcc_pipeline.tracking.runs import StepRun, TrainingRun, read_split, read_training_run, step_run

logger = logging.getLogger(__name__)

# Of a version: what became of it, once that is decided.
DECIDED_TAG = "pcc.retrained"
_DATE = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")


class RetrainStoppedError(PccError):
    """There is new data, and something about it must be looked at by a person; nothing was trained."""


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


@dataclass(frozen=True)
class _Champion:
    version: str
    training: TrainingRun

    @property
    def name(self) -> str:
        return f"version {self.version} ({self.training.tags.get(versions.VERSION_TAG, '')})"


def run(params: Params) -> RetrainOutcome:
    """Look at `retrain.watch`, and train, evaluate, promote and publish if there is something new.

    Raises:
        ConfigError: nothing is watched.
        RetrainStoppedError: a guard of `retrain` stands against it.
        DataError, StorageError, …: as the steps.
    """
    if params.retrain.watch is None:
        raise ConfigError(
            "nothing is watched",
            where="retrain.watch",
            fix="-P watch=FOLDER, or a pattern such as -P watch='gs://bucket/cases_*.csv'",
        )
    if params.data.split == "random":
        # Rows that come later must move no row: what tested one champion never trains the next.
        params = params.model_copy(update={"data": params.data.model_copy(update={"split": "stable"})})
    name = params.registry.model_name
    with step_run("retrain", params) as opened:
        opened.log(payloads.LoggedParams(used(params, "retrain")))
        versions.demand_model(name)
        try:
            with turn(name, account(), RETRAINING) as own, allowed():
                outcome = _retrained(params, opened, own)
        except RetrainStoppedError as error:
            # Once a day for each reason, however often it is looked at.
            key = f"stopped {name} {datetime.now(UTC):%Y-%m-%d} {error.what}"
            for line in tell_of_event(params, key, f"{name}: not trained again", f"{error.what}. {error.fix}."):
                logger.warning("%s", line.strip())
            raise
        except BusyError:
            outcome = RetrainOutcome(opened.run_id, "none", "another retraining is under way, and does it")
        opened.log(payloads.Tags({"pcc.action": outcome.action, "pcc.reason": outcome.why}))
        if outcome.action != "none":
            told = tell_of_event(params, f"{name} {outcome.why}", f"{name}: trained again", f"{outcome.why}.")
            outcome = replace(outcome, details=(*outcome.details, *told))
    return outcome


def _retrained(params: Params, opened: StepRun, own: Turn) -> RetrainOutcome:
    def nothing(why: str) -> RetrainOutcome:
        return RetrainOutcome(opened.run_id, "none", why)

    champion = _champion(params.registry.model_name)
    files = _chosen(files_of(str(params.retrain.watch)), params, champion)
    if not files:
        return nothing("no file is as new as is asked for")
    states = _settled(files, params.retrain.settle_seconds)
    if states is None:
        return nothing("a file is still being written: it is left for the next time")
    address = files[0] if len(files) == 1 else json.dumps(files, ensure_ascii=False)
    params = params.model_copy(update={"data": params.data.model_copy(update={"path": address})})
    dataset = load_dataset(address, params)
    if [state_of(file) for file in files] != states:
        return nothing("a file was written while it was read: it is left for the next time")
    opened.log(payloads.Tags({"pcc.data_digest": dataset.digest}))
    if champion is not None and champion.training.tags.get("pcc.data_digest") == dataset.digest:
        return nothing(f"the champion, {champion.name}, learned these {len(dataset.frame):,} rows")
    known = next(
        (
            version
            for version in versions.versions_of(params.registry.model_name)
            if version.tags.get("pcc.data_digest") == dataset.digest
        ),
        None,
    )
    if known is not None and (decided := known.tags.get(DECIDED_TAG)):
        return nothing(f"version {known.version} learned these {len(dataset.frame):,} rows, and was {decided}")
    own.check()
    if known is not None:
        return _resumed(params, opened, str(known.version))
    _demand_sense(params, dataset, champion)
    done = pipeline.run(params, promotion=True, expected_digest=dataset.digest)
    number = done.trained.registered_version
    decided = "refused" if isinstance(done.promoted, promote.PromotionRefusedError) else "promoted"
    versions.tag_version(params.registry.model_name, number, {DECIDED_TAG: decided})
    why = f"version {number} learned {len(dataset.frame):,} rows of {len(files):,} files, and was {decided}"
    return RetrainOutcome(opened.run_id, "trained", why, tuple(done.summary))


def _resumed(params: Params, opened: StepRun, number: str) -> RetrainOutcome:
    """Judge a version whose training was the last thing that was done."""
    address = f"models:/{params.registry.model_name}/{number}"
    lines = evaluate.run(params, address).summary
    try:
        lines += promote.run(params, address, reason="retrain").summary
        decided = "promoted"
    except promote.PromotionRefusedError as refusal:
        lines.append(f"refused    {refusal.what}")
        decided = "refused"
    versions.tag_version(params.registry.model_name, number, {DECIDED_TAG: decided})
    why = f"version {number} had learned these rows and was not judged yet; it was {decided}"
    return RetrainOutcome(opened.run_id, "resumed", why, tuple(lines))


def _champion(name: str) -> _Champion | None:
    standing = versions.find_alias(name, CHAMPION)
    if standing is None or standing.version is None:
        return None
    return _Champion(standing.version, read_training_run(standing.run_id))


def _chosen(files: Sequence[str], params: Params, champion: _Champion | None) -> list[str]:
    """The files that are new enough, by the date in their names, or else that of their last change."""
    settings, since = params.retrain, date.min
    if settings.window_days is not None:
        since = (datetime.now(UTC) - timedelta(days=settings.window_days)).date()
    if settings.since == "champion" and champion is not None:
        learned = champion.training.tags.get(versions.VERSION_TAG, "")
        since = max(since, datetime.strptime(learned, "v%Y%m%d_%H%M%S").replace(tzinfo=UTC).date())
    return [file for file in files if since == date.min or _day(file) >= since]


def _day(file: str) -> date:
    if match := _DATE.search(file.rpartition("/")[2]):
        return date(*map(int, match.groups()))
    return state_of(file).changed.date()


def _settled(files: Sequence[str], seconds: float) -> list[ObjectState] | None:
    """The files' states, once they have stayed the same for so long; None where one has not."""
    before = [state_of(file) for file in files]
    youngest = max(state.changed for state in before)
    if (left := seconds - (time.time() - youngest.timestamp())) > 0:
        sleep(min(left, seconds))
    return before if [state_of(file) for file in files] == before else None


def _demand_sense(params: Params, dataset: Dataset, champion: _Champion | None) -> None:
    """The guards.

    Raises:
        RetrainStoppedError: one of them.
    """
    settings, name = params.retrain, params.registry.model_name
    today = f"v{datetime.now(UTC):%Y%m%d}_"
    trained = sum(
        version.tags.get(versions.VERSION_TAG, "").startswith(today) for version in versions.versions_of(name)
    )
    if trained >= settings.most_a_day:
        raise RetrainStoppedError(
            f"{trained:,} versions were trained today already",
            where=f"retrain.most_a_day: {settings.most_a_day}",
            fix="look why the data changes so often; it is looked at again tomorrow",
        )
    if champion is None:
        return
    known, here = set(map(str, champion.training.metadata["classes"])), set(map(str, dataset.labels))
    if settings.labels == "same" and known != here:
        changed = [f"{sign}{label}" for sign, labels in (("+", here - known), ("-", known - here)) for label in labels]
        raise RetrainStoppedError(
            f"labels have appeared or vanished since {champion.name}: {', '.join(sorted(changed)[:10])}",
            where=params.data.path,
            fix="if that is meant: -P set=retrain.labels=any",
        )
    record = read_split(champion.training)
    texts = np.unique(RowKeys.of(dataset.texts).texts)
    new = len(texts) if record is None else int((~np.isin(texts, record.keys.texts)).sum())
    if new < settings.min_new_rows:
        raise RetrainStoppedError(
            f"{new:,} texts are new since {champion.name}, too few to train again",
            where=f"retrain.min_new_rows: {settings.min_new_rows:,}",
            fix="wait for more, or ask for fewer",
        )
