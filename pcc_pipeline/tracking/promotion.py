"""Moving `champion`: one promotion at a time over all machines that share a tracking server.

The registry has no transaction over two aliases, but it refuses a second registered model of one name. Creating the
model `<name>.promoting` is therefore the lock: whoever creates it moves the aliases and removes it again. A lock whose
holder died is taken over after `STALE_SECONDS`, far longer than a promotion holds it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from pcc_pipeline import interruption
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.registry import Resolved, asking, find_alias, resolve, set_alias

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
COUNT_TAG = "pcc.promotions"
STALE_SECONDS = 60.0
_WAIT_SECONDS = 300.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Move:
    """One move of `champion`.

    Attributes:
        number: 1 for a model's first move, then counting without gaps; rollbacks count too.
        before: version that was champion, None for the first.
        after: version that is champion now.
    """

    number: int
    before: str | None
    after: str


def promote(name: str, version: str, tags: Mapping[str, str]) -> Move:
    """Make `version` the champion and the champion before it `previous`; `tags` go on both versions.

    Promoting the champion again moves nothing but counts, so that the record is complete.

    Raises:
        TrackingError: there is no such version, MLflow refuses, or another promotion holds the registry for minutes.
    """
    resolve(f"models:/{name}/{version}")
    with _only_promotion(name):
        champion = find_alias(name, CHAMPION)
        if champion is not None and champion.version != version:
            # First `previous`: a crash between the two leaves a champion and loses no way back.
            set_alias(name, PREVIOUS, _number(champion))
        return _make_champion(name, version, champion, tags)


def roll_back(name: str, tags: Mapping[str, str]) -> Move:
    """Make `previous` the champion again, and the champion `previous`.

    Raises:
        TrackingError: there is nothing to go back to.
    """
    with _only_promotion(name):
        champion, previous = find_alias(name, CHAMPION), find_alias(name, PREVIOUS)
        if previous is None or (champion is not None and previous.version == champion.version):
            raise TrackingError(
                "there is no previous champion to go back to",
                where=f"registered model {name}",
                fix="promote a version by its number instead",
            )
        # The new champion first: a crash between the two leaves the right champion.
        move = _make_champion(name, _number(previous), champion, tags)
        if champion is not None:
            set_alias(name, PREVIOUS, _number(champion))
        return move


def _make_champion(name: str, version: str, champion: Resolved | None, tags: Mapping[str, str]) -> Move:
    set_alias(name, CHAMPION, version)
    before = None if champion is None else _number(champion)
    client = MlflowClient()
    with asking(f"registered model {name}"):
        number = int(client.get_registered_model(name).tags.get(COUNT_TAG, "0")) + 1
        client.set_registered_model_tag(name, COUNT_TAG, str(number))
        for each, state in ((version, "champion"), (before, "previous")):
            if each is not None and (state == "champion" or each != version):
                for key, value in {**tags, "pcc.state": state, "pcc.move": str(number)}.items():
                    client.set_model_version_tag(name, each, key, value)
    return Move(number, before, version)


def _number(found: Resolved) -> str:
    assert found.version is not None, "an alias always points at a version"
    return found.version


@contextmanager
def _only_promotion(name: str) -> Iterator[None]:
    """From a signal's point of view all that is done here is one act: it comes before, or after it."""
    lock, holder = f"{name}.promoting", uuid.uuid4().hex
    client = MlflowClient()
    with interruption.protected():
        _acquire(client, lock, holder)
        try:
            interruption.check()
            yield
        finally:
            _release(client, lock, holder)


def _release(client: MlflowClient, lock: str, holder: str) -> None:
    with asking(f"lock {lock}"):
        if _holder(client, lock) == holder:
            client.delete_registered_model(lock)


def _acquire(client: MlflowClient, lock: str, holder: str) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            client.create_registered_model(lock, tags={"pcc.lock": "true"}, description=holder)
            return
        except MlflowException as error:
            # MLflow says "not found" where the lock went away while it was writing that it exists.
            held = (ErrorCode.Name(RESOURCE_ALREADY_EXISTS), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST))
            if error.error_code not in held:
                with asking(f"lock {lock}"):
                    raise
        _remove_if_stale(client, lock)
        if time.monotonic() > deadline:
            raise TrackingError(
                "another promotion has held the registry for minutes",
                where=f"registered model {lock}",
                fix="wait for it; if its process is gone, delete that registered model in the MLflow UI",
            )
        interruption.sleep(_POLL_SECONDS)


def _remove_if_stale(client: MlflowClient, lock: str) -> None:
    """Move a dead holder's lock out of the way. Renaming is atomic: of two that try, one succeeds."""
    try:
        found = client.get_registered_model(lock)
        if time.time() - float(found.creation_timestamp or 0) / 1000 < STALE_SECONDS:
            return
        aside = f"{lock}.stale-{uuid.uuid4().hex}"
        client.rename_registered_model(lock, aside)
        client.delete_registered_model(aside)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            with asking(f"lock {lock}"):
                raise


def _holder(client: MlflowClient, lock: str) -> str | None:
    try:
        return str(client.get_registered_model(lock).description)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise
