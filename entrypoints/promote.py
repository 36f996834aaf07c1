"""Make a version the champion if it passes the gates, or take the champion back."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, step_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return step_commands.main("promote", arguments)


if __name__ == "__main__":
    leave(main())
