"""`erase`, in a process of its own that is killed at a place: `python erase_killed.py PLACE OPTIONS …`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from pcc_pipeline.command_line.commands import step_commands
from pcc_pipeline.steps import erase, promote, train
from pcc_pipeline.steps.erasing import files, models
from pcc_pipeline.steps.erasing.state import State
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.store.run_files import RunFiles

# Place -> where the function stands, its name, at which call the process ends, and whether it is done before that.
PLACES: dict[str, tuple[Any, str, int, bool]] = {
    **{f"after note {number}": (State, "write", number, True) for number in range(1, 12)},
    "before the list is written": (erase, "suppress", 1, False),
    "between two tables": (RunFiles, "replace", 1, True),
    "before a split is replaced": (files.SplitRecord, "frame", 1, False),
    "before a split's digest": (files, "_digests", 1, False),
    "before the training": (train, "run", 1, False),
    "after the training": (train, "run", 1, True),
    "between a successor and its alias": (versions, "set_alias", 1, False),
    "before the promotion": (promote, "run", 1, False),
    "after the promotion": (promote, "run", 1, True),
    "before a version goes": (models, "remove_version", 1, False),
    "between two versions": (models, "remove_version", 1, True),
    "between two manifests": (files, "manifest_of_run", 1, True),
    "before the certificate": (erase, "write_certificate", 1, False),
    "after the certificate": (erase, "write_certificate", 1, True),
}


def killed_at(place: str) -> None:
    """Have this process end by SIGKILL there."""
    owner, name, call, done_before = PLACES[place]
    function, calls = getattr(owner, name), 0

    def ending(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not done_before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, ending)


if __name__ == "__main__":
    killed_at(sys.argv[1])
    sys.exit(step_commands.main("erase", sys.argv[2:]))
