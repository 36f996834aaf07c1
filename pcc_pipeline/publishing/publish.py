"""Published models, as the downstream system reads them: folders `<target>/vYYYYMMDD_HHMMSS/`.

In each are `model.joblib`, `features.joblib` (unless the model takes whole vectors), `reference_profile.npz` (unless
the version has none) and `metadata.json`, with the SHA-256 of the others.

A version counts as published when its `metadata.json` matches its files: `published_versions` is the reference
listing. All files are first written to `.staging-<version>-…/`, which no reader looks at, and then placed under the
version's name: a crash while they are written or sent leaves nothing that starts with `v`.

- In a local folder placing is one renaming: no reader at all can see a part.
- A bucket cannot rename folders. Placing is one copy inside the service for each file, `model.joblib` first and
  `metadata.json` last. A reader that does not check `metadata.json` could, between these copies (or for longer, if
  the publisher dies there, until somebody publishes the version again), take up a version that has a whole and right
  `model.joblib`, but neither `features.joblib` nor `metadata.json` yet. It can never get a part of a file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pcc_pipeline.encoder.sentence_encoder import file_sha256
from pcc_pipeline.errors import StorageError
from pcc_pipeline.files import is_left, marked
from pcc_pipeline.interruption import protected
from pcc_pipeline.monitoring.profile_file import NAME as PROFILE
from pcc_pipeline.publishing.joblib_files import check_classifier, write_plain
from pcc_pipeline.publishing.read import (
    FEATURES,
    METADATA,
    MODEL,
    STAGING,
    StoredVersion,
    check_version,
    fetch_published,
    find,
    greatest_version,
    metadata_of,
    published_versions,
)
from pcc_pipeline.storage.objects import ContentionError, ObjectStore, scratch
from pcc_pipeline.waiting import Patience

__all__ = [
    "READ_DOWNSTREAM",
    "Publication",
    "Records",
    "fetch_published",
    "greatest_version",
    "publish",
    "published_versions",
]

logger = logging.getLogger(__name__)

READ_DOWNSTREAM = ("model_version", "embedding_model", "trained_on", "classifier")
# For a version that another process is placing at this moment.
_PATIENCE_SECONDS = 4.0


class Records(Protocol):
    """The digests of what was published, kept where who writes to a target cannot change them."""

    def knows(self, digest: str) -> bool:
        """Whether `add` was called with this digest of a metadata.json."""
        ...

    def add(self, digest: str, address: str) -> None:
        """Keep the digest of the metadata.json that is about to be placed under `address`."""
        ...


@dataclass(frozen=True)
class Publication:
    """A published version.

    Attributes:
        files: name -> SHA-256, as in its metadata.json.
        already_there: it had been published before, and nothing was changed.
        completed: an unfinished publication of this version was found and finished.
    """

    version: str
    address: str
    files: dict[str, str]
    already_there: bool
    completed: bool = False


def publish(
    store: ObjectStore,
    version: str,
    classifier: Any,
    lexical: Any | None,
    metadata: Mapping[str, Any],
    records: Records | None = None,
    profile: bytes | None = None,
) -> Publication:
    """Publish a model as `version`; if the same model is published already, change nothing.

    What is there already is the same model if `records` know the digest of its metadata.json, or if its files are, byte
    for byte, those that would be written now; and if the metadata agree as far as the downstream system reads them. The
    metadata.json that was written first stands.

    Args:
        version: the folder's name. It differs from the model's own `model_version` where an older model is published
            again, so that the downstream system takes it up (see `storage.succession`).
        classifier: fitted, over 584 numbers.
        lexical: the fitted lexical half; None for a model that takes whole vectors.
        metadata: JSON values; `published_as` and `files` are added.
        profile: content of the file by which whoever runs the model can watch it; None where there is none.
        records: of this model; None where none are kept, so that only equal bytes count.

    Raises:
        StorageError: the target cannot be written, or holds another model, or altered files, under this version.
        ModelError: the downstream system could not use this model.
    """
    _check_request(version, metadata)
    check_classifier(classifier)
    with scratch() as folder:
        parts = {MODEL: classifier} if lexical is None else {MODEL: classifier, FEATURES: lexical}
        for name, part in parts.items():
            write_plain(part, folder / name)
        names = [*parts]
        if profile is not None:
            (folder / PROFILE).write_bytes(profile)
            names.append(PROFILE)
        files = {name: file_sha256(folder / name) for name in names}
        _write_metadata({**metadata, "published_as": version, "files": files}, folder / METADATA)
        return _settled(store, version, folder, metadata_of(folder / METADATA), records)


def _settled(
    store: ObjectStore, version: str, folder: Path, metadata: dict[str, Any], records: Records | None
) -> Publication:
    """Place what lies in `folder` unless it is there, and see that it is; others may do the same meanwhile."""
    placed = contended = completed = False
    patience = Patience(_PATIENCE_SECONDS, first=0.2, longest=2.0)
    while True:
        with scratch() as copy:
            stored = find(store, version, copy)
        if stored.whole:
            _refuse_another_model(stored, metadata, records)
            if records is not None:
                records.add(stored.digest, stored.address)
            _clear_leftovers(store, version)
            return Publication(version, stored.address, stored.files, not placed, completed)
        if stored.finished and not placed and not contended:
            raise stored.refusal()
        if not stored.finished:
            completed |= _reported_as_unfinished(stored, metadata)
            # Before it is there: so a publisher that dies in between leaves nothing that is unknown.
            if records is not None:
                records.add(file_sha256(folder / METADATA), stored.address)
            try:
                _place(store, version, folder, [*metadata["files"], METADATA])
                placed = True
                continue
            except ContentionError:
                contended = True
            except StorageError:
                # Another publisher that was quicker removes what it finds unfinished, our staging folder too.
                if not _there_now(store, version):
                    raise
                contended = True
        if not patience.wait():
            raise StorageError(
                f"{version} does not come out whole: another process publishes another model under this name",
                where=stored.where,
                fix="end the other publication, remove the version's folder, and publish it again",
            )


def _place(store: ObjectStore, version: str, folder: Path, order: list[str]) -> None:
    staging = marked(_staging_prefix(version))
    # A signal may come between two uploads, and neither amid the placing nor the clearing up.
    with protected() as section:
        try:
            with section.lifted():
                for name in order:
                    store.upload(folder / name, f"{staging}/{name}")
            store.place_folder(staging, version, order)
        finally:
            _remove(store, staging)


def _reported_as_unfinished(stored: StoredVersion, metadata: Mapping[str, Any]) -> bool:
    if strange := sorted(stored.names - {*metadata["files"], METADATA}):
        raise StorageError(
            f"the folder of this version holds files that do not belong to it: {', '.join(strange)}",
            where=stored.address,
            fix="remove the folder, and publish again",
        )
    if stored.names:
        logger.warning("%s was not wholly published; it is being completed", stored.address)
    return bool(stored.names)


def _refuse_another_model(stored: StoredVersion, metadata: Mapping[str, Any], records: Records | None) -> None:
    if any(stored.metadata.get(name) != metadata.get(name) for name in READ_DOWNSTREAM):
        raise StorageError(
            "another model is published under this version, and a published version is never overwritten",
            where=stored.where,
            fix="publish this model under its own version",
        )
    known = records is not None and records.knows(stored.digest)
    if not known and stored.files != metadata["files"]:
        raise StorageError(
            "what is published under this version is not what was published from here: its files are not those of the "
            "model, and MLflow has no record of them",
            where=stored.where,
            fix="do not load them: find out who wrote there, remove the folder, and publish again (so too where an "
            "older pcc_pipeline published it with other packages, and kept no record)",
        )


def _there_now(store: ObjectStore, version: str) -> bool:
    with suppress(StorageError):
        return f"{version}/{METADATA}" in store.names(f"{version}/")
    return False


def _staging_prefix(version: str) -> str:
    return f"{STAGING}{version}-"


def _clear_leftovers(store: ObjectStore, version: str) -> None:
    """Remove what unfinished publications left: those of this version, and those of a process that is no more."""
    for folder in sorted(store.folders(STAGING)):
        if folder.startswith(_staging_prefix(version)) or is_left(folder):
            logger.warning("%s/%s, left by an unfinished publication, is removed", store.address, folder)
            _remove(store, folder)


def _remove(store: ObjectStore, folder: str) -> None:
    try:
        store.remove_folder(folder)
    except StorageError as error:  # it is in nobody's way, and must not hide how the publication went
        logger.warning("%s/%s stays: %s", store.address, folder, error.what)


def _check_request(version: str, metadata: Mapping[str, Any]) -> None:
    check_version(version)
    if missing := [name for name in READ_DOWNSTREAM if name not in metadata]:
        raise StorageError(f"the metadata of {version} lack what the downstream system reads: {', '.join(missing)}")


def _write_metadata(metadata: dict[str, Any], path: Path) -> None:
    try:
        text = json.dumps(metadata, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StorageError(f"the metadata cannot be written as JSON: {error}", where=path.name) from error
    path.write_text(f"{text}\n", encoding="utf-8")
