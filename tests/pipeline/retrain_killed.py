"""`retrain`, in a process of its own that is killed at a place: `python retrain_killed.py PLACE OPTIONS …`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from pcc_pipeline.command_line.commands import step_commands
from pcc_pipeline.steps import evaluate, promote, retrain
from pcc_pipeline.tracking.registry import champion, versions
from pcc_pipeline.tracking.runs import StepRun

# Place -> where the function stands, its name, and at which call of it, by its arguments, the process ends.
PLACES: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "before the version is registered": (StepRun, "log_model", lambda *_: True),
    "after the training": (evaluate, "run", lambda *_: True),
    "after the evaluation": (promote, "run", lambda *_: True),
    "after the gates": (champion, "promote", lambda *_: True),
    "after the alias moved": (champion, "_point", lambda _turn, _name, alias, _version: alias == "champion"),
    "before the publication": (promote, "_publish", lambda *_: True),
    "before the notice": (retrain, "tell_of_event", lambda *_: True),
    "after the notice": (versions, "tag_version", lambda _name, _version, tags: retrain.DECIDED_TAG in tags),
}
# Where the function is called first, and the process ends then.
AFTERWARDS = ("after the alias moved",)


def killed_at(place: str) -> None:
    """Have this process end by SIGKILL there."""
    owner, name, is_meant = PLACES[place]
    function = getattr(owner, name)

    def ending(*arguments: Any, **named: Any) -> Any:
        meant = is_meant(*arguments)
        if meant and place not in AFTERWARDS:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if meant:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, ending)


if __name__ == "__main__":
    killed_at(sys.argv[1])
    sys.exit(step_commands.main("retrain", sys.argv[2:]))
