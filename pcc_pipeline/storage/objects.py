"""One way to list, read and write objects, whether they lie in a folder or in a bucket."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from pcc_pipeline import files
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.errors import StorageError
from pcc_pipeline.masking import masked

BUCKET_SCHEME = "gs://"
# A bucket that does not answer must not hold a run for minutes (the client's own retries wait 120 s and more).
_TIMEOUT_SECONDS = 30.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ContentionError(StorageError):
    """Another process wrote the same objects meanwhile."""


class AbsentError(StorageError):
    """There is no such object or bucket."""


class ObjectStore(Protocol):
    """A flat space of objects, named by relative paths with forward slashes."""

    address: str

    def names(self, prefix: str = "") -> list[str]:
        """The names that start with `prefix`, sorted."""
        ...

    def folders(self, prefix: str = "") -> dict[str, str]:
        """What a reader that goes by the names of folders finds at the top.

        Each name that starts with `prefix`, and what it is where it is no folder with files in it (`a link`, `a file`,
        `an empty folder`), else "".

        Raises:
            StorageError: it cannot be listed.
        """
        ...

    def download(self, name: str, target: Path) -> None:
        """Copy an object to a new local file; StorageError if there is none."""
        ...

    def upload(self, source: Path, name: str, *, first: bool = False) -> None:
        """Copy a local file to an object; readers see the old object or the whole new one, never a part.

        Args:
            first: an object that is there by then stays, and nothing is copied.
        """
        ...

    def reading(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """An object to read from, at any place of it; StorageError if there is none."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object; none is no error."""
        ...

    def place_folder(self, source: str, target: str, order: Sequence[str]) -> None:
        """Give the objects `source/<name>` the names `target/<name>`.

        In a local folder all at once, in a bucket one after the other in `order`. The last of `order` says that the
        folder is whole; while it is not there, what an earlier attempt left in `target` is replaced. What stays under
        `source` is the caller's to remove.

        Raises:
            ContentionError: `target` is whole already, or another process is placing objects there.
        """
        ...

    def remove_folder(self, name: str) -> None:
        """Remove every object `name/…`; none is no error."""
        ...


class FolderStore:
    """Objects as files under a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = str(folder)

    def names(self, prefix: str = "") -> list[str]:
        names = []
        # Unlike rglob, walk minds no folder that goes away meanwhile, as other publishers' staging folders do.
        for parent, _, inside in os.walk(self._folder):
            names += [(Path(parent) / name).relative_to(self._folder).as_posix() for name in inside]
        return sorted(name for name in names if name.startswith(prefix) and "/.partial-" not in f"/{name}")

    def folders(self, prefix: str = "") -> dict[str, str]:
        try:
            with os.scandir(self._folder) as entries:
                return {entry.name: _oddity(entry) for entry in entries if entry.name.startswith(prefix)}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise _failure("list", self.address, error) from error

    def download(self, name: str, target: Path) -> None:
        with self.reading(name) as source:
            try:
                with target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            except OSError as error:
                raise _failure("read", f"{self.address}/{name}", error) from error

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        try:
            # A link or a pipe, which others could have put here, would lead elsewhere or never end.
            handle = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            source = os.fdopen(handle, "rb")
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                source.close()
                raise OSError(errno.EINVAL, "it is no regular file")
        except OSError as error:
            raise _failure("read", f"{self.address}/{name}", error) from error
        with source:
            yield source

    def upload(self, source: Path, name: str, *, first: bool = False) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, shared=True, first=first) as partial:
                shutil.copyfile(source, partial)
        except OSError as error:
            raise _failure("write", str(path), error) from error

    def remove(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _failure("remove", f"{self.address}/{name}", error) from error

    def place_folder(self, source: str, target: str, order: Sequence[str]) -> None:
        old, new = self._path(source), self._path(target)
        try:
            for name in order:  # else a power cut after the renaming could leave empty files under the new name
                _flush(old / name)
            try:
                old.rename(new)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if (new / order[-1]).exists():
                raise _contended(str(new))
            for name in order:
                (old / name).replace(new / name)
        except OSError as error:
            raise _failure("write", str(new), error) from error

    def remove_folder(self, name: str) -> None:
        try:
            shutil.rmtree(self._path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failure("remove", f"{self.address}/{name}", error) from error

    def _path(self, name: str) -> Path:
        return self._folder / _inside(name, self.address)


class BucketStore:
    """Objects of a Google Cloud Storage bucket under a prefix.

    Credentials are google-cloud-storage's own affair (application default credentials); with
    STORAGE_EMULATOR_HOST set the emulator there is used, without credentials.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.address = f"{BUCKET_SCHEME}{bucket}/{self._prefix}".rstrip("/")
        self._bucket = _client(self.address).bucket(bucket)

    def names(self, prefix: str = "") -> list[str]:
        with _bucket_errors("list", self.address):
            blobs = self._bucket.list_blobs(prefix=self._prefix + prefix, timeout=_TIMEOUT_SECONDS, retry=_retry())
            return sorted(blob.name.removeprefix(self._prefix) for blob in blobs)

    def folders(self, prefix: str = "") -> dict[str, str]:
        return {name.partition("/")[0]: "" for name in self.names(prefix) if "/" in name}

    def state(self, name: str) -> ObjectState:
        """What changes whenever the object does; StorageError if there is none."""
        with _bucket_errors("read", f"{self.address}/{name}"):
            blob = self._bucket.blob(self._prefix + _inside(name, self.address))
            blob.reload(timeout=_TIMEOUT_SECONDS, retry=_retry())
            return ObjectState(int(blob.size), blob.updated, int(blob.generation))

    def download(self, name: str, target: Path) -> None:
        with _bucket_errors("read", f"{self.address}/{name}"):
            self._bucket.blob(self._prefix + _inside(name, self.address)).download_to_filename(
                str(target), timeout=_TIMEOUT_SECONDS, retry=_retry()
            )

    def upload(self, source: Path, name: str, *, first: bool = False) -> None:
        from google.api_core.exceptions import PreconditionFailed

        with _bucket_errors("write", f"{self.address}/{name}"), suppress(PreconditionFailed):
            self._bucket.blob(self._prefix + _inside(name, self.address)).upload_from_filename(
                str(source),
                # 0: only if there is none.
                if_generation_match=0 if first else None,
                timeout=_TIMEOUT_SECONDS,
                retry=_retry(),
            )

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        with _bucket_errors("read", f"{self.address}/{name}"):
            blob = self._bucket.blob(self._prefix + _inside(name, self.address))
            with blob.open("rb", timeout=_TIMEOUT_SECONDS, retry=_retry()) as source:
                yield source

    def remove(self, name: str) -> None:
        with _bucket_errors("remove", f"{self.address}/{name}"), _gone_already():
            self._bucket.blob(self._prefix + _inside(name, self.address)).delete(
                timeout=_TIMEOUT_SECONDS, retry=_retry()
            )

    def place_folder(self, source: str, target: str, order: Sequence[str]) -> None:
        address = f"{self.address}/{target}"
        new = f"{self._prefix}{_inside(target, self.address)}/"
        old = f"{self._prefix}{_inside(source, self.address)}/"
        with _bucket_errors("write", address):
            there = {
                blob.name: blob.generation
                for blob in self._bucket.list_blobs(prefix=new, timeout=_TIMEOUT_SECONDS, retry=_retry())
            }
            if new + order[-1] in there:
                raise _contended(address)
            for name in order:
                self._bucket.copy_blob(
                    self._bucket.blob(old + name),
                    self._bucket,
                    new + name,
                    # 0: only if there is none. The service refuses the copy if anybody wrote there since the listing.
                    if_generation_match=there.get(new + name, 0),
                    timeout=_TIMEOUT_SECONDS,
                    retry=_retry(),
                )

    def remove_folder(self, name: str) -> None:
        for inner in self.names(f"{name}/"):
            self.remove(inner)


def _oddity(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "a link"
    if not entry.is_dir():
        return "a file"
    return "" if any(Path(entry.path).iterdir()) else "an empty folder"


def _inside(name: str, address: str) -> str:
    # A dot alone is the store itself, and would make a file of its folder.
    if name.startswith("/") or ".." in (parts := PurePosixPath(name).parts) or not parts:
        raise StorageError(f"the object name {name!r} leads outside the store", where=address)
    return name


def open_store(address: str) -> ObjectStore:
    """The store at a local folder or a `gs://bucket/prefix`."""
    if not address.startswith(BUCKET_SCHEME):
        return FolderStore(local_path(address))
    bucket, _, prefix = address.removeprefix(BUCKET_SCHEME).partition("/")
    if not (bucket[:1] + bucket[-1:]).isalnum():  # the client's own rule, which it breaks off with a ValueError
        raise StorageError("the address names no bucket", where=address, fix="write gs://bucket/path")
    return BucketStore(bucket, prefix)


@contextmanager
def local_copy(address: str) -> Iterator[Path]:
    """A path on this machine with the file at `address`: itself if it is local, else a copy that goes at the end.

    Raises:
        StorageError: the bucket cannot be read or has no such object.
    """
    if not address.startswith(BUCKET_SCHEME):
        path = local_path(address)
        # Two letters before the colon at least: C: is a drive.
        if re.match(r"[A-Za-z][\w+.-]+:/", address) and not path.exists():
            raise StorageError(
                f"addresses that begin with {address.partition(':')[0]}: are not read",
                # A signed address is a secret, and so may a name alone be.
                where=re.sub(r"//[^/@]*@", "//", masked(address).partition("?")[0]),
                fix="download the file and give its path, or write gs://bucket/path/file.csv",
            )
        yield path
        return
    parent, _, name = address.rpartition("/")
    if not name or not parent.startswith(BUCKET_SCHEME):
        raise StorageError("the address names no file", where=address, fix="write gs://bucket/path/file.csv")
    store = open_store(parent)
    with scratch() as folder:
        copy = folder / name
        store.download(name, copy)
        yield copy


@contextmanager
def writing(address: str, *, shared: bool = False, first: bool = False) -> Iterator[Path]:
    """A path on this machine to write to, whose content takes the address when the block ends well.

    Args:
        address: a file, or an object of a bucket; nothing half-written stays under it.
        shared, first: as of `replacing`.

    Raises:
        StorageError: it cannot be written.
    """
    if not address.startswith(BUCKET_SCHEME):
        with replacing(local_path(address), shared=shared, first=first) as partial:
            yield partial
        return
    parent, _, name = address.rpartition("/")
    store = open_store(parent)
    with scratch() as folder:
        yield folder / name
        store.upload(folder / name, name, first=first)


@dataclass(frozen=True)
class ObjectState:
    """What changes whenever an object does.

    Attributes:
        generation: of a bucket's object; of a file the time of its last change by the system's own account, which also
            notes a file that takes another's place under its old size and time.
    """

    size: int
    changed: datetime
    generation: int = 0


def state_of(address: str) -> ObjectState:
    """Of a file on this machine, or of an object of a bucket.

    Raises:
        StorageError: there is none, or it cannot be looked at.
    """
    if not address.startswith(BUCKET_SCHEME):
        try:
            known = local_path(address).stat()
        except OSError as error:
            raise _failure("read", address, error) from error
        return ObjectState(known.st_size, datetime.fromtimestamp(known.st_mtime_ns / 1e9, UTC), known.st_ctime_ns)
    parent, _, name = address.rpartition("/")
    store = open_store(parent)
    assert isinstance(store, BucketStore), "the address is a bucket's"
    return store.state(name)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder; that it cannot be made, or that there is no room in it, is told as a StorageError."""
    within = False
    try:
        with files.scratch_folder() as folder:
            within = True
            yield folder
            within = False
    except OSError as error:
        if within and error.errno not in _NO_ROOM:
            raise
        raise files.no_temporary_room(error) from error


@contextmanager
def replacing(path: Path, *, shared: bool = False, suffix: str | None = None, first: bool = False) -> Iterator[Path]:
    """`files.replacing`, whose failures, and a full disk within the block, are told as a StorageError."""
    within = False
    try:
        with files.replacing(path, shared=shared, suffix=suffix, first=first) as partial:
            within = True
            yield partial
            within = False
    except OSError as error:
        if within and error.errno not in _NO_ROOM:
            raise
        raise _failure("write", str(path), error) from error


def _client(address: str) -> Any:
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import storage

    try:
        return storage.Client()
    except (DefaultCredentialsError, OSError) as error:
        raise StorageError(
            "there are no Google Cloud credentials for this bucket",
            where=address,
            fix="run `gcloud auth application-default login`, or point GOOGLE_APPLICATION_CREDENTIALS at a key file "
            "(for an emulator, set STORAGE_EMULATOR_HOST)",
        ) from error


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(_TIMEOUT_SECONDS)


@contextmanager
def _bucket_errors(verb: str, address: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed, RetryError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except NotFound as error:
        raise AbsentError("there is no such object or bucket", where=address, fix="check the address") from error
    except PreconditionFailed as error:
        raise _contended(address) from error
    except (GoogleAPIError, GoogleAuthError, RetryError, RequestException, OSError) as error:
        raise _failure(verb, address, error) from error


@contextmanager
def _gone_already() -> Iterator[None]:
    from google.api_core.exceptions import NotFound

    with suppress(NotFound):
        yield


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _contended(address: str) -> ContentionError:
    return ContentionError("another process wrote here meanwhile", where=address, fix="try again")


def _failure(verb: str, address: str, error: Exception) -> StorageError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return StorageError(
        f"cannot {verb}: {reason}",
        where=address,
        fix="check that it exists, that this account may use it, and that there is space and a connection",
    )
