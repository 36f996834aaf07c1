"""Past runs and versions in MLflow: list, look up, compare, export, promote, publish; the older registry brought in."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, manage_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return manage_commands.main(arguments)


if __name__ == "__main__":
    leave(main())
