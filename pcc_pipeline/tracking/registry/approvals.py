"""What waits for an approver: on the version, who asked for its promotion, in which run, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlflow import MlflowClient

from pcc_pipeline.tracking.registry.versions import asking, tag_version

STATE_TAG = "pcc.approval"
# The server notes the account that registered a version, and nobody else can; without a server the training does.
REGISTERED_BY_TAG, TRAINED_BY_TAG = "pcc.registered_by", "pcc.trained_by"
_BY, _RUN, _ACTION, _AGAINST, _DECIDED_BY, _WHY = (
    f"pcc.approval_{name}" for name in ("asked_by", "run", "action", "against", "decided_by", "reason")
)
_NOBODY = "none"

State = Literal["waiting", "approved", "declined"]


@dataclass(frozen=True)
class Approval:
    """A promotion that was asked for.

    Attributes:
        asked_by: the account that did.
        run_id: the run that holds the table of gates.
        action: promoted, or forced past failed gates.
        judged_against: the champion of that time; None where there was none.
        trained_by: the account that trained the version; empty where that is not known.
    """

    state: str
    asked_by: str
    run_id: str
    action: str
    judged_against: str | None
    trained_by: str

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Approval | None:
        """By a version's tags; None where nobody asked."""
        if STATE_TAG not in tags:
            return None
        against = tags.get(_AGAINST, _NOBODY)
        return cls(
            tags[STATE_TAG],
            tags.get(_BY, ""),
            tags.get(_RUN, ""),
            tags.get(_ACTION, "promoted"),
            None if against == _NOBODY else against,
            tags.get(REGISTERED_BY_TAG) or tags.get(TRAINED_BY_TAG, ""),
        )


def ask_approval(
    name: str, version: str, *, asked_by: str, run_id: str, action: str, judged_against: str | None
) -> None:
    """Say on a version that it waits.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    # The state last: what stands before it is whole.
    about = {_BY: asked_by, _RUN: run_id, _ACTION: action, _AGAINST: judged_against or _NOBODY}
    tag_version(name, version, {**about, STATE_TAG: "waiting"})


def approval_of(name: str, version: str) -> Approval | None:
    """What was asked for a version; None where nobody asked.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    with asking(f"models:/{name}/{version}"):
        return Approval.of_tags(MlflowClient().get_model_version(name, version).tags)


def settle(name: str, version: str, state: State, *, by: str, reason: str) -> None:
    """Say on a version what became of it.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    tag_version(name, version, {_DECIDED_BY: by, _WHY: reason, STATE_TAG: state})
