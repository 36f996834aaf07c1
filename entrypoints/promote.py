"""Make a version the champion if it passes the gates, or take the champion back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from command_line import NOT_GIVEN, exclusive, given, parser_of, run, switch

DESCRIPTION = "Make a version the champion if it passes registry.gates; --rollback true takes the last move back."


def parser() -> argparse.ArgumentParser:
    options = parser_of(DESCRIPTION)
    text = "models:/name@alias or models:/name/3; default: the challenger"
    options.add_argument("--model", default=NOT_GIVEN, metavar="…", help=text)
    options.add_argument("--reason", default=NOT_GIVEN, metavar="…", help="why, for the record; needed with --force")
    options.add_argument("--force", default="false", metavar="true|false", help="go past failed gates")
    options.add_argument("--rollback", default="false", metavar="true|false", help="bring the previous champion back")
    return options


def step(promote: Any, params: Any, options: argparse.Namespace) -> Any:
    reason = given(options.reason) or ""
    rollback, force = switch("rollback", options.rollback), switch("force", options.force)
    if rollback:
        exclusive("rollback", force=force, model=given(options.model) is not None)
        return promote.roll_back(params, reason=reason)
    return promote.run(params, given(options.model), reason=reason, force=force, data=given(options.data))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser(), "promote", step, arguments)


if __name__ == "__main__":
    sys.exit(main())
