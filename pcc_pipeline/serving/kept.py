"""Versions out of the registry, kept on this machine, so that what serves now can be served without it.

A folder holds each version's bundle under the SHA-256 of its manifest, and for each alias a file that names what it
stood for last. A bundle is there whole or not at all, and is checked each time that it is read.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pcc_pipeline.errors import ModelError, StorageError
from pcc_pipeline.files import PARTIAL, marked, private_folder, sweep, write_durably
from pcc_pipeline.tracking.logged_models.bundle import open_bundle
from pcc_pipeline.tracking.logged_models.log_and_load import StoredBundle, TrainedModel

_DIGEST_LETTERS = 64
# Another process may have brought a bundle and be about to say that it serves it.
_NEW_SECONDS = 300.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedBundle:
    """What an alias, or an address, stood for: a bundle's digest, the model's own address, and its run.

    `erase` goes by the run, to find the copies of models that learned from what is erased.
    """

    digest: str
    model_uri: str
    run_id: str


class KeptVersions:
    """The folder of what is served. Processes may share it.

    Raises:
        StorageError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._written():
            private_folder(folder)
            sweep(folder, PARTIAL)

    def last(self, named: str) -> ServedBundle | None:
        """What was served under a name when it was last known; None where nothing of it is kept."""
        try:
            bundle = ServedBundle(**json.loads(self._note(named).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return bundle if self._bundle(bundle.digest).is_dir() else None

    def remember(self, named: str, bundle: ServedBundle) -> None:
        """This is what is served under that name now.

        Raises:
            StorageError: it cannot be written.
        """
        if self.last(named) != bundle:
            with self._written():
                write_durably(self._note(named), json.dumps(asdict(bundle)) + "\n")

    def forget(self, named: str) -> None:
        """Nothing is served under that name any more.

        Raises:
            StorageError: it cannot be removed.
        """
        with self._written():
            self._note(named).unlink(missing_ok=True)

    def bring(self, stored: StoredBundle) -> tuple[TrainedModel, Path]:
        """The model of a bundle, and the folder that it lies in: as kept, else out of the artifact store.

        Raises:
            ModelError: it is not in the store, incomplete or altered; nothing of it stays.
            StorageError: the disk is full, or the folder cannot be written.
        """
        target = self._bundle(stored.digest)
        if target.is_dir():
            try:
                return self.open(stored.digest, stored.where)
            except (ModelError, OSError) as error:
                logger.warning("the copy of the model in %s is damaged (%s): it is made anew", target, error)
                with self._written():
                    shutil.rmtree(target)
        partial = self._folder / marked(PARTIAL)
        with self._written():
            private_folder(self._folder)  # somebody may have removed it
            partial.mkdir(mode=0o700)
            try:
                bundle = stored.download(partial)
                model = open_bundle(bundle, stored.digest, stored.where)
                try:
                    bundle.rename(target)
                except OSError:
                    # Another process was faster, and what it put there was checked as this was.
                    if not target.is_dir():
                        raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return model, target

    def open(self, digest: str, where: str) -> tuple[TrainedModel, Path]:
        """The model of a bundle that is kept, and the folder that it lies in.

        Raises:
            ModelError: it is incomplete or altered.
        """
        return open_bundle(self._bundle(digest), digest, where), self._bundle(digest)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the version that is served cannot be kept here: {error.strerror or error}",
                where=f"serving.models_dir: {self._folder}",
                fix="make room or mend the folder's permissions, or name another folder",
            ) from error

    def _bundle(self, digest: str) -> Path:
        return self._folder / digest

    def _note(self, named: str) -> Path:
        # An address has signs that no file's name may have.
        safe = "".join(sign if sign.isalnum() or sign in "-_." else f"%{ord(sign):02X}" for sign in named)
        return self._folder / f"{safe}.json"

    def clear(self) -> None:
        """Remove bundles that no name stands for any more: a version that was taken back must not lie here for ever."""
        named: set[Any] = set()
        for note in self._folder.glob("*.json"):
            try:
                named.add(json.loads(note.read_text(encoding="utf-8"))["digest"])
            except (OSError, ValueError, KeyError, TypeError):
                note.unlink(missing_ok=True)
        for folder in self._folder.glob("*"):
            if len(folder.name) == _DIGEST_LETTERS and folder.name not in named and _age(folder) > _NEW_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:  # another process removed it
        return 0.0
