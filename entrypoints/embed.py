"""Embed a file: the same rows with their sentence vectors, as Parquet."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from command_line import parser_of, run


def step(params: Any, options: argparse.Namespace) -> Any:
    from pcc_pipeline.steps import embed

    return embed.run(params)


if __name__ == "__main__":
    sys.exit(run(parser_of("Embed a file: the same rows with their sentence vectors, as Parquet."), step))
