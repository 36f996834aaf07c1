"""`pcc decrypt`: a plain copy of an encrypted table."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from pcc_pipeline.command_line.commands.manage_commands import ManageCommand

if TYPE_CHECKING:
    from pcc_pipeline.manage.queries import Question

DESCRIPTION = "Write a plain copy of a table that output.encryption encrypted, for what reads no encrypted one."
EPILOG = """\
examples:
  pcc decrypt outputs/scores.parquet --output plain.parquet
  pcc decrypt outputs/rejected.parquet --output rejected.csv

It needs the key that encrypted the file, of PCC_LINEAGE_KEY or of lineage.key_file. The commands of pcc read encrypted
files as they are.
"""


def _decrypted(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import decrypted

    return decrypted.decrypted(question, options.file, output=options.output)


COMMAND = ManageCommand(
    "decrypt",
    "a plain copy of an encrypted table",
    _decrypted,
    ("file", "--output"),
    "decrypted",
    of_runs=False,
    own={
        "file": {"is_file": True, "metavar": "FILE", "help": "such as outputs/scores.parquet"},
        "--output": {"required": True, "is_file": True, "metavar": "FILE", "help": ".parquet, or .csv"},
    },
)
