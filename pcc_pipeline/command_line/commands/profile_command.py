"""`pcc profile`: what a file is like. It opens no run, so it is no entry point of MLproject."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import TYPE_CHECKING

from pcc_pipeline.command_line import options as of
from pcc_pipeline.command_line.commands.look_command import LookCommand
from pcc_pipeline.command_line.options import Option, unless_left_out
from pcc_pipeline.command_line.parser import Parser

if TYPE_CHECKING:
    from pcc_pipeline.config import Params

DESCRIPTION = (
    "Profile a file of messages, labelled or not: how complete, valid, unique, consistent and fresh it is, and what to "
    "mend."
)
EPILOG = """\
examples:
  pcc profile --data cases.csv                        what a training would meet
  pcc profile --data cases.csv --html profile.html    also as a page to hand on
  pcc profile --data today.csv --model models:/pcc-intent-classifier@champion
  pcc profile --data cases.csv --json                 the numbers, quality/..., for machines

It says which rows would be rejected and why, what is missing in which column, which texts stand there twice or with two
labels, which labels are rare or misspelt, what looks wrongly encoded, how old the newest row is, and with --model which
labels a model does not know and which texts it has learned already. Lines "stops" are what a run would not get past;
lines "look at" are for a person to judge. The exit code is 0 either way.

Nothing is trained, encoded or written but the page. Counts, labels and names of columns and files are shown, and no
text, word or case id: whoever gets the page learns nothing that a customer wrote.
"""
_DATA = Option(
    "data",
    f"the messages: {of.KINDS}, local or gs://…, one or several; default: data.path",
    is_file=True,
)
_LABEL = Option(
    "label", "the column that holds the labels, which must be there then; default: data.label_column if it is"
)
_MODEL = Option("model", f"{of.words(*of.ADDRESSES)}: compare with its labels and with the texts that it learned")
_HTML = Option("html", "write the profile as a page to this file, too", is_file=True, metavar="FILE")


class ProfileCommand(LookCommand):
    """`pcc profile`."""

    module = "profile"
    options = (_DATA, _LABEL, _MODEL, _HTML)

    def add_switches(self, parser: Parser) -> None:
        """An answer for machines."""
        parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")

    def answer(self, params: Params, options: Namespace) -> str:
        """The profile of the file."""
        from pcc_pipeline.steps import profile

        outcome = profile.run(
            params,
            unless_left_out(options.model),
            labelled=unless_left_out(options.label) is not None,
            html=unless_left_out(options.html),
        )
        if options.json:
            return json.dumps(outcome.document, ensure_ascii=False, indent=2)
        return "\n".join(["", *outcome.summary])
