"""The one place where lines of an audit log are written: a folder of files, each begun when the one before is full.

Several processes write one log: a lock orders them. A line is on the disk before `append` returns. What a crash leaves
half written stays, and the next line says so; what a full disk cuts off is taken back by the process that wrote it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pcc_pipeline.auditing.chain import (
    BEGUN,
    CONTINUED,
    DAMAGED,
    NOTHING_BEFORE,
    TORN,
    Anchor,
    Entry,
    Head,
    Line,
    Verdict,
    encode,
    parse,
    verify,
)
from pcc_pipeline.errors import StorageError
from pcc_pipeline.files import private_file, private_folder

_NAME, _LOCK = re.compile(r"audit-(\d{10})\.jsonl"), "lock"
# Longer than any line, so that one look at the end of a file suffices; those of earlier releases may be longer.
_BLOCK = 128 * 1024
# Others hold the lock for the time of a write.
_PATIENCE_SECONDS = 10.0
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class _End:
    """Where a log ends: `left` are bytes behind the last line that are none; `bare`: no line is in the newest file."""

    path: Path | None = None
    size: int = 0
    log: str = ""
    seq: int = 0
    hash: str = NOTHING_BEFORE
    left: bytes = b""
    bare: bool = False


class AuditLog:
    """The log of one folder.

    Args:
        folder: made with the first line, for its owner alone.
        rotate_bytes: a file of this size is closed.
        clock: tells the time, with its zone.
    """

    def __init__(
        self, folder: Path, rotate_bytes: int = 10 * MEGABYTE, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.folder, self._rotate, self._clock = folder, rotate_bytes, clock

    def append(self, entries: Sequence[Entry], *, durable: bool = True) -> Head:
        """Write a line for each entry; the end of the log then.

        Args:
            durable: on the disk, so that not even a loss of power takes them; else they outlive this process only.

        Raises:
            StorageError: none of them was written.
        """
        try:
            with self._alone():
                end = self._end()
                handle, head = self._write(end, entries)
            try:
                if durable:
                    os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._fault("written", error) from error
        return head

    def sync(self) -> None:
        """Put on the disk what was written and is not there yet.

        Raises:
            StorageError: that is not possible.
        """
        try:
            for path in self._paths()[-1:]:  # an earlier one was, before the next one was begun
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        except OSError as error:
            raise self._fault("written", error) from error

    def head(self) -> Head | None:
        """The end of the log; None where there is no line.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            end = self._end()
        except OSError as error:
            raise self._fault("read", error) from error
        return Head(end.log, end.seq, end.hash) if end.seq else None

    def lines(self) -> Iterator[Line | None]:
        """Every line, oldest first; None for one that is none.

        Raises:
            StorageError: it cannot be read.
        """
        for _, raw in self._files():
            for each in raw:
                yield parse(each.rstrip(b"\n"))

    def verify(self, anchors: Sequence[Anchor] = ()) -> Verdict:
        """Whether the log is as it was written.

        Raises:
            StorageError: it cannot be read.
        """
        return verify(self._files(), anchors)

    def _files(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        try:
            for path in self._paths():
                with path.open("rb") as file:
                    yield path.name, file
        except OSError as error:
            raise self._fault("read", error) from error

    def _paths(self) -> list[Path]:
        """Its files, oldest first."""
        try:
            return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        private_folder(self.folder)
        with private_file(self.folder / _LOCK).open("rb") as lock:
            until = time.monotonic() + _PATIENCE_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:  # stopped, or on a disk that hangs: the work does not wait for it
                        raise
                    time.sleep(0.002)
            yield

    def _end(self) -> _End:
        paths = self._paths()
        if not paths:
            return _End()
        path = paths[-1]
        size = path.stat().st_size
        for each in reversed(paths):
            last = _last_line(each)
            if last is None:
                continue
            line, left = last
            bare = each != path  # a process was killed when it had begun the newest one
            return _End(path, size, _log_of(each), line.seq, line.hash, path.read_bytes() if bare else left, bare)
        return _End(path, size, left=path.read_bytes(), bare=True)

    def _write(self, end: _End, entries: Sequence[Entry]) -> tuple[int, Head]:
        new = end.path is None or end.size >= self._rotate
        if new and end.path is not None:
            with end.path.open("rb") as full:  # no line of the next file may outlive one of this one
                os.fsync(full.fileno())
        log = end.log or secrets.token_hex(8)
        own, seq = [], end.seq
        if end.left:
            # Only lines have ends: what has none is the half of one. Each other counts, as if it had been one of ours.
            whole = end.left.count(b"\n")
            about = {"bytes": len(end.left), "sha256": hashlib.sha256(end.left).hexdigest()}
            own.append(Entry("", DAMAGED if whole else TORN, about, "noted"))
            seq += whole
        if new or end.bare:
            own.append(Entry("", CONTINUED if end.seq else BEGUN, {"log": log}, "done"))
        first, previous = seq + 1, end.hash
        content = b"\n" if end.left and not end.left.endswith(b"\n") and not new else b""
        for entry in [*own, *entries]:
            seq += 1
            line, previous = encode(entry, seq, previous, self._clock())
            content += line
        path = end.path if end.path is not None and not new else self.folder / f"audit-{first:010d}.jsonl"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _write_whole(handle, content, 0 if new else end.size)
            if new:
                _sync_folder(self.folder)
        except BaseException:
            os.close(handle)
            raise
        return handle, Head(log, seq, previous)

    def _fault(self, verb: str, error: OSError) -> StorageError:
        busy = isinstance(error, BlockingIOError)
        return StorageError(
            f"the audit log cannot be {verb}: {'another process holds it' if busy else error.strerror}",
            where=str(self.folder),
            fix="make room, mend its permissions, or set audit.folder; then run `pcc audit verify`",
        )


def _write_whole(handle: int, content: bytes, size: int) -> None:
    """Write all of it, or leave the file as long as it was."""
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
    except OSError:
        with contextlib.suppress(OSError):  # then it is a line that is half written, as a crash leaves it
            os.ftruncate(handle, size)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _last_line(path: Path) -> tuple[Line, bytes] | None:
    """The last line of a file, and what stands behind it that is no line; None where there is no line at its end."""
    size, length = path.stat().st_size, _BLOCK
    while True:
        with path.open("rb") as file:
            file.seek(max(size - length, 0))
            last = _last_in(file.read())
        if last is not None or length >= size:
            return last
        length *= 2


def _last_in(block: bytes) -> tuple[Line, bytes] | None:
    end = block.rfind(b"\n") + 1
    while end > 0:
        start = block.rfind(b"\n", 0, end - 1) + 1
        line = parse(block[start : end - 1])
        if line is not None:
            return line, block[end:]
        end = start
    return None


def _log_of(path: Path) -> str:
    """The id that a file's first lines tell."""
    with path.open("rb") as file:
        for raw in file:
            line = parse(raw.rstrip(b"\n"))
            if line is not None and line.what in (BEGUN, CONTINUED):
                return str(line.on.get("log", ""))
    return ""
