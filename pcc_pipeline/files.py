"""Files and folders on this machine: for their owner alone, written whole or not at all, and swept after a crash.

What we keep holds customers' texts, or what was made of them. A file or folder that is only there for a while carries
the mark of its process in its name, so that the next one removes what a killed process left.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pcc_pipeline.errors import StorageError
from pcc_pipeline.interruption import protected, temporary_folder
from pcc_pipeline.processes import process_lives, process_mark

PARTIAL, _SCRATCH = ".partial-", "pcc-"
# `marked`: the owner's mark, where the system tells one, the time, and what makes it unique.
_BOOT = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_MARKED = re.compile(rf"({_BOOT}\.\d+\.\d+\.\d+|unknown)\.(\d+)\.[0-9a-f]{{8}}")
# What a process of another machine, or of this one before its last boot, left is removed after a week.
_OLD_SECONDS = 7 * 24 * 3600.0

# What file systems without hard links answer.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

logger = logging.getLogger(__name__)


def private_folder(folder: Path) -> Path:
    """The folder, made with its parents if it is not there; what is made is for its owner alone, what is there stays.

    Raises:
        OSError: it cannot be made.
    """
    if not folder.is_dir():
        private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def private_file(path: Path) -> Path:
    """The file, made empty and for its owner alone if it is not there; what is there stays.

    Raises:
        OSError: it cannot be made.
    """
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return path


@contextlib.contextmanager
def replacing(path: Path, *, shared: bool = False, suffix: str | None = None, first: bool = False) -> Iterator[Path]:
    """A path to write to, which takes the name `path` only when the block ends well: nothing half-written stays.

    Only a regular file is replaced; other names of it (hard links) keep the old content. A symbolic link is followed:
    what it leads to is replaced, and the link stays. A device, a pipe or standard output is written to.

    Args:
        shared: the file is for others too: as readable as any file that the user makes, or as the one that it replaces.
            Else it is for its owner alone.
        suffix: of the path that is written to, where a reader of the folder goes by suffixes; None for the file's own.
        first: who takes the name first has it; a file that stands there by then stays, and what was written is dropped.

    Raises:
        OSError: there is a folder of this name, the link may not be followed, or it cannot be written.
    """
    target = _followed(path)
    private_folder(target.parent)
    if _is_written_to(target):
        with scratch_folder() as folder:
            partial = folder / f"stream{path.suffix}"
            yield partial
            with partial.open("rb") as source, target.open("wb") as stream:
                shutil.copyfileobj(source, stream)
        return
    if target.is_dir():
        raise IsADirectoryError(21, "there is a folder of this name", str(path))
    sweep(target.parent, PARTIAL)
    partial = target.parent / f"{marked(PARTIAL)}{path.suffix if suffix is None else suffix}"
    with protected() as section:  # but for the writing itself
        # No more than 0600 until it is whole, whoever it is for.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with section.lifted():
                yield partial
            partial.chmod(_mode_of(target) if shared else 0o600)
            if first:
                _take_if_free(partial, target)
            else:
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _take_if_free(partial: Path, target: Path) -> None:
    try:
        target.hardlink_to(partial)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system that has no second names leaves a moment between the look and the taking.
        if not target.exists():
            partial.replace(target)


def write_durably(path: Path, text: str) -> None:
    """Put a text into a file for its owner alone, as `replacing` does, and onto the disk.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
        with partial.open("rb") as written:
            os.fsync(written.fileno())


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for its owner alone; what killed processes left beside it is removed.

    Raises:
        OSError: it cannot be made.
    """
    sweep(temporary_place(), _SCRATCH)
    with temporary_folder(f"{marked(_SCRATCH)}.") as folder:
        yield folder


@contextlib.contextmanager
def own_temporary_files() -> Iterator[None]:
    """What this process and its libraries put where temporary files go stands in a folder that the process removes.

    A signal raises between any two lines, also where MLflow has made a folder and not noted yet that it is to go. The
    folder goes last at the end of the process: libraries have functions of the end that remove their own. A killed
    process's is swept as every scratch folder is. Where it cannot be made, all stays as it was.
    """
    around = tempfile.tempdir
    with contextlib.suppress(OSError):  # who needs a file there says so
        tempfile.tempdir = _folder_of_this_process(str(temporary_place()), os.getpid())
    try:
        yield
    finally:
        tempfile.tempdir = around


@cache
def _folder_of_this_process(place: str, process: int) -> str:
    folder = tempfile.mkdtemp(prefix=f"{marked(_SCRATCH)}.", dir=place)

    def remove() -> None:
        if os.getpid() == process:  # and not one that was forked off
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def temporary_place() -> Path:
    """Where temporary files go on this machine, such as /tmp or what TMPDIR names.

    Raises:
        OSError: there is no such folder that can be written.
    """
    folder = Path(tempfile.gettempdir())
    return folder.parent if folder.name.startswith(_SCRATCH) and _MARKED.search(folder.name) else folder


def no_temporary_room(error: OSError) -> StorageError:
    """What to tell of a failure to write temporary files."""
    return StorageError(
        f"cannot write temporary files: {error.strerror or error}",
        where=str(temporary_place()),
        fix="make space there, or point TMPDIR elsewhere",
    )


def marked(prefix: str) -> str:
    """A new name that begins with `prefix` and carries the mark of this process and the time; see `is_left`."""
    owner = process_mark().replace("/", ".") or "unknown"
    return f"{prefix}{owner}.{time.time():.0f}.{uuid.uuid4().hex[:8]}"


def is_left(name: str) -> bool:
    """Whether what `marked` named was left by a process that is no more, or by one elsewhere, a week ago."""
    match = _MARKED.search(name)
    if match is None:
        return False
    alive = process_lives(match[1].replace(".", "/"))
    return alive is False or (alive is None and time.time() - int(match[2]) > _OLD_SECONDS)


@cache  # one look at a folder a process
def sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes left in a folder under names that begin with `prefix`; see `is_left`."""
    try:
        left = [path for path in folder.glob(f"{prefix}*") if is_left(path.name)]
    except OSError:  # a folder that may be written and not listed
        return
    for path in left:
        try:
            if path.lstat().st_uid != os.geteuid():  # root sees to its own alone, too
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:  # it is in nobody's way
            logger.debug("%s, which a process left that is no more, stays: %s", path, error.strerror)
        else:
            logger.debug("%s, which a process left that is no more, is removed", path)


def _mode_of(target: Path) -> int:
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    # What a new file gets, by umask and by the folder's own rules; who asks for the mask changes it, for all threads.
    probe = target.parent / marked(PARTIAL)
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
        probe.unlink()


def _followed(path: Path) -> Path:
    """What a link leads to.

    Where everybody may write and nobody may remove another's files, as in /tmp, a link of somebody else is not
    followed: Linux' own rule (fs.protected_symlinks) for whoever opens it.
    """
    if not path.is_symlink() or _is_written_to(path):
        return path
    folder, link = path.parent.stat(), path.lstat()
    trusted = link.st_uid in (os.geteuid(), folder.st_uid)
    if not trusted and folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH:
        raise PermissionError(1, "this is somebody else's link, in a folder that all may write to", str(path))
    return Path(os.path.realpath(path))


def _is_written_to(path: Path) -> bool:
    """A device, a pipe or a socket; or standard output under one of its names, whatever it was turned to."""
    if path.absolute().parts[1:2] in (("dev",), ("proc",)) and not path.absolute().is_relative_to("/dev/shm"):
        return path.exists() and not path.is_dir()
    return path.exists() and not path.is_file() and not path.is_dir()
