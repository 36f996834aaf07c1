"""Whether an alert of `monitor` says that the champion is wrong, so that it should be trained again soon."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pcc_pipeline.alerting.book import AlertBook
from pcc_pipeline.config import Params
from pcc_pipeline.errors import StorageError
from pcc_pipeline.steps.retraining.champion import Champion
from pcc_pipeline.tracking.registry.versions import ALERT_KINDS_TAG, ALERT_TAG

logger = logging.getLogger(__name__)


def demand_of(params: Params, champion: Champion) -> str:
    """The alerts about `retrain.demanded_by` that stand against this very champion, in words; empty where none does.

    They are read from the champion's `pcc.alert`, which every machine sees, and from this machine's book, which also
    knows of rules that look at several windows. What the book last judged before this champion was trained was told of
    another one.
    """
    patterns = params.retrain.demanded_by
    if not patterns:
        return ""
    reasons = []
    if (tag := champion.current.tags.get(ALERT_TAG)) and _is_demanded(champion.current.tags, patterns):
        reasons.append(tag)
    name, book = params.registry.model_name, AlertBook(Path(params.output.alerts_dir))
    try:
        judged = book.checked.get(name)
        if judged is not None and judged >= champion.trained:
            reasons += [
                f"{alert.rule}, since {alert.since:%Y-%m-%d %H:%M} UTC"
                for alert in book.alerts
                if alert.subject == name
                and alert.version in ("", champion.pcc_version)
                and any(fnmatchcase(alert.metric, pattern) for pattern in patterns)
            ]
    except StorageError as error:
        logger.warning("no alert of this machine is looked at: %s (%s)", error.what, error.where)
    return "; ".join(reasons)


def _is_demanded(tags: Mapping[str, str], patterns: Sequence[str]) -> bool:
    """Whether the champion's alert is of a kind that demands training; an alert without one, set by a person, does.

    A file that is late, or a run that failed, says nothing of what the model learned.
    """
    kinds = tags.get(ALERT_KINDS_TAG, "").split()
    return not kinds or any(fnmatchcase(f"{kind}/alarm", pattern) for kind in kinds for pattern in patterns)
