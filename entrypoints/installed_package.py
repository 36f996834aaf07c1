"""The package that every script here calls; where it is not installed, one message in place of a traceback."""

from __future__ import annotations

import sys

try:
    from pcc_pipeline.command_line.commands import auto_command, manage_commands, step_commands
    from pcc_pipeline.command_line.running import leave
except ModuleNotFoundError as error:
    if error.name != "pcc_pipeline":
        raise
    sys.exit(
        f"error: pcc_pipeline is not installed for {sys.executable}\n"
        "  do:    activate the environment that has it (source .venv/bin/activate), or let `make run` make one"
    )

__all__ = ["auto_command", "leave", "manage_commands", "step_commands"]
