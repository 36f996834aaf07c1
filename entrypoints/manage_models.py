"""Past runs and versions in MLflow: list, look up, compare, export, promote, publish; the older registry brought in."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from command_line import any_text_prints, exit_code, imports

DESCRIPTION = "Look up, compare and export past runs and versions in MLflow; promote, roll back and publish versions."
EPILOG = """\
examples:
  manage_models.py list --failed                     why did the last runs fail?
  manage_models.py get --version v20250729084352     one version: its tag (with or without '_'), number or @alias
  manage_models.py compare @champion @challenger     scores with 95% intervals, and where the parameters differ
  manage_models.py export --output runs.csv          every run, one row each
  manage_models.py promote v20250729084352 --reason "better on opt-outs"
  manage_models.py rollback --reason "complaints"    the previous champion again, also for the downstream system
  manage_models.py import model_registry.json        the older system's registry; again changes nothing

The store is the one that MLFLOW_TRACKING_URI names, by default mlflow.db in this folder. Each command has its own
--help.
"""
REFERENCE = "a version: v20250729_084352 (the '_' may be left out), a registry number, @champion, or a run's id"


@dataclass(frozen=True)
class Command:
    """A subcommand: `call(the module of pcc_pipeline.steps, its question, options)` gives the text to print."""

    name: str
    help: str
    call: Callable[[Any, Any, argparse.Namespace], str]
    options: tuple[str, ...] = ()
    module: str = "queries"


# Option of a command -> how argparse should read it.
OPTIONS: dict[str, dict[str, Any]] = {
    "a": {"metavar": "A", "help": REFERENCE},
    "b": {"metavar": "B", "help": "another one"},
    "version": {
        "metavar": "VERSION",
        "nargs": "?",
        "default": "@challenger",
        "help": f"{REFERENCE}; default: @challenger",
    },
    "file": {"help": "model_registry.json of the older system, local or gs://…"},
    "--version": {"required": True, "help": REFERENCE},
    "--step": {"help": "only runs of this step, such as train, evaluate or trial, also within others"},
    "--failed": {"action": "store_true", "help": "only runs that failed or were ended from outside"},
    "--limit": {"type": int, "metavar": "N", "help": "how many, newest first; 0 for all; default: 20, export all"},
    "--all": {"action": "store_true", "help": "also scores by class, and parameters that are equal"},
    "--format": {"choices": ("csv", "json"), "default": "csv", "help": "default: csv"},
    "--output": {"metavar": "FILE", "help": "write to this file instead of the terminal"},
    "--metric": {"action": "append", "metavar": "NAME", "help": "instead of test/f1_macro and test/accuracy; repeat"},
    "--reason": {"default": "", "metavar": "…", "help": "why, for the record; needed with --force"},
    "--force": {"action": "store_true", "help": "go past failed gates"},
    "--days": {"type": int, "required": True, "metavar": "N", "help": "runs that ended more than N days ago"},
    "--delete": {"action": "store_true", "help": "remove them; without it they are only shown"},
    "--data": {"metavar": "FILE", "help": "where the version's training file lies now, if it was moved"},
    "--free-text": {"action": "store_true", "help": "also notes and texts; only if no customer's words stand there"},
}

COMMANDS = (
    Command("init", "make the local store, if there is none", lambda steps, asked, given: steps.init(asked)),
    Command(
        "list",
        "recent runs, failed ones too, with their reason",
        lambda steps, asked, given: steps.list_runs(asked, limit=given.limit, step=given.step, failed=given.failed),
        ("--limit", "--step", "--failed"),
    ),
    Command("latest", "the newest version that was trained", lambda steps, asked, given: steps.latest(asked)),
    Command(
        "summary",
        "performance over time",
        lambda steps, asked, given: steps.summary(asked, limit=given.limit, metrics=given.metric),
        ("--limit", "--metric"),
    ),
    Command("get", "one version", lambda steps, asked, given: steps.get(asked, given.version), ("--version",)),
    Command(
        "export",
        "all runs as CSV or JSON",
        lambda steps, asked, given: steps.export(asked, form=given.format, output=given.output, limit=given.limit),
        ("--limit", "--format", "--output"),
    ),
    Command(
        "compare",
        "two versions side by side",
        lambda steps, asked, given: steps.compare(asked, given.a, given.b, every=given.all),
        ("a", "b", "--all"),
    ),
    Command(
        "promote",
        "make a version the champion if it passes the gates",
        lambda steps, asked, given: steps.promote(
            asked, given.version, reason=given.reason, force=given.force, data=given.data
        ),
        ("version", "--reason", "--force", "--data"),
        "decisions",
    ),
    Command(
        "rollback",
        "make the previous champion the champion again",
        lambda steps, asked, given: steps.rollback(asked, reason=given.reason),
        ("--reason",),
        "decisions",
    ),
    Command("publish", "publish the champion", lambda steps, asked, given: steps.publish(asked), (), "decisions"),
    Command(
        "resume",
        "log what MLflow missed while it was away",
        lambda steps, asked, given: steps.resume(asked),
        (),
        "resume",
    ),
    Command(
        "retention",
        "remove runs older than some days, with their models; shows them first",
        lambda steps, asked, given: steps.retention(asked, days=given.days, delete=given.delete),
        ("--days", "--delete"),
        "retention",
    ),
    Command(
        "import",
        "bring the older system's JSON registry in, once",
        lambda steps, asked, given: steps.import_registry(asked, given.file, free_text=given.free_text),
        ("file", "--free-text"),
    ),
)


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        one = commands.add_parser(command.name, help=command.help, description=f"{command.help.capitalize()}.")
        for option in command.options:
            one.add_argument(option, **OPTIONS[option])
        one.add_argument("--experiment", metavar="NAME", help="default: the environment's, else pcc-intent")
        one.add_argument("--params-file", metavar="FILE", help="for registry and output; default: params.yaml")
        one.add_argument("--json", action="store_true", help="answer in JSON, for machines")
        one.add_argument("--debug", action="store_true", help="show the traceback of an error")
        one.set_defaults(call=command.call, module=command.module)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    any_text_prints()
    options = parser().parse_args(arguments)

    def answer() -> str:
        with imports():
            queries, steps = (
                importlib.import_module(f"pcc_pipeline.manage.{name}") for name in ("queries", options.module)
            )
        params = queries.params_of(options.params_file, os.environ, demanded=options.module == "decisions")
        asked = queries.Question(params, options.experiment, options.json)
        return str(options.call(steps, asked, options)).rstrip("\n")

    return exit_code(answer, debug=options.debug)


if __name__ == "__main__":
    sys.exit(main())
