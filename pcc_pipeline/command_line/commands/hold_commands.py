"""`pcc hold`: legal holds on versions, persons and cases."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from pcc_pipeline.command_line.commands.lineage_command import CASE_ID, SUBJECT
from pcc_pipeline.command_line.commands.manage_commands import ManageCommand

if TYPE_CHECKING:
    from pcc_pipeline.manage.queries import Question

DESCRIPTION = "What must be kept for a court or an authority, whatever retention or erasure would do to it."
EPILOG = """\
examples:
  pcc hold add --version @champion --reason "case 12/26"
  pcc hold add --subject anna@example.org --reason "case 13/26"
  pcc hold list
  pcc hold list --subject anna@example.org
  pcc hold remove --subject anna@example.org --reason "case 13/26 is over"

Holds are tags in MLflow's registry, so they hold for every machine that uses it. A person is held by keyed hashes, for
which the key of lineage must be here; see pcc lineage --help.
"""


def _add(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage.persons import holds

    return holds.add(
        question, version=options.version, subject=options.subject, case_id=options.case_id, reason=options.reason
    )


def _remove(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage.persons import holds

    return holds.remove(
        question,
        version=options.version,
        subject=options.subject,
        case_id=options.case_id,
        hold=options.hold,
        reason=options.reason,
    )


def _list(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage.persons import holds

    return holds.listed(question, subject=options.subject, case_id=options.case_id)


_WHOM = {
    "--version": {"metavar": "VERSION", "help": "a version of the registered model: its tag, number, @alias or run"},
    "--subject": SUBJECT,
    "--case-id": CASE_ID,
}
COMMANDS = (
    ManageCommand(
        "add",
        "hold a version, a person or a case",
        _add,
        (*_WHOM, "--reason"),
        "persons.holds",
        own={**_WHOM, "--reason": {"default": "", "metavar": "…", "help": "why, as plans show it; no names"}},
    ),
    ManageCommand(
        "remove",
        "let it go",
        _remove,
        (*_WHOM, "--hold", "--reason"),
        "persons.holds",
        own={
            **_WHOM,
            "--hold": {"metavar": "ID", "help": "the id of a hold, as list shows it"},
            "--reason": {"default": "", "metavar": "…", "help": "why, for the audit log; no names"},
        },
    ),
    ManageCommand(
        "list",
        "what is held, since when, by whom and why; or whether a person or a case is",
        _list,
        ("--subject", "--case-id"),
        "persons.holds",
        of_runs=False,
        own=_WHOM,
    ),
)
