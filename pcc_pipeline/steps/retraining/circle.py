"""The circle once: train again where there is need, watch the champion, and let go what is too old.

What fails is told, and ends no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from pcc_pipeline.config import Params
from pcc_pipeline.errors import PccError
from pcc_pipeline.steps import monitor, retention, retrain
from pcc_pipeline.steps.records.alerts import tell_of_event
from pcc_pipeline.tracking.registry.champion import CHAMPION
from pcc_pipeline.tracking.registry.versions import find_alias
from pcc_pipeline.tracking.runs import describe

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class CircleOutcome:
    """What one round did.

    Attributes:
        lines: of the steps that ran.
        errors: of those that failed, as a person reads them.
        alarmed: `monitor` found something wrong, and that was to be the exit code.
    """

    lines: tuple[str, ...]
    errors: tuple[str, ...]
    alarmed: bool

    @property
    def exit_code(self) -> int:
        """1 where a step failed, else 3 where something is wrong and that was to be told so, else 0."""
        return 1 if self.errors else 3 if self.alarmed else 0


def run(params: Params, watched: str | None = None, labels: str | None = None) -> CircleOutcome:
    """One round.

    Args:
        watched: messages, or predictions of them, for `monitor`; None watches nothing.
        labels: what came back for them, as `monitor` takes it.

    Raises:
        Exception: a step ended by a defect of this program; that was told as well.
    """
    lines: list[str] = []
    errors: list[str] = []
    alarmed = False
    retrained = _attempt("retrain", params, errors, lambda: retrain.run(params))
    if retrained is not None:
        lines += retrained.summary
    if watched is not None:
        looked = params.model_copy(update={"data": params.data.model_copy(update={"path": watched})})
        monitored = _attempt("monitor", params, errors, lambda: _watched(looked, labels))
        if isinstance(monitored, monitor.MonitorOutcome):
            lines += monitored.summary
            alarmed = monitored.exit_code != 0
        elif monitored is not None:
            lines.append(monitored)
    if retention.is_set(params):
        kept = _attempt("retention", params, errors, lambda: retention.run(params))
        lines += [] if kept is None else kept.summary
    return CircleOutcome(tuple(lines), tuple(errors), alarmed)


def _watched(params: Params, labels: str | None) -> monitor.MonitorOutcome | str:
    if find_alias(params.registry.model_name, CHAMPION) is None:
        return "monitored  nothing: there is no champion yet"
    return monitor.run(params, labels=labels)


def _attempt(step: str, params: Params, errors: list[str], act: Callable[[], Result]) -> Result | None:
    try:
        return act()
    except PccError as error:
        errors.append(str(error))
        if step != "retrain":  # which tells of its end itself
            _tell(step, params, error.what, f"{error.what}. {error.fix}")
    except Exception as error:
        # What it says may quote a message; its type and place do not.
        _tell(step, params, describe(error), f"{describe(error)}: this is a defect of the program.")
        raise
    return None


def _tell(step: str, params: Params, reason: str, body: str) -> None:
    name = params.registry.model_name
    key = f"failed {step} {name} {datetime.now(UTC):%Y-%m-%d} {reason}"
    for line in tell_of_event(params, key, f"{name}: {step} failed", body):
        logger.warning("%s", line.strip())
