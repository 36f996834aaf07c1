"""Moving `champion`: one promotion at a time over all machines that share a tracking server (see `turns`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.registry.turns import Turn, turn
from pcc_pipeline.tracking.registry.versions import Resolved, asking, find_alias, resolve

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
COUNT_TAG, WHO_TAG = "pcc.promotions", "pcc.moved_by"


@dataclass(frozen=True)
class Move:
    """One move of `champion`.

    Attributes:
        number: 1 for a model's first move, then counting without gaps; rollbacks count too.
        before: version that was champion, None for the first.
        after: version that is champion now. The same as before: nothing moved, and `number` is of the last move.
    """

    number: int
    before: str | None
    after: str

    @property
    def is_none(self) -> bool:
        return self.before == self.after


def promote(name: str, version: str, tags: Mapping[str, str]) -> Move:
    """Make `version` the champion and the champion before it `previous`; `tags` go on both versions.

    Promoting the champion again is no move, unless the last one was cut off before it was on record: then it counts.

    Raises:
        TrackingError: there is no such version, MLflow refuses, or another promotion holds the registry for minutes.
    """
    resolve(f"models:/{name}/{version}")
    with turn(name, tags.get(WHO_TAG, "")) as own:
        champion = find_alias(name, CHAMPION)
        if champion is not None and champion.version != version:
            # First `previous`: a crash between the two leaves a champion and loses no way back.
            _point(own, name, PREVIOUS, _number(champion))
        if champion is not None and champion.version == version:
            with asking(f"registered model {name}"):
                counted = MlflowClient().get_registered_model(name).tags.get(COUNT_TAG, "0")
                last = MlflowClient().get_model_version(name, version).tags
            if (last.get("pcc.state"), last.get("pcc.move")) == ("champion", counted):
                return Move(int(counted), version, version)
        return _make_champion(own, name, version, champion, tags)


def roll_back(name: str, tags: Mapping[str, str]) -> Move:
    """Make `previous` the champion again, and the champion `previous`.

    Raises:
        TrackingError: there is nothing to go back to.
    """
    if find_alias(name, PREVIOUS) is None:  # nor may there be a model of this name
        raise _nothing_before(name)
    with turn(name, tags.get(WHO_TAG, "")) as own:
        champion, previous = find_alias(name, CHAMPION), find_alias(name, PREVIOUS)
        if previous is None or (champion is not None and previous.version == champion.version):
            raise _nothing_before(name)
        # The new champion first: a crash between the two leaves the right champion.
        move = _make_champion(own, name, _number(previous), champion, tags)
        if champion is not None:
            _point(own, name, PREVIOUS, _number(champion))
        return move


def _nothing_before(name: str) -> TrackingError:
    return TrackingError(
        "there is no previous champion to go back to",
        where=f"registered model {name}",
        fix="promote a version by its number instead",
    )


def _point(own: Turn, name: str, alias: str, version: str) -> None:
    own.check()
    with asking(f"alias {alias} of {name}"):
        MlflowClient().set_registered_model_alias(name, alias, version)


def _make_champion(own: Turn, name: str, version: str, champion: Resolved | None, tags: Mapping[str, str]) -> Move:
    _point(own, name, CHAMPION, version)
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


def _number(standing: Resolved) -> str:
    assert standing.version is not None, "an alias always points at a version"
    return standing.version
