"""Watch a registered model: whether messages have changed, and how right it is likely to be."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, step_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return step_commands.main("monitor", arguments)


if __name__ == "__main__":
    leave(main())
