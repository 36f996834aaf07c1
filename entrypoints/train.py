"""Train a classifier, log it and register it with the alias challenger."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from command_line import parser_of, run

DESCRIPTION = "Train a classifier, log it and register it with the alias challenger."


def step(train: Any, params: Any, options: argparse.Namespace) -> Any:
    return train.run(params)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser_of(DESCRIPTION), "train", step, arguments)


if __name__ == "__main__":
    sys.exit(main())
