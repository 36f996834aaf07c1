"""What was published of a registered version, by digest.

It stands in the tracking database, so whoever can write to a target alone cannot pass something else off as ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient

from pcc_pipeline.tracking.registry.versions import asking, tag_version

_TAG = "pcc.publication."


def addresses(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Where a version was published to, by its tags."""
    return tuple(dict.fromkeys(value for name, value in sorted(tags.items()) if name.startswith(_TAG)))


@dataclass(frozen=True)
class PublicationRecords:
    """The digests of the metadata.json files under which a registered version was published, a tag for each."""

    name: str
    version: str

    def knows(self, digest: str) -> bool:
        """Whether a publication with this digest of its metadata.json was recorded.

        Raises:
            TrackingError: there is no such version, or MLflow does not answer.
        """
        with asking(f"models:/{self.name}/{self.version}"):
            return _TAG + digest in MlflowClient().get_model_version(self.name, self.version).tags

    def add(self, digest: str, address: str) -> None:
        """Record a publication before it is placed under `address`.

        Raises:
            TrackingError: there is no such version, or MLflow does not answer.
        """
        if not self.knows(digest):
            tag_version(self.name, self.version, {_TAG + digest: address})
