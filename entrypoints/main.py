"""Embed, train and evaluate: from a file of labelled messages to an evaluated, registered model."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from command_line import parser_of, run


def step(params: Any, options: argparse.Namespace) -> Any:
    from pcc_pipeline.steps import pipeline

    return pipeline.run(params)


if __name__ == "__main__":
    sys.exit(
        run(
            parser_of("Embed, train and evaluate: from a file of labelled messages to an evaluated, registered model."),
            step,
        )
    )
