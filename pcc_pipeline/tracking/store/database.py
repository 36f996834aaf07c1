"""MLflow's own database, where no server stands before it: looked at before MLflow opens it.

MLflow tries ten times, for minutes, to open one that cannot be opened, makes one that is missing wherever it is asked,
and changes the tables of one that an older MLflow made, without a question.
"""

from __future__ import annotations

import re
import shlex
import time
from functools import cache
from pathlib import Path

import mlflow
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.utils.uri import is_local_uri
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.tracking.delivery.outages import is_server, reason_of
from pcc_pipeline.tracking.registry.versions import shown_address
from pcc_pipeline.waiting import Patience

_ELSEWHERE = "point MLFLOW_TRACKING_URI at another store"
_MIGRATIONS = "store/db_migrations/versions"
# Another process may be making the tables of a new file just now; that takes seconds.
_BEING_MADE_SECONDS, _PATIENCE_SECONDS = 10.0, 60.0


def demand_database(*, create: bool) -> None:
    """See that the database can be opened and has the tables of this MLflow; a server's is the server's affair.

    Args:
        create: one that is not there yet will do: MLflow makes it. Else a question in the wrong folder leaves one.

    Raises:
        TrackingError: there is none, it cannot be opened, or another MLflow made it.
    """
    address = str(mlflow.get_tracking_uri())
    if is_server(address):
        return
    if is_local_uri(address):
        _demand_file_store()
        return
    try:
        url = make_url(address)
        url.get_dialect()
    except (SQLAlchemyError, ValueError):
        return  # no database's address: MLflow says so itself, at once
    except ImportError as error:
        raise _unusable(f"the driver of this database is not installed: {error}") from error
    if _is_missing(url):
        if not create:
            raise TrackingError(
                "there is no MLflow database here",
                where=shown_address(),
                fix="go to the folder where mlflow.db lies, or point MLFLOW_TRACKING_URI at the store",
            )
        return
    try:
        revision = _revision(address)
        patience = Patience(_PATIENCE_SECONDS, first=0.1, longest=1.0)
        while _is_being_made(url, revision) and patience.wait():
            revision = _revision(address)
    except ImportError as error:
        raise _unusable(f"the driver of this database is not installed: {error}") from error
    except SQLAlchemyError as error:
        raise _unusable(f"MLflow's database cannot be opened: {reason_of(error)}") from error
    if revision is not None:
        _demand_schema(revision)
    elif not create:
        raise TrackingError(
            "this database holds no runs of MLflow", where=shown_address(), fix=f"train first, or {_ELSEWHERE}"
        )


def _demand_file_store() -> None:
    if MLFLOW_ALLOW_FILE_STORE.get():
        return
    raise TrackingError(
        "runs of an older MLflow lie here as plain files, which this MLflow no longer reads",
        where=shown_address(),
        fix="bring them into a database: mlflow migrate-filestore --source mlruns --target sqlite:///mlflow.db; or "
        "leave them where they are: export MLFLOW_TRACKING_URI=sqlite:///mlflow.db",
    )


def _file_of(url: URL) -> Path | None:
    """The file of a SQLite database. SQLAlchemy reads %20 as the blank that MLflow writes so in its own address."""
    name = url.database if url.get_backend_name() == "sqlite" else None
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name)


def database_file(address: str) -> Path | None:
    """The file of MLflow's address, where that is a SQLite database on disk."""
    if is_server(address) or is_local_uri(address):
        return None
    try:
        return _file_of(make_url(address))
    except (SQLAlchemyError, ValueError):
        return None


def _is_missing(url: URL) -> bool:
    path = _file_of(url)
    try:
        return path is not None and (not path.exists() or (path.is_file() and path.stat().st_size == 0))
    except OSError:
        return False  # a folder that may not be entered: opening it says so


def _is_being_made(url: URL, revision: str | None) -> bool:
    path = _file_of(url)
    if path is None or not path.is_file():
        return False
    young = time.time() - path.stat().st_mtime < _BEING_MADE_SECONDS
    return young and (revision is None or not _is_newest(revision))


@cache
def _is_newest(revision: str) -> bool:
    # The migrations' own text says it in a few milliseconds; Alembic imports them all, and MLflow has it do so again.
    texts = [path.read_text(encoding="utf-8") for path in _migrations().glob("*.py")]
    word = f"[\"']{re.escape(revision)}[\"']"
    known, followed = (
        any(re.search(f"^{name} = .*{word}", text, re.MULTILINE) for text in texts)
        for name in ("revision", "down_revision")
    )
    return (known and not followed) or revision in _scripts().get_heads()


def _migrations() -> Path:
    return Path(mlflow.__file__).parent / _MIGRATIONS


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_migrations().parent))


def _revision(address: str) -> str | None:
    engine = create_sqlalchemy_engine(address)
    try:
        with engine.connect() as connection:
            heads = MigrationContext.configure(connection).get_current_heads()
        return ", ".join(sorted(heads)) or None
    finally:
        engine.dispose()


def _demand_schema(revision: str) -> None:
    if _is_newest(revision):
        return
    scripts = _scripts()
    version = mlflow.__version__
    try:
        older = scripts.get_revision(revision) is not None
    except CommandError:
        older = False
    if older:
        raise TrackingError(
            f"an older MLflow made this database: its tables are of revision {revision}, and MLflow {version} works "
            f"with {scripts.get_current_head()}",
            where=shown_address(),
            fix=f"make a copy of it, then: mlflow db upgrade {shlex.quote(shown_address())}",
        )
    raise TrackingError(
        f"another MLflow, most likely a newer one, or another program made this database: MLflow {version} does not "
        f"know the revision {revision} of its tables",
        where=shown_address(),
        fix=f"use the MLflow that made it, or {_ELSEWHERE}",
    )


def _unusable(what: str) -> TrackingError:
    return TrackingError(what, where=shown_address(), fix=f"mend that, or {_ELSEWHERE}")
