"""Embed a file: the same rows with their sentence vectors, as Parquet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from command_line import parser_of, run

DESCRIPTION = "Embed a file: the same rows with their sentence vectors, as Parquet."


def step(embed: Any, params: Any, options: argparse.Namespace) -> Any:
    return embed.run(params)


def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser_of(DESCRIPTION), "embed", step, arguments)


if __name__ == "__main__":
    sys.exit(main())
