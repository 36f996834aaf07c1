"""Which code made a run: the commit of the checkout that holds the package, and whether it had uncommitted changes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from pcc_pipeline import __version__


@dataclass(frozen=True)
class CodeVersion:
    """`commit` is 40 hex digits, or the package's version where the code is not in a git checkout."""

    commit: str
    dirty: bool | None

    def tags(self) -> dict[str, str]:
        """Tags for a run or a model version."""
        state = "unknown" if self.dirty is None else str(self.dirty).lower()
        return {"pcc.git_commit": self.commit, "pcc.git_dirty": state, "pcc.package": __version__}


def code_version() -> CodeVersion:
    """The commit of the checkout that holds this package."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return CodeVersion(f"package {__version__}", None)
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return CodeVersion(commit, None if changes is None else bool(changes))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or not a checkout: provenance then says so
    return done.stdout.strip()
