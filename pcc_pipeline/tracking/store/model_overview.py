"""How the model that serves stands: the champion with its tags, and the newest runs that say something of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pcc_pipeline.tracking.delivery.preflight import demand_server
from pcc_pipeline.tracking.registry.champion import CHALLENGER, CHAMPION
from pcc_pipeline.tracking.registry.versions import VERSION_TAG, aliases_of, versions_of
from pcc_pipeline.tracking.store.past_runs import RecordedRun, newest_of_step, run_of


@dataclass(frozen=True)
class AliasedVersion:
    """A registered version: its number, its name, and all its tags."""

    number: str
    name: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class ModelOverview:
    """A registered model at a glance.

    Attributes:
        versions: how many it has.
        champion, challenger: None where the alias is not set.
        moved: the run that made the champion what it is; None where nothing says so.
        watched: the newest `monitor` of the champion that ended well.
        monitor, retrain: the newest of all, however it ended.
    """

    versions: int
    champion: AliasedVersion | None
    challenger: AliasedVersion | None
    moved: RecordedRun | None
    watched: RecordedRun | None
    monitor: RecordedRun | None
    retrain: RecordedRun | None


def model_overview(name: str) -> ModelOverview:
    """Of the registered model of this name; all of it is nothing where there is none.

    Raises:
        TrackingError: there is no store, or MLflow does not answer.
    """
    demand_server(create=False)
    versions = versions_of(name)
    aliases = aliases_of(name) if versions else {}

    def of_alias(alias: str) -> AliasedVersion | None:
        for version in versions:
            number = str(version.version)
            if alias in aliases.get(number, ()):
                return AliasedVersion(number, version.tags.get(VERSION_TAG, ""), dict(version.tags))
        return None

    champion = of_alias(CHAMPION)
    moved = watched = None
    if champion is not None:
        moved = run_of(champion.tags["pcc.move_run"]) if "pcc.move_run" in champion.tags else None
        watched = newest_of_step("monitor", {VERSION_TAG: champion.name}, finished=True)
    return ModelOverview(
        versions=len(versions),
        champion=champion,
        challenger=of_alias(CHALLENGER),
        moved=moved,
        watched=watched,
        monitor=newest_of_step("monitor"),
        retrain=newest_of_step("retrain"),
    )
