"""Evaluate a logged model on the rows its training set aside, or on another labelled file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from command_line import NOT_GIVEN, given, parser_of, run

DESCRIPTION = "Evaluate a logged model on the rows its training set aside, or (--test-data) on another labelled file."


def parser() -> argparse.ArgumentParser:
    options = parser_of(DESCRIPTION)
    text = "models:/name@alias, models:/name/3 or runs:/<id>/model; default: the challenger"
    options.add_argument("--model", default=NOT_GIVEN, metavar="…", help=text)
    return options


def step(evaluate: Any, params: Any, options: argparse.Namespace) -> Any:
    return evaluate.run(params, given(options.model), given(options.data))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser(), "evaluate", step, arguments)


if __name__ == "__main__":
    sys.exit(main())
