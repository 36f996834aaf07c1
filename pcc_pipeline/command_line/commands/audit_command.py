"""`pcc audit`: the log of who decided or touched what."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from pcc_pipeline.command_line.commands.manage_commands import Answer, ManageCommand

if TYPE_CHECKING:
    from pcc_pipeline.manage.queries import Question

DESCRIPTION = (
    "Who promoted, published, exported or removed what, when and why; and whether that log is as it was written."
)
EPILOG = """\
examples:
  pcc audit                             the newest lines
  pcc audit --since 30d --what promote  of 30 days; also 2026-11-01, 2026-11-01T08:30 or 12h
  pcc audit --who anna --json           of an account, for machines
  pcc audit verify                      was anything changed, taken out or cut off? exit code 1 if so
  pcc audit --folder ~/server --on RUN  who read or wrote a run, by a server's log, copied here
  pcc audit verify --folder ~/server    the log of a server, copied here

Each line holds the SHA-256 of the one before; the runs of decisions and the registered model hold the log's end.
"""


def _audit(question: Question, options: Namespace) -> str | Answer:
    from datetime import UTC, datetime

    from pcc_pipeline.errors import ConfigError
    from pcc_pipeline.manage import audit

    question = audit.of_folder(question, options.folder)
    chosen = (options.since, options.who, options.what, options.on, options.limit)
    if options.action == "verify":
        if chosen != (None,) * len(chosen):
            raise ConfigError(
                "verify checks the whole log", where="pcc audit verify", fix="leave the other options out"
            )
        text, whole = audit.check(question, offline=options.offline)
        return Answer(text, 0 if whole else 1)
    if options.offline:
        raise ConfigError("--offline is of verify", where="pcc audit", fix="pcc audit verify --offline")
    return audit.read(
        question,
        since=options.since,
        who=options.who,
        what=options.what,
        on=options.on,
        limit=options.limit,
        now=datetime.now(UTC),
    )


COMMAND = ManageCommand(
    "audit",
    "who decided or touched what, and whether that log is whole",
    _audit,
    ("action", "--since", "--who", "--what", "--on", "--limit", "--folder", "--offline"),
    "audit",
    of_runs=False,
    own={
        "action": {"nargs": "?", "choices": ("verify",), "help": "verify: was anything changed, taken out or cut off?"},
        "--since": {"metavar": "TIME", "help": "2026-11-01, 2026-11-01T08:30 (UTC), or 30d or 12h ago"},
        "--who": {"metavar": "NAME", "help": "an account, or a name in the system"},
        "--what": {"metavar": "VERB", "help": "such as promote, force, publish, export, retention or alert"},
        "--on": {"metavar": "ID", "help": "of a run, model or version, or a name"},
        "--limit": {"type": int, "metavar": "N", "help": "how many of the newest; 0 for all; default: 50"},
        "--folder": {"is_file": True, "metavar": "FOLDER", "help": "of another log than that of audit.folder"},
        "--offline": {"action": "store_true", "help": "verify: without what MLflow holds of the log's end"},
    },
)
