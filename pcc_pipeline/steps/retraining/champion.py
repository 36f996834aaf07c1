"""The champion as `retrain` looks at it: what it learned, and whether all that follows its promotion was done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property

from pcc_pipeline.data.split_record import SplitRecord
from pcc_pipeline.tracking.registry.champion import CurrentChampion, current_champion
from pcc_pipeline.tracking.registry.versions import VERSION_TAG
from pcc_pipeline.tracking.runs import TrainingRun, read_split, read_training_run


@dataclass(frozen=True)
class Champion:
    """The version, and its training."""

    current: CurrentChampion
    training: TrainingRun

    @property
    def version(self) -> str:
        return self.current.version

    @property
    def pcc_version(self) -> str:
        return self.training.tags.get(VERSION_TAG, "")

    @property
    def name(self) -> str:
        return f"version {self.version} ({self.pcc_version})"

    @property
    def trained(self) -> datetime:
        """When its training began."""
        return datetime.strptime(self.pcc_version, "v%Y%m%d_%H%M%S").replace(tzinfo=UTC)

    @property
    def day(self) -> date:
        """That day (UTC)."""
        return self.trained.date()

    @cached_property
    def split(self) -> SplitRecord | None:
        """Where its rows went; None of a training that kept no such record."""
        return read_split(self.training)


def read_champion(name: str) -> Champion | None:
    """None while there is none.

    Raises:
        TrackingError: MLflow does not answer, or the champion has no training record.
    """
    champion = current_champion(name)
    return None if champion is None else Champion(champion, read_training_run(champion.run_id))
