"""`pcc explain`: for whoever may read a message. It is no entry point of MLproject, whose parameters MLflow logs."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, cast

from pcc_pipeline.command_line import options as of
from pcc_pipeline.command_line.commands.look_command import LookCommand
from pcc_pipeline.command_line.options import Option, unless_left_out

if TYPE_CHECKING:
    from pcc_pipeline.config import Params
    from pcc_pipeline.evaluation.explanations.word_weights import Method

DESCRIPTION = "Explain a model's answer to one message: which words carried it, and what the runner-up was."
EPILOG = """\
examples:
  pcc explain --text -                       type or paste the message, then Ctrl-D: it stands in no shell's history
  pcc explain --text - < message.txt         from a file
  pcc explain --data today.csv --case-id 77  a row of a file
  pcc explain --text - --html why.html       also as a page
  pcc explain --text - --nearest 5           also the messages nearest to it that the model learned, by case id

The message is a customer's: nothing of it goes into MLflow, a log or the embedding cache, and the page is readable by
you alone. What stands behind --text itself stays in the history of your shell, and others on the machine may see it
while the command runs.
"""
_TEXT = Option(
    "text", "the message, in quotes; - reads it from standard input, and keeps it out of the shell's history"
)
_DATA = Option("data", "the file that the row stands in; default: data.path", is_file=True)
_CASE_ID = Option("case_id", "a row of the file: its case id, as in the predictions", metavar="ID")
_MODEL = of.model("champion", *of.ADDRESSES)
_HTML = Option("html", "write the explanation as a page to this file, too", is_file=True, metavar="FILE")

METHOD = Option(
    "method",
    "leave-out weighs each word by what the answer loses without it; surrogate by a linear model of the answers to the "
    "message with words left out at random, which also finds words that stand in for each other, and takes longer",
    "leave-out",
    ("leave-out", "surrogate"),
    metavar="leave-out|surrogate",
)
_NEAREST = Option(
    "nearest", "name so many of the messages nearest to it that the model learned, by case id", "0", metavar="N"
)
_TRAINING_DATA = Option("training_data", f"for --nearest: {of.TRAINING_DATA.help}", is_file=True, metavar="FILE")


class ExplainCommand(LookCommand):
    """`pcc explain`."""

    module = "explain"
    options = (_TEXT, _DATA, _CASE_ID, _MODEL, _HTML, METHOD, _NEAREST, _TRAINING_DATA)

    def answer(self, params: Params, options: Namespace) -> str:
        """The explanation of the message."""
        from pcc_pipeline.steps import explain

        text = unless_left_out(options.text)
        outcome = explain.run(
            params,
            unless_left_out(options.model),
            text=_typed() if text == "-" else text,
            case_id=unless_left_out(options.case_id),
            html=unless_left_out(options.html),
            nearest=explain.Nearest(of.count(_NEAREST, options), unless_left_out(options.training_data)),
            method=cast("Method", of.choice(METHOD, options)),
        )
        return "\n".join(["", *outcome.lines(colour=_colour())])


def _typed() -> str:
    """What standard input holds; bytes that are no text of its encoding stay to be seen as such."""
    if sys.stdin.isatty():
        print("type or paste the message, then Ctrl-D on a line of its own", file=sys.stderr)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    return sys.stdin.read()


def _colour() -> bool:
    """See no-color.org: a terminal, unless its user wants none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
