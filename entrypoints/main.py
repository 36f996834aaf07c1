"""Embed, train, evaluate and, if asked, promote: from a file of labelled messages to a registered model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from command_line import choice, parser_of, run

DESCRIPTION = "Embed, train and evaluate: from a file of labelled messages to an evaluated, registered model."


def parser() -> argparse.ArgumentParser:
    options = parser_of(DESCRIPTION)
    text = "auto makes the version the champion if it passes registry.gates; default: never"
    options.add_argument("--promote", default="never", metavar="auto|never", help=text)
    return options


def step(pipeline: Any, params: Any, options: argparse.Namespace) -> Any:
    return pipeline.run(params, promotion=choice("promote", options.promote, "auto", "never") == "auto")


def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser(), "pipeline", step, arguments)


if __name__ == "__main__":
    sys.exit(main())
