"""Train again where there is need, then watch the champion: once, or again and again."""

from __future__ import annotations

from collections.abc import Sequence

from installed_package import auto_command, leave


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    return auto_command.main(arguments)


if __name__ == "__main__":
    leave(main())
