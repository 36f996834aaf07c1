"""Reading what is published: the reference listing, and versions out of it, once every digest is right.

Others may write to a target, so all that lies there is text and bytes to compare: no file is ever unpickled.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcc_pipeline.encoder.sentence_encoder import file_sha256
from pcc_pipeline.errors import StorageError
from pcc_pipeline.monitoring.profile_file import NAME as PROFILE
from pcc_pipeline.storage.objects import ObjectStore, scratch

logger = logging.getLogger(__name__)

MODEL, FEATURES, METADATA = "model.joblib", "features.joblib", "metadata.json"
# What is not placed yet stands under names that begin so, which no reader looks at.
STAGING = ".staging-"
_VERSION = re.compile(r"v[0-9]{8}_[0-9]{6}")


def published_versions(store: ObjectStore) -> tuple[str, ...]:
    """The versions whose metadata.json matches their files, in ascending order.

    Every file is downloaded to find its digest. A version that is unfinished or was altered is logged and left out.
    """
    return tuple(version for version in _version_names(store) if _is_whole(store, version))


def greatest_version(store: ObjectStore) -> str | None:
    """What the downstream system should take up: the greatest version whose metadata.json matches its files."""
    return next((version for version in reversed(_version_names(store)) if _is_whole(store, version)), None)


def fetch_published(store: ObjectStore, version: str, folder: Path) -> dict[str, Any]:
    """Put a version's files into `folder`, once every digest is right; returns its metadata. Nothing is loaded.

    Raises:
        StorageError: there is no such version, it is unfinished or was altered.
    """
    check_version(version)
    stored = find(store, version, folder)
    if not stored.names:
        raise StorageError("there is no such published version", where=stored.address, fix="check the name")
    if not stored.whole:
        raise stored.refusal()
    return stored.metadata


@dataclass(frozen=True)
class StoredVersion:
    """What lies under a version's name.

    Attributes:
        names: of its objects.
        fault: why it is no published version; empty if it is one.
        digest: SHA-256 of its metadata.json, which holds those of the other files and the name of the folder; so it
            stands for the whole version.
    """

    address: str
    names: frozenset[str]
    fault: str
    metadata: dict[str, Any] = field(default_factory=dict)
    digest: str = ""

    @property
    def whole(self) -> bool:
        return not self.fault

    @property
    def finished(self) -> bool:
        """Whether its metadata.json, the last file, is there: what does not match it was altered."""
        return METADATA in self.names

    @property
    def files(self) -> dict[str, str]:
        return dict(self.metadata["files"])

    @property
    def where(self) -> str:
        run = self.metadata.get("run_id")
        # Whoever wrote the file chose it: only what looks like an id is repeated.
        return f"{self.address} (run {run})" if re.fullmatch("[0-9a-f]{1,64}", str(run)) else self.address

    def refusal(self) -> StorageError:
        version = self.address.rpartition("/")[2]
        if not self.finished:
            return StorageError(f"{version} is not wholly published", where=self.where, fix="publish it again")
        return StorageError(
            f"{version} was altered after it was published: {self.fault}",
            where=self.where,
            fix="do not use it: find out who changed it, remove its folder, and publish it again",
        )


def find(store: ObjectStore, version: str, folder: Path) -> StoredVersion:
    """Look at a version; its files are then in `folder`, those that metadata.json names."""
    address = f"{store.address}/{version}"
    names = frozenset(name.removeprefix(f"{version}/") for name in store.names(f"{version}/"))
    if METADATA not in names:
        return StoredVersion(address, names, "it has no metadata.json")
    store.download(f"{version}/{METADATA}", folder / METADATA)
    try:
        metadata = metadata_of(folder / METADATA)
    except ValueError as error:
        return StoredVersion(address, names, f"metadata.json {error}")
    files = metadata["files"]
    if metadata.get("published_as", version) != version:
        return StoredVersion(address, names, "its metadata.json belongs to another folder", metadata)
    if odd := sorted(names ^ {*files, METADATA}):
        return StoredVersion(address, names, f"its files are not those of metadata.json ({', '.join(odd)})", metadata)
    for name, digest in files.items():
        store.download(f"{version}/{name}", folder / name)
        if file_sha256(folder / name) != digest:
            return StoredVersion(address, names, f"{name} is not the file that metadata.json names", metadata)
    return StoredVersion(address, names, "", metadata, file_sha256(folder / METADATA))


def metadata_of(path: Path) -> dict[str, Any]:
    """The content of a metadata.json; ValueError, continuing the words "metadata.json", if it is none."""
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    files = metadata.get("files") if isinstance(metadata, dict) else None
    if not isinstance(files, dict) or MODEL not in files or not {*files} <= {MODEL, FEATURES, PROFILE}:
        raise ValueError("does not list the files")
    return dict(metadata)


def _is_whole(store: ObjectStore, version: str) -> bool:
    with scratch() as folder:
        stored = find(store, version, folder)
    if not stored.whole:
        logger.warning("%s is passed over: %s", stored.where, stored.fault)
    return stored.whole


def greatest_name(store: ObjectStore) -> str | None:
    """The greatest name that starts with `v`, whatever it is: a reader that checks nothing would take it up."""
    return max(store.folders("v"), default=None)


def _version_names(store: ObjectStore) -> list[str]:
    folders = {name.partition("/")[0] for name in store.names("v") if "/" in name}
    return sorted(name for name in folders if _VERSION.fullmatch(name))


def check_version(version: str) -> None:
    """StorageError if `version` is no version's name."""
    if not _VERSION.fullmatch(version):
        raise StorageError(f"{version!r} is no version name", fix="write it as in v20260131_235959")
