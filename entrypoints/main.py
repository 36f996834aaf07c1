"""Embed, train, evaluate and, if asked, promote: from a file of labelled messages to a registered model."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, step_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return step_commands.main("main", arguments)


if __name__ == "__main__":
    leave(main())
