"""The local store, a SQLite file: made whole and for its owner alone, once, while other processes wait.

MLflow 3.17 makes it in the open: of several processes that find none, each runs all migrations on the one file, and
those that come second at a step end in "duplicate column name". Its store does not take the lock that MLflow has for
this (`mlflow.store.db.utils._safe_initialize_tables`). Nor does MLflow say quickly that a file cannot be written: it
tries for minutes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from sqlalchemy.exc import SQLAlchemyError

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.files import PARTIAL, marked, private_folder, scratch_folder, sweep
from pcc_pipeline.tracking.delivery.outages import reason_of
from pcc_pipeline.tracking.store.database import database_file


def prepare() -> None:
    """Make the SQLite file of MLflow's address, if there is none, and see that it and its folder may be written.

    Where the address is a server's or another database's, nothing is done.

    Raises:
        TrackingError: it cannot be made or written.
    """
    path = database_file(str(mlflow.get_tracking_uri()))
    if path is None:
        return
    try:
        if not path.exists():
            private_folder(path.parent)
            with _folder_to_ourselves(path.parent):
                if not path.exists():
                    _make(path)
        for place in (path, path.parent):
            if not os.access(place, os.W_OK):
                raise PermissionError(errno.EACCES, "it may not be written", str(place))
    except (OSError, MlflowException, SQLAlchemyError) as error:
        raise TrackingError(
            f"MLflow's local store cannot be made or written: {reason_of(error)}",
            where=str(path),
            fix="make room or mend the permissions of its folder, or name another store: "
            "export MLFLOW_TRACKING_URI=sqlite:////folder/mlflow.db",
        ) from error


def keep_artifacts_private(location: str) -> None:
    """Make the folder of a run's artifacts, where it is to be on this machine, for its owner alone."""
    if is_local_uri(location):
        # That it cannot be made is told by whoever writes there.
        with contextlib.suppress(OSError):
            private_folder(Path(local_file_uri_to_path(location)))


@contextlib.contextmanager
def _folder_to_ourselves(folder: Path) -> Iterator[None]:
    """A lock on the folder itself, so that no file of it stays."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # A network's folder may take no lock. Then two processes may make a store each, and one of them is kept.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(path: Path) -> None:
    """A new store, which takes its place when it is whole, unless there is one by then."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    sweep(path.parent, PARTIAL)
    partial = path.with_name(f"{marked(PARTIAL)}.db")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        # Not here: MLflow would read a % in this folder's name as the sign of another character.
        with scratch_folder() as scratch:
            made = scratch / "new.db"
            store = SqlAlchemyStore(f"sqlite:///{made}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
            store.engine.dispose()
            shutil.copyfile(made, partial)
        try:
            os.link(partial, path)
        except FileExistsError:
            return  # made meanwhile by something that asks for no lock, such as `mlflow run`
        except OSError:  # a disk without second names
            partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
