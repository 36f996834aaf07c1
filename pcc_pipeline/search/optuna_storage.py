"""Where an Optuna study is kept, and who owns it.

A journal or SQLite file is owned by a lock on a file beside it, a PostgreSQL study by an advisory lock of the session;
the system frees both when the owner dies, however it dies. So a trial that the owner finds running is a dead one's.
A PostgreSQL study that has a name of its own may belong to several processes at once, see `shared_study`: these share
the lock. Other databases have no such guard: whoever uses one must see that a study has one owner.
"""

# ruff: noqa: TID253 # as optuna_searcher.py, which imports this module
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from pcc_pipeline.config.paths import is_address, local_path
from pcc_pipeline.errors import SearchError
from pcc_pipeline.files import private_folder
from pcc_pipeline.masking import masked, quotable
from pcc_pipeline.search.shared_study.workers import lock_key, own_session

if TYPE_CHECKING:
    from typing import IO

# SQLite lets one writer in at a time; several searches may keep their studies in one file.
_SQLITE_PATIENCE_S = 60


@dataclass(frozen=True)
class StudyPlace:
    """A study's name and the journal file or database that holds it; `address` is the database's as it was written."""

    study_name: str
    journal: Path | None
    url: URL | None
    address: str = field(default="", repr=False)

    @classmethod
    def of(cls, storage: str | None, study_name: str, studies_dir: Path) -> StudyPlace:
        """The place that `search.storage` names: None is a journal of the study's own under `studies_dir`.

        Raises:
            SearchError: `storage` is neither a database's URL nor a path that ends in .log.
        """
        if storage is None:
            return cls(study_name, studies_dir / f"{quote(study_name, safe=' ')}.log", None)
        if "://" in storage:
            try:
                return cls(study_name, None, make_url(storage), storage)
            except (SQLAlchemyError, ValueError) as error:
                # The address may hold a password: it is not repeated.
                raise _unusable("is not a database's URL", "search.storage") from error
        if storage.endswith(".log") and not is_address(storage):
            return cls(study_name, local_path(storage), None)
        raise _unusable("is neither a database's URL nor a path that ends in .log", f"search.storage {masked(storage)}")

    @property
    def takes_several(self) -> bool:
        """Whether processes on several machines may search a study there at once."""
        return self.url is not None and self.url.get_backend_name() == "postgresql"

    def __str__(self) -> str:
        at = masked(self.address) if self.url is not None else str(self.journal)
        return f"study {self.study_name!r} in {at}"


@dataclass(frozen=True)
class OwnedStorage:
    """An open storage, and what gives its ownership back."""

    storage: BaseStorage
    release: Callable[[], None]


def open_storage(place: StudyPlace, *, shared: bool = False) -> OwnedStorage:
    """Open the storage, making file, folder and tables as needed, and own the study.

    Args:
        shared: own it with others that share it; of a place that takes several.

    Raises:
        SearchError: another process owns the study, or the storage cannot be opened.
    """
    held = contextlib.ExitStack()
    try:
        with storage_errors(place):
            storage = _journal(place, held) if place.journal is not None else _database(place, held, shared)
    except BaseException:  # whatever ends it, an interruption too, the study must not stay owned
        held.close()
        raise
    return OwnedStorage(storage, held.close)


@contextlib.contextmanager
def storage_errors(place: StudyPlace) -> Iterator[None]:
    """Turns what a storage raises (no disk space, database gone, driver not installed) into a SearchError."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError, ImportError) as error:
        # The innermost one says it best: "no such table" rather than "an exception is raised during the commit".
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        line = quotable(next(iter(str(cause).splitlines()), ""), place.address)
        raise SearchError(
            f"The study's storage cannot be used: {type(cause).__name__}{f': {line}' if line else ''}",
            where=str(place),
            fix="see that search.storage names a database or folder that exists and can be written; a stored study "
            "resumes from its last finished trial",
        ) from error


def _journal(place: StudyPlace, held: contextlib.ExitStack) -> BaseStorage:
    assert place.journal is not None
    path = place.journal
    private_folder(path.parent)
    held.enter_context(_owned_file(path.with_name(path.name + ".owner"), place))
    # What a killed owner leaves: Optuna's lock, which would hold us up for 30 s, and half a line, which it cannot read.
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    _drop_half_line(path)
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (StorageInternalError, OSError):
        raise
    except Exception as error:  # Optuna plays the lines back unchecked, and ends in whatever a wrong one leads to
        raise damaged(place) from error


def damaged(place: StudyPlace) -> SearchError:
    """What to say of a study that cannot be read back."""
    return SearchError(
        "the study is damaged: what is stored cannot be read back",
        where=str(place),
        fix="restore it from a backup; or move it away, or give another search.study_name, to start anew",
    )


def _drop_half_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _database(place: StudyPlace, held: contextlib.ExitStack, shared: bool) -> BaseStorage:
    assert place.url is not None
    url, kind = place.url, place.url.get_backend_name()
    arguments: dict[str, Any] = {}
    if kind == "sqlite":
        arguments = {"connect_args": {"timeout": _SQLITE_PATIENCE_S}}
        if url.database and url.database != ":memory:":
            name = hashlib.sha256(place.study_name.encode()).hexdigest()[:8]
            held.enter_context(_owned_file(Path(f"{url.database}.{name}.owner"), place))
    elif kind == "postgresql":
        _own_in_postgresql(url, place, held, shared)
    with _one_creates_tables(url, kind):
        storage = RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=arguments)
    held.callback(storage.engine.dispose)
    held.callback(storage.remove_session)
    return storage


@contextlib.contextmanager
def _one_creates_tables(url: URL, kind: str) -> Iterator[None]:
    """Searches that start together on an empty database would race to create Optuna's tables, and all but one die."""
    if kind == "sqlite" and url.database and url.database != ":memory:":
        with Path(f"{url.database}.owner").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    elif kind == "postgresql":
        with own_session(url) as session:
            session.execute(text("SELECT pg_advisory_lock(:key)"), {"key": lock_key("tables")})
            yield
    else:
        yield


@contextlib.contextmanager
def _owned_file(path: Path, place: StudyPlace) -> Iterator[IO[bytes]]:
    """Hold a lock on the file; the file stays, as deleting it would let two processes lock two files of one name."""
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().decode(errors="replace").strip()
            raise _in_use(place, f"process {owner}" if owner else "another process") from error
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield file


def _own_in_postgresql(url: URL, place: StudyPlace, held: contextlib.ExitStack, shared: bool) -> None:
    session = held.enter_context(own_session(url))
    lock = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    if not session.execute(text(f"SELECT {lock}(:key)"), {"key": lock_key(f"study {place.study_name}")}).scalar():
        raise _in_use(place, "another process")


def _in_use(place: StudyPlace, owner: str) -> SearchError:
    reason = "" if place.takes_several else " Such a file takes one process at a time."
    return SearchError(
        f"The study {place.study_name!r} is in use by {owner}.{reason}",
        where=str(place),
        fix="wait until it ends, or give this search another search.study_name (and, for a journal, another file). "
        "To search one study on several machines at once, give all of them the same search.study_name and a "
        "search.storage of the kind postgresql+psycopg://user@host/database",
    )


def _unusable(problem: str, where: str) -> SearchError:
    return SearchError(
        f"search.storage {problem}.",
        where=where,
        fix="write sqlite:///studies.db, postgresql+psycopg://user@host/database, a path such as studies/mine.log, "
        "or null for a journal of the run's own",
    )
