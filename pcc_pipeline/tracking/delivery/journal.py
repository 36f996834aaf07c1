"""What MLflow could not be told, on disk until it can: a folder a process, in it a folder an operation, in their order.

The process holds a lock on its folder while it lives, which the system frees however it ends; so `resume` never takes
what a living process will write itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.files import private_folder, scratch_folder
from pcc_pipeline.sealing import streams
from pcc_pipeline.tracking.delivery.operations import DOCUMENTS, Operation, Registered, carry_out

_DOCUMENT, _OWNER, _DONE, _PARTIAL = "operation.json", "owner", ".done-", ".partial-"


class Journal:
    """The operations that one process could not carry out.

    Args:
        folder: made with the first operation, removed with the last.
        sealed: what is kept is sealed; it is read by who has the key.
    """

    def __init__(self, folder: Path, *, sealed: bool = False) -> None:
        self.folder, self._sealed = folder, sealed
        self._lock: IO[bytes] | None = None
        self._count = 0

    @classmethod
    def new(cls, root: Path, *, sealed: bool = False) -> Journal:
        """A journal for this process under `root`."""
        name = f"{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        return cls(root / name, sealed=sealed)

    @property
    def entries(self) -> list[Path]:
        """The folders of the operations, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))

    def keep(self, operation: Operation, files: Path | None) -> None:
        """Add an operation; the folder `files` is moved into the journal.

        Raises:
            TrackingError: it cannot be written here either.
        """
        try:
            self.own()
            self._count += 1
            partial = self.folder / f"{_PARTIAL}{self._count:06d}"
            if files is not None and self._sealed:
                _copied(files, partial, streams.seal)
                shutil.rmtree(files)
            elif files is not None:
                shutil.move(files, partial)
            partial.mkdir(exist_ok=True)
            # Python's JSON, unlike pydantic's, keeps a metric that is not a number.
            content = json.dumps(DOCUMENTS.dump_python(operation), ensure_ascii=False).encode()
            with (partial / _DOCUMENT).open("wb") as document:
                document.write(streams.sealed(content) if self._sealed else content)
                document.flush()
                os.fsync(document.fileno())
            # Whole or not at all, however the process ends.
            partial.rename(self.folder / f"{self._count:06d}")
        except OSError as error:
            raise TrackingError(
                f"MLflow is away, and what it should have been told cannot be kept on disk: {error.strerror}",
                where=str(self.folder),
                fix="make room, or set output.unlogged_dir to a folder that can be written; then run this again",
            ) from error

    def carry_out(self, entry: Path) -> tuple[Operation, Registered | None]:
        """Write one of `entries` to MLflow and forget it.

        Raises:
            SealedError: it is sealed by a key that is not here, or was changed.
            TrackingError: it cannot be read; else as `operations.carry_out`.
        """
        try:
            operation = DOCUMENTS.validate_json(streams.content_of(entry / _DOCUMENT))
        except (OSError, ValidationError) as error:
            raise TrackingError(
                "this is no operation that was kept for MLflow", where=str(entry), fix="see what it is; move it away"
            ) from error
        with _plain(entry) as folder:
            registered = carry_out(operation, folder, again=True)
        # Renamed first: what is half removed must not be read again.
        gone = entry.with_name(f"{_DONE}{entry.name}")
        entry.rename(gone)
        shutil.rmtree(gone)
        return operation, registered

    def close(self) -> None:
        """Let go; an empty journal leaves nothing behind."""
        if self._lock is None:
            return
        if not self.entries:
            shutil.rmtree(self.folder, ignore_errors=True)
            with _ignoring_not_empty():
                self.folder.parent.rmdir()
        self._lock.close()
        self._lock = None

    def own(self) -> None:
        """Lock the folder, which is made if it is not there, for this process.

        Raises:
            OSError: another process holds it, or it cannot be made.
        """
        if self._lock is not None:
            return
        private_folder(self.folder)
        lock = (self.folder / _OWNER).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise
        self._lock = lock


@contextmanager
def _plain(entry: Path) -> Iterator[Path]:
    """The folder of an operation as MLflow is to get it: itself, or a plain copy of one that is sealed."""
    if not streams.is_sealed(entry / _DOCUMENT):
        yield entry
        return
    with scratch_folder() as scratch:
        _copied(entry, scratch / entry.name, streams.unseal)
        yield scratch / entry.name


def _copied(source: Path, target: Path, copy: Callable[[Path, Path], None]) -> None:
    """A folder of copies that `copy` makes, file by file."""
    target.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.is_dir():
            _copied(path, target / path.name, copy)
        else:
            copy(path, target / path.name)


@contextmanager
def _ignoring_not_empty() -> Iterator[None]:
    try:
        yield
    except OSError:
        return  # other processes keep theirs there


def left_behind(root: Path) -> list[Path]:
    """The folders of processes that ended with something kept, oldest first."""
    return [folder for folder in folders(root) if _is_free(folder)]


def adopt(folder: Path) -> Journal | None:
    """The journal of a process that ended, owned by this one now; None if it lives, or another one was quicker."""
    journal = Journal(folder)
    try:
        journal.own()
    except OSError:
        return None
    return journal


def folders(root: Path) -> list[Path]:
    """The folders under `root` in which something is kept, of living processes too, oldest first."""
    return sorted(path.parent for path in root.glob(f"*/{_OWNER}")) if root.is_dir() else []


def _is_free(folder: Path) -> bool:
    try:
        with (folder / _OWNER).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
