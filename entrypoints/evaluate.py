"""Evaluate a logged model on the rows its training set aside, or on another labelled file."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, step_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return step_commands.main("evaluate", arguments)


if __name__ == "__main__":
    leave(main())
