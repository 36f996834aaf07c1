"""Publishing a model so that it is the one that the downstream system takes up: under the greatest version name.

A version folder is never overwritten or removed, so a model that comes back, by a rollback or by promoting an older
version, is published once more under a name of its own, made of the time of that. Its `model_version` stays that of
the model, so that predictions can be traced to it; `published_as` tells the folder.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pcc_pipeline.errors import StorageError
from pcc_pipeline.files import marked
from pcc_pipeline.publishing.publish import Publication, Records, publish
from pcc_pipeline.publishing.read import STAGING, check_version, find, greatest_name
from pcc_pipeline.storage.objects import ObjectStore, scratch

logger = logging.getLogger(__name__)

_FORM = "v%Y%m%d_%H%M%S"
# Two publishers that choose one name in one second: the second chooses again.
_ATTEMPTS = 3


def publish_newest(
    store: ObjectStore,
    classifier: Any,
    lexical: Any | None,
    metadata: Mapping[str, Any],
    records: Records | None = None,
    now: datetime | None = None,
    profile: bytes | None = None,
) -> Publication:
    """Publish a model, unless it is the greatest already; arguments and errors as of `publication.publish`.

    Args:
        now: the time that a name is made of, where the model's own version is not the greatest; default is this moment.
    """
    check_version(version := str(metadata["model_version"]))
    for attempt in range(_ATTEMPTS):
        before = greatest_name(store)
        name = _name_for(store, version, now or datetime.now(UTC))
        try:
            return publish(store, name, classifier, lexical, metadata, records, profile)
        except StorageError:
            if attempt == _ATTEMPTS - 1 or greatest_name(store) == before:
                raise
            logger.info("another publisher took %s; choosing another name", name)
    raise AssertionError("the last attempt returns or raises")


def check_writable(store: ObjectStore, version: str) -> None:
    """Choose a name for a model's version, and write and remove a small file under a name that no reader looks at.

    Raises:
        StorageError: the store cannot be listed or written, or no name can be the greatest there.
    """
    _name_for(store, version, datetime.now(UTC))
    probe = marked(f"{STAGING}probe-")
    with scratch() as folder:
        (folder / "probe").write_bytes(b"")
        store.upload(folder / "probe", f"{probe}/probe")
    store.remove_folder(probe)


def _name_for(store: ObjectStore, version: str, now: datetime) -> str:
    entries = store.folders("v")
    greatest = max(entries, default=None)
    if greatest is None or version > greatest or (version == greatest and entries[greatest] in ("", "an empty folder")):
        return version
    after = _second_after(greatest, store.address)
    address = f"{store.address}/{greatest}"
    if entries[greatest]:
        logger.warning("%s is %s, which the downstream system takes up until now", address, entries[greatest])
        return max(now.astimezone(UTC), after).strftime(_FORM)
    with scratch() as folder:
        stored = find(store, greatest, folder)
    if stored.whole and stored.metadata.get("model_version") == version:
        return greatest
    if stored.finished and not stored.whole:
        logger.warning("%s was altered after it was published: %s; find out who changed it", stored.where, stored.fault)
    elif not stored.finished:
        logger.warning("%s was never wholly published, but the downstream system takes it up until now", address)
    return max(now.astimezone(UTC), after).strftime(_FORM)


def _second_after(name: str, address: str) -> datetime:
    try:
        check_version(name)
        return datetime.strptime(name, _FORM).replace(tzinfo=UTC) + timedelta(seconds=1)
    except (StorageError, ValueError, OverflowError) as error:
        raise StorageError(
            f"the downstream system would take up the folder {name} before any new version: it goes by the greatest "
            "name that starts with v",
            where=address,
            fix="find out what that folder is, and remove or rename it",
        ) from error
