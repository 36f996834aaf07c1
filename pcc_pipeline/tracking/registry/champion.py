"""Moving `champion`: one promotion at a time over all machines that share a tracking server (see `locks`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.outages import reason_of, status_of
from pcc_pipeline.tracking.registry.locks import Turn, turn
from pcc_pipeline.tracking.registry.versions import Resolved, asking, find_alias, resolve

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
COUNT_TAG, WHO_TAG = "pcc.promotions", "pcc.moved_by"
# Of a version: the last move that it took part in, and the one for which it was published.
MOVE_TAG, PUBLISHED_MOVE_TAG = "pcc.move", "pcc.published_move"
_NO_MOVE = "none"
# No version has this number.
ANY_CHAMPION = "any"


class ChampionMovedError(TrackingError):
    """Another version became champion since this process looked: while it judged, or while it waited for its turn."""


@dataclass(frozen=True)
class CurrentChampion:
    """The champion, and how far the process that made it came.

    Attributes:
        is_on_record: its move was counted; not so where a process was killed before that, or somebody set the alias.
        is_published: whoever published it saw this very move.
    """

    version: str
    run_id: str
    tags: Mapping[str, str]
    is_on_record: bool

    @property
    def move(self) -> str:
        """The number of its move, for `PUBLISHED_MOVE_TAG`."""
        return self.tags.get(MOVE_TAG, _NO_MOVE)

    @property
    def is_published(self) -> bool:
        return self.tags.get(PUBLISHED_MOVE_TAG) == self.move


@dataclass(frozen=True)
class Standing:
    """The versions that `champion` and `previous` point at; None while one points at none."""

    champion: str | None
    previous: str | None

    def __str__(self) -> str:
        champion, previous = (each or "none" for each in (self.champion, self.previous))
        return f"champion {champion}, previous {previous}"


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


def current_champion(name: str) -> CurrentChampion | None:
    """The champion as the registry has it; None while there is none.

    Raises:
        TrackingError: MLflow does not answer.
    """
    champion = find_alias(name, CHAMPION)
    if champion is None:
        return None
    with asking(f"registered model {name}"):
        counted = MlflowClient().get_registered_model(name).tags.get(COUNT_TAG, "0")
        tags = dict(MlflowClient().get_model_version(name, _number(champion)).tags)
    on_record = (tags.get("pcc.state"), tags.get(MOVE_TAG)) == ("champion", counted)
    return CurrentChampion(_number(champion), champion.run_id, tags, on_record)


def standing(name: str) -> Standing:
    """What stands now.

    Raises:
        TrackingError: MLflow does not answer.
    """
    champion, previous = find_alias(name, CHAMPION), find_alias(name, PREVIOUS)
    return Standing(*(None if each is None else _number(each) for each in (champion, previous)))


def last_move(name: str, version: str) -> str:
    """The number of the last move that a version took part in, as `CurrentChampion.move`.

    Raises:
        TrackingError: there is no such version, or MLflow does not answer.
    """
    with asking(f"models:/{name}/{version}"):
        return str(MlflowClient().get_model_version(name, version).tags.get(MOVE_TAG, _NO_MOVE))


def _anything(version: str) -> None:
    """Demands nothing of a version."""


def promote(
    name: str,
    version: str,
    tags: Mapping[str, str],
    *,
    judged_against: str | None = ANY_CHAMPION,
    demand: Callable[[str], None] = _anything,
) -> Move:
    """Make `version` the champion and the champion before it `previous`; `tags` go on both versions.

    Promoting the champion again is no move, unless the last one was cut off before it was on record: then it counts.

    Args:
        judged_against: nothing moves where the champion is another one by now; None where there was none.
        demand: raises where the version may not be the champion by now: asked in the turn, which may come minutes
            after whatever the caller looked at, and in which an erasure marks versions as well.

    Raises:
        ChampionMovedError: it is.
        TrackingError: there is no such version, MLflow refuses, or another promotion holds the registry for minutes.
    """
    resolve(f"models:/{name}/{version}")
    with turn(name, tags.get(WHO_TAG, "")) as own:
        now = standing(name).champion
        if judged_against != ANY_CHAMPION and now not in (judged_against, version):
            then = "there was none" if judged_against is None else f"it was version {judged_against}"
            raise ChampionMovedError(
                f"the champion is {f'version {now}' if now else 'gone'} now, and when version {version} was judged "
                f"{then}; nothing was moved",
                where=f"registered model {name}",
                fix="do it again: the version is then judged against the one that is champion",
            )
        demand(version)
        if now is not None and now != version:
            # First `previous`: a crash between the two leaves a champion and loses no way back.
            _point(own, name, PREVIOUS, now)
        last = current_champion(name)
        if last is not None and last.version == version and last.is_on_record:
            return Move(int(last.move), version, version)
        return _make_champion(own, name, version, now, tags)


def roll_back(
    name: str,
    tags: Mapping[str, str],
    *,
    seen: Standing | None = None,
    demand: Callable[[str], None] = _anything,
) -> Move:
    """Make `previous` the champion again, and the champion `previous`.

    Two who roll back the same champion at once would come to it again, each sure to have left it, and who waited behind
    a promotion would undo that: what stands when the turn has come is to be what was to be left.

    Args:
        seen: what stood when the caller decided; default is what stands before the turn is waited for.
        demand: raises where the version may not be the champion by now; asked in the turn.

    Raises:
        ChampionMovedError: another version is champion or previous by now.
        TrackingError: there is nothing to go back to.
    """
    before = seen or standing(name)
    if before.previous is None:  # nor may there be a model of this name
        raise _nothing_before(name)
    with turn(name, tags.get(WHO_TAG, "")) as own:
        if (now := standing(name)) != before:
            raise ChampionMovedError(
                f"somebody promoted or rolled back meanwhile ({now} now; {before} when this rollback began); nothing "
                "was moved",
                where=f"registered model {name}",
                fix="look at the champion that there is now, and roll back again only if that is to be left, too",
            )
        if before.previous == before.champion:
            raise _nothing_before(name)
        demand(before.previous)
        # The new champion first: a crash between the two leaves the right champion.
        move = _make_champion(own, name, before.previous, before.champion, tags)
        if before.champion is not None:
            _point(own, name, PREVIOUS, before.champion)
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
        try:
            MlflowClient().set_registered_model_alias(name, alias, version)
        except MlflowException as error:
            if status_of(error) != 403:
                raise
            raise TrackingError(
                f"this account may not move {alias}, and nothing was moved: {reason_of(error)}",
                where=f"{name} version {version}",
                fix="with registry.approvals: 1 `pcc promote` asks an approver, who says `pcc approve`",
            ) from error


def _make_champion(own: Turn, name: str, version: str, before: str | None, tags: Mapping[str, str]) -> Move:
    _point(own, name, CHAMPION, version)
    client = MlflowClient()
    with asking(f"registered model {name}"):
        number = int(client.get_registered_model(name).tags.get(COUNT_TAG, "0")) + 1
        for each, state in ((version, "champion"), (before, "previous")):
            if each is not None and (state == "champion" or each != version):
                for key, value in {**tags, "pcc.state": state, MOVE_TAG: str(number)}.items():
                    client.set_model_version_tag(name, each, key, value)
        # Last: a move that was cut off before is made again under the same number.
        client.set_registered_model_tag(name, COUNT_TAG, str(number))
    return Move(number, before, version)


def _number(champion: Resolved) -> str:
    assert champion.version is not None, "an alias always points at a version"
    return champion.version
