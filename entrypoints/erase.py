"""Take all that is held of persons out of runs, files and models."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, step_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return step_commands.main("erase", arguments)


if __name__ == "__main__":
    leave(main())
