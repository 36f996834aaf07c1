"""`pcc lineage` and `pcc subject`: where a person's rows are, what learned from them, and a copy for that person."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from pcc_pipeline.command_line.commands.manage_commands import ManageCommand

if TYPE_CHECKING:
    from pcc_pipeline.manage.queries import Question

DESCRIPTION = "Find the runs that read a person's rows, the sides they stood on, and the versions that came of them."
EPILOG = """\
examples:
  pcc lineage key                            make the key; runs leave manifests from then on
  pcc lineage key --rotate                   another key; the earlier ones go on reading what they wrote
  pcc lineage --subject anna@example.org     whose messages they are, by data.subject_column
  pcc lineage --case-id 2026-09-00017        one case
  pcc lineage --version @champion            which rows a version learned from, by side and file

A manifest holds keyed hashes of case ids and subjects: without the key it tells nobody who was in it. The key is that
of PCC_LINEAGE_KEY, or of lineage.key_file.
"""


def _lineage(question: Question, options: Namespace) -> str:
    from pcc_pipeline.errors import ConfigError
    from pcc_pipeline.manage.persons import lineage

    if options.what == "key":
        return lineage.new_key(question, rotate=options.rotate)
    if options.rotate:
        raise ConfigError("--rotate is of the key", where="pcc lineage", fix="pcc lineage key --rotate")
    if options.version is not None:
        return lineage.of_version(question, options.version)
    return lineage.find(question, subject=options.subject, case_id=options.case_id)


SUBJECT_DESCRIPTION = "What this project holds of a person, for that person."
SUBJECT_EPILOG = """\
examples:
  pcc subject export --subject anna@example.org --output for-anna
  pcc subject export --case-id 2026-09-00017 --output for-that-customer

The folder holds the person's rows from the files of runs and from the copies that runs wrote on this machine, and which
runs and versions used them. It needs the key of lineage; see pcc lineage --help.
"""


def _export(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage.persons import subject

    return subject.export(question, subject=options.subject, case_id=options.case_id, output=options.output)


SUBJECT = {"metavar": "NAME", "help": "a person, as data.subject_column names them"}
CASE_ID = {"metavar": "ID", "help": "one case"}
COMMAND = ManageCommand(
    "lineage",
    "where a person's rows are, and what learned from them",
    _lineage,
    ("what", "--subject", "--case-id", "--version", "--rotate"),
    "persons.lineage",
    own={
        "what": {"nargs": "?", "choices": ("key",), "help": "key: make the key that manifests are written with"},
        "--subject": SUBJECT,
        "--case-id": CASE_ID,
        "--version": {"metavar": "VERSION", "help": "what a version learned from: its tag, number, @alias or run"},
        "--rotate": {"action": "store_true", "help": "with key: add another one, which writes from now on"},
    },
)
SUBJECT_COMMANDS = (
    ManageCommand(
        "export",
        "write a folder with what is held of a person",
        _export,
        ("--subject", "--case-id", "--output"),
        "persons.subject",
        of_runs=False,
        own={
            "--subject": SUBJECT,
            "--case-id": CASE_ID,
            "--output": {"required": True, "is_file": True, "metavar": "FOLDER", "help": "one that is not there yet"},
        },
    ),
)
