"""PostgreSQL's programs, the user it runs as, and running one of them."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ServerError(Exception):
    """What went wrong and what to do, in words for the user."""


def programs() -> dict[str, str]:
    """PostgreSQL's programs, from PATH or Debian's own place, the newest version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: number(path.parent.name), reverse=True)
    names = ("postgres", "initdb", "psql", "pg_isready")
    for folder in [*folders, *map(Path, os.environ.get("PATH", "").split(os.pathsep))]:
        if all(os.access(folder / name, os.X_OK) for name in names):
            return {name: str(folder / name) for name in names}
    raise ServerError("PostgreSQL's programs are not here; on Debian and Ubuntu: sudo apt-get install postgresql")


def number(text: str) -> float:
    """The number that a folder is named for; 0 for another name."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def postgres_user() -> dict[str, Any]:
    """Whom PostgreSQL runs as, for subprocess: oneself, but root runs it as `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise ServerError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def enters(folder: Path, user: dict[str, Any]) -> bool:
    """Whether this user may enter the folder."""
    return subprocess.run(["test", "-x", str(folder)], cwd="/", env={"PATH": os.defpath}, **user).returncode == 0


def plain(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the secrets, and without what would lead PostgreSQL's programs elsewhere."""
    hidden = ("PCC_SERVER_", "MLFLOW_", "PG")
    return {name: value for name, value in environment.items() if not name.startswith(hidden)}


def succeed(
    what: str, command: list[str], environment: dict[str, str], user: dict[str, Any], stdin: Any = subprocess.DEVNULL
) -> str:
    """What the command prints.

    Raises:
        ServerError: it failed; the message says at what, and what it wrote to standard error.
    """
    done = subprocess.run(command, env=environment, stdin=stdin, capture_output=True, text=True, cwd="/", **user)
    if done.returncode:
        raise ServerError(f"{what} failed with code {done.returncode}:\n{done.stderr.strip()}")
    return str(done.stdout)
