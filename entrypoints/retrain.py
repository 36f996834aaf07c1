"""Train again where there is data that the champion has not learned; else say why not."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, step_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return step_commands.main("retrain", arguments)


if __name__ == "__main__":
    leave(main())
