"""The manifest that a run leaves: who stood in the rows that it read, for whoever has the key."""

from __future__ import annotations

import hashlib
import logging
import os
from functools import cache

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.data.contract import CheckedBatch
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.persons.keys import Keys, Kind, read_keys
from pcc_pipeline.persons.manifest import NAME, Manifest, key_of
from pcc_pipeline.steps.inputs.split import Split
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.store.manifests import DIGEST_TAG, KEY_TAG

# Steps whose runs read rows of persons, and leave a manifest of them where there is a key.
READING_STEPS = ("embed", "train", "evaluate", "score", "monitor", "ab_test")
# The side of rows that break the contract.
REJECTED = "rejected"

logger = logging.getLogger(__name__)


def keys_of(params: Params) -> Keys:
    """The keys of the environment and of `lineage.key_file`.

    Raises:
        ConfigError: they cannot be read, or others may read them.
    """
    return read_keys(local_path(params.lineage.key_file), os.environ)


def hashed(params: Params, *, subject: str | None = None, case_id: str | None = None) -> dict[str, str]:
    """A person as a log may name them: keyed hashes, with the key's id before them; nothing without a key."""
    key = keys_of(params).writing
    if key is None:
        return {}
    names: tuple[tuple[Kind, str | None], ...] = (("subject", subject), ("case", case_id))
    return {kind: f"{key.id}:{key.hashes(kind, [label_text(name)]).hex()}" for kind, name in names if name is not None}


def new_manifest(params: Params) -> Manifest | None:
    """An empty manifest; None without a key, which is said once."""
    key = keys_of(params).writing
    if key is None:
        _say_that_there_is_no_key()
        return None
    return Manifest(key, params.data.subject_column)


def manifest_payloads(manifest: Manifest | None) -> list[payloads.Payload]:
    """The manifest as a run's file; the id of its key and its SHA-256 as tags."""
    return [] if manifest is None else payloads_of(manifest.to_bytes())


def payloads_of(content: bytes) -> list[payloads.Payload]:
    """The same of a manifest that is made already."""
    digest = hashlib.sha256(content).hexdigest()
    tags = {KEY_TAG: key_of(content, NAME), DIGEST_TAG: digest}
    return [payloads.Binary(NAME, content), payloads.Tags(tags)]


def training_manifest(params: Params, dataset: Dataset, split: Split, test_file: Dataset | None) -> Manifest | None:
    """Of a training: which side each row stood on, also those that were left out; test rows of another file too."""
    manifest = new_manifest(params)
    if manifest is not None:
        side_of_rows = split.record.frame()["split"].astype(str)
        manifest.add(dataset.frame, dataset.places, list(side_of_rows), params.data.path)
        add_rejected(manifest, dataset, params.data.path)
        if test_file is not None:
            manifest.add(test_file.frame, test_file.places, "test", str(params.data.test_path))
            add_rejected(manifest, test_file, str(params.data.test_path))
    return manifest


def add_batch(manifest: Manifest | None, checked: CheckedBatch, side: str, address: str) -> None:
    """The rows of a batch, and whose the rejected ones are: those are listed by their case ids."""
    if manifest is not None:
        manifest.add(checked.good, checked.places, side, address)
        whose, places = checked.whose
        if len(whose):
            manifest.add(whose, places, REJECTED, address)


def add_rejected(manifest: Manifest, dataset: Dataset, address: str) -> None:
    """Whose the rejected rows of a file are."""
    if dataset.whose is not None:
        manifest.add(*dataset.whose, REJECTED, address)


@cache
def _say_that_there_is_no_key() -> None:
    logger.info("no lineage key: a person is found by case id alone (`pcc lineage key` makes one)")
