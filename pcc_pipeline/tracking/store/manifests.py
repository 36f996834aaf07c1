"""Runs that left a manifest of who stood in their rows, and the versions that came of them, under whatever name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pcc_pipeline.errors import DataError
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.persons.manifest import NAME
from pcc_pipeline.tracking.registry.publications import addresses
from pcc_pipeline.tracking.registry.versions import VERSION_TAG, aliases_of, asking
from pcc_pipeline.tracking.store.paging import pages
from pcc_pipeline.tracking.store.past_runs import RecordedRun, runs_tagged

# The id of the key that the hashes of a run's manifest were made with.
KEY_TAG = "pcc.lineage_key"
# SHA-256 of the manifest: a tag lies where who can write files cannot change it.
DIGEST_TAG = "pcc.lineage_digest"


@dataclass(frozen=True)
class Descendant:
    """A registered version that a run made.

    Attributes:
        published: where it was published to.
    """

    name: str
    number: str
    pcc_version: str
    aliases: tuple[str, ...]
    published: tuple[str, ...]


def runs_with_manifest() -> list[RecordedRun]:
    """In every experiment, newest first, deleted runs too.

    Raises:
        TrackingError: MLflow does not answer.
    """
    return runs_tagged(KEY_TAG)


def manifest_of(run: RecordedRun) -> bytes | None:
    """The content of a run's manifest; None where its files were removed.

    Raises:
        DataError: it is not the one that the run left, so whoever was in it may be missing now.
        TrackingError: MLflow does not answer.
    """
    client = MlflowClient()
    with asking(f"{NAME} of run {run.run_id}"), scratch_folder() as folder:
        if NAME not in {file.path for file in client.list_artifacts(run.run_id)}:
            return None
        content = Path(client.download_artifacts(run.run_id, NAME, str(folder))).read_bytes()
    if hashlib.sha256(content).hexdigest() != run.tags.get(DIGEST_TAG):
        raise DataError(
            "the manifest was altered after it was logged",
            where=f"{NAME} of run {run.run_id}",
            fix="find out who changed it; search this run's predictions.parquet by case id",
        )
    return content


def versions_from(run_id: str) -> list[Descendant]:
    """The versions that a run made, of every registered model.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with asking(f"versions of run {run_id}"):
        made = list(pages(MlflowClient().search_model_versions, filter_string=f"run_id = '{run_id}'"))
        return [_descendant(version) for version in made]


def _descendant(version: ModelVersion) -> Descendant:
    number, tags = str(version.version), version.tags or {}
    aliases = aliases_of(version.name).get(number, ())
    return Descendant(version.name, number, tags.get(VERSION_TAG, ""), aliases, addresses(tags))
