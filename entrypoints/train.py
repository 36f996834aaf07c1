"""Train a classifier, log it and register it with the alias challenger."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from command_line import parser_of, run


def step(params: Any, options: argparse.Namespace) -> Any:
    from pcc_pipeline.steps import train

    return train.run(params)


if __name__ == "__main__":
    sys.exit(run(parser_of("Train a classifier, log it and register it with the alias challenger."), step))
