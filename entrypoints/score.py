"""Score a file of messages with a registered model: predictions in the downstream system's columns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from command_line import NOT_GIVEN, given, parser_of, run

DESCRIPTION = "Score a file (--data; it needs no labels) with the champion, or (--model) with another registered model."


def parser() -> argparse.ArgumentParser:
    options = parser_of(DESCRIPTION)
    text = "models:/name@alias, models:/name/3 or runs:/<id>/model; default: the champion"
    options.add_argument("--model", default=NOT_GIVEN, metavar="…", help=text)
    text = "where the predictions go: a path that ends in .parquet or .csv"
    options.add_argument("--output", default=NOT_GIVEN, metavar="…", help=text)
    return options


def step(score: Any, params: Any, options: argparse.Namespace) -> Any:
    return score.run(params, given(options.model), given(options.output))


def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser(), "score", step, arguments)


if __name__ == "__main__":
    sys.exit(main())
