"""Which code made a run: the commit of the checkout that holds the package, and whether it had uncommitted changes.

An image holds no checkout; there PCC_CODE_REVISION tells, as `git describe --always --abbrev=40 --dirty` said it.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pcc_pipeline import __version__

logger = logging.getLogger(__name__)
_FOLDER = Path(__file__).parents[1]
_SECONDS = 20
_REVISION = "PCC_CODE_REVISION"


@dataclass(frozen=True)
class CodeVersion:
    """`commit` is 40 hex digits; the package's version where nothing tells it; `unknown` where git fails.

    `dirty` is None where that is not known.
    """

    commit: str
    dirty: bool | None

    def tags(self) -> dict[str, str]:
        """Tags for a run or a model version."""
        state = "unknown" if self.dirty is None else str(self.dirty).lower()
        return {"pcc.git_commit": self.commit, "pcc.git_dirty": state, "pcc.package": __version__}


def code_version(folder: Path = _FOLDER) -> CodeVersion:
    """The commit of the checkout that holds this package; a warning in the log says why it cannot be told.

    Args:
        folder: where the code lies.
    """
    checkout = _checkout(folder)
    if checkout is None:
        return _from_environment() or CodeVersion(f"package {__version__}", None)
    commit, failure = _git(folder, "rev-parse", "--verify", "HEAD^{commit}")
    if commit is None and "dubious ownership" in failure:
        # git runs what a repository's settings name, and so does nothing in one of another user. This only reads.
        commit, failure = _git(folder, *_reading(checkout), "rev-parse", "--verify", "HEAD^{commit}")
        if commit is not None:
            _warn(
                f"git does not look for changes in {checkout}, which another user owns, so pcc.git_dirty is unknown; "
                f"if you trust it: git config --global --add safe.directory {shlex.quote(str(checkout))}"
            )
            return CodeVersion(commit, None) if _is_tracked(folder, checkout) else CodeVersion("unknown", None)
    if commit is None:
        _warn(f"the commit of the code in {checkout} is not known: {failure}")
        return CodeVersion("unknown", None)
    if not _is_tracked(folder, checkout):
        return CodeVersion(f"package {__version__}", None)  # such as a .venv in the checkout of something else
    changes, failure = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if changes is None:
        _warn(f"whether the code in {checkout} has changes is not known: {failure}")
    return CodeVersion(commit, None if changes is None else bool(changes))


def _from_environment() -> CodeVersion | None:
    """What the environment says; None where it says nothing."""
    revision = os.environ.get(_REVISION, "")
    match = re.fullmatch(r"([0-9a-f]{40})(-dirty)?", revision)
    if match:
        return CodeVersion(match[1], match[2] is not None)
    if revision:
        _warn(f"{_REVISION} is no commit of 40 hex digits, with or without -dirty behind it: {revision!r}")
    return None


@cache
def _warn(message: str) -> None:
    """Once in a process, which asks several times."""
    logger.warning(message)


def _checkout(folder: Path) -> Path | None:
    """The folder around the code that holds `.git`, a folder or, in a worktree or submodule, a file."""
    return next((parent for parent in (folder, *folder.parents) if os.access(parent / ".git", os.F_OK)), None)


def _reading(checkout: Path) -> tuple[str, ...]:
    return "-c", f"safe.directory={checkout}", "-c", "core.fsmonitor=false"


def _is_tracked(folder: Path, checkout: Path) -> bool:
    files, _ = _git(folder, *_reading(checkout), "ls-files", "--", ".")
    return bool(files)


def _git(folder: Path, *arguments: str) -> tuple[str | None, str]:
    """(what git says, ""), or (None, why it says nothing)."""
    # Its messages are looked at, so they must be in English.
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return None, f"git gave no answer within {_SECONDS} s"
    except OSError as error:
        return None, f"git cannot be started: {error.strerror or error}"
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"git ended with code {done.returncode}"
        ]
        return None, lines[0].strip()
    return done.stdout.strip(), ""
