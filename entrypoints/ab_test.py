"""Say which of two versions is better in the field, by the labels that came back."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import leave, step_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return step_commands.main("ab_test", arguments)


if __name__ == "__main__":
    leave(main())
