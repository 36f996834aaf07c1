"""Past runs and versions as commands: `pcc models list`, or `python entrypoints/manage_models.py list`."""

from __future__ import annotations

import importlib
import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import (
    any_text_prints,
    exit_code,
    imports,
    log,
    quiet_if_ended,
    volume,
    volume_options,
)

if TYPE_CHECKING:
    from pcc_pipeline.manage.queries import Question

DESCRIPTION = "Look up, compare and export past runs and versions in MLflow; promote, roll back and publish versions."
EPILOG = """\
examples:
  %(prog)s list --failed                     why did the last runs fail?
  %(prog)s get --version v20250729084352     one version: its tag (with or without '_'), number or @alias
  %(prog)s compare @champion @challenger     scores with 95%% intervals, and where the parameters differ
  %(prog)s export --output runs.csv          every run, one row each
  %(prog)s promote v20250729084352 --reason "better on opt-outs"
  %(prog)s rollback --reason "complaints"    the previous champion again, also for the downstream system
  %(prog)s import model_registry.json        the older system's registry; again changes nothing

The store is the one that MLFLOW_TRACKING_URI names, by default mlflow.db in this folder. Each command has its own
--help.
"""
# Held to what `import` takes by a test.
REGISTRY_FORM = """\
the file's form:
  {"runs": [{
    "run_id": "run_20250729084352",
    "timestamp": "2025-07-29T08:43:52",
    "status": "success",
    "model_version": "v20250729084352",
    "embedding_model": "all-MiniLM-L6-v2",
    "metrics": {"f1_macro": 0.91, "accuracy": 0.93},
    "hyperparameters": {"C": 10, "penalty": "l1"},
    "data_info": {"total_samples": 900, "classes": ["opt_out", "other"]},
    "gcs_paths": {"model": "gs://pcc-datasets/pcc-models/v20250729084352/model.joblib"},
    "processing_duration_seconds": 42.5,
    "notes": "left out without --free-text"
  }]}

Each run needs run_id, timestamp (ISO 8601, or seconds since 1970) and status (success or failed); the rest may be
missing, and what stands in metrics, hyperparameters, data_info and gcs_paths may have other names and be nested.
"""
_REFERENCE = "a version: v20250729_084352 (the '_' may be left out), a registry number, @champion, or a run's id"
# Option of a command -> how argparse should read it.
_OPTIONS: dict[str, dict[str, Any]] = {
    "a": {"metavar": "A", "help": _REFERENCE},
    "b": {"metavar": "B", "help": "another one"},
    "version": {
        "metavar": "VERSION",
        "nargs": "?",
        "default": "@challenger",
        "help": f"{_REFERENCE}; default: @challenger",
    },
    "file": {"is_file": True, "help": "model_registry.json of the older system, local or gs://…"},
    "--version": {"required": True, "help": _REFERENCE},
    "--step": {"help": "only runs of this step, such as train, evaluate or trial, also within others"},
    "--failed": {"action": "store_true", "help": "only runs that failed or were ended from outside"},
    "--limit": {"type": int, "metavar": "N", "help": "how many, newest first; 0 for all; default: 20, export all"},
    "--all": {"action": "store_true", "help": "also scores by class, and parameters that are equal"},
    "--format": {"choices": ("csv", "json"), "default": "csv", "help": "default: csv"},
    "--output": {"is_file": True, "metavar": "FILE", "help": "write to this file instead of the terminal"},
    "--metric": {"action": "append", "metavar": "NAME", "help": "instead of test/f1_macro and test/accuracy; repeat"},
    "--reason": {"default": "", "metavar": "…", "help": "why, for the record; needed with --force"},
    "--force": {"action": "store_true", "help": "go past failed gates"},
    "--days": {
        "type": int,
        "metavar": "N",
        "help": "runs alone, that ended more than N days ago; default: what retention in the parameter file says",
    },
    "--delete": {"action": "store_true", "help": "remove them; without it they are only shown"},
    "--data": {
        "is_file": True,
        "metavar": "FILE",
        "help": "where the version's training file lies now, if it was moved",
    },
    "name": {"metavar": "NAME", "nargs": "?", "help": "of the webhook; without one, all are listed"},
    "--to": {"metavar": "RECEIVER", "help": "of monitoring.notify; default: each that has an address"},
    "--hours": {"type": float, "metavar": "N", "help": "instead of monitoring.absence_hours, which is 36 by default"},
    "--address-from": {"metavar": "VARIABLE", "help": "set it up: the environment variable that holds its address"},
    "--secret-from": {"metavar": "VARIABLE", "help": "the variable of the secret that signs what is sent"},
    "--on": {"metavar": "EVENTS", "help": "some of promotions,versions,tags; default: promotions"},
    "--try": {"action": "store_true", "dest": "try_it", "help": "have the server send a test"},
    "--remove": {"action": "store_true", "help": "remove it"},
    "--fail-on": {"choices": ("never", "alert"), "default": "never", "help": "alert: exit code 3 while one stands"},
    "--free-text": {"action": "store_true", "help": "also notes and texts; only if no customer's words stand there"},
}


class Answer(NamedTuple):
    """A text to print, and the exit code that goes with it."""

    text: str
    exit_code: int


class ManageCommand(NamedTuple):
    """A command: `call(question, options)` gives the text to print, and may give an exit code with it.

    Attributes:
        module: of pcc_pipeline.manage, such as `persons.holds`.
        of_runs: it looks into an experiment.
        needs_params: it goes by the gates and targets of the parameter file, so there must be one.
        epilog: what the help says after the options.
        own: options that only this command has, as argparse reads them.
    """

    name: str
    help: str
    call: Callable[[Question, Namespace], str | Answer]
    options: tuple[str, ...] = ()
    module: str = "queries"
    needs_params: bool = False
    epilog: str | None = None
    of_runs: bool = True
    own: Mapping[str, dict[str, Any]] = {}

    def add_options(self, parser: Parser) -> None:
        """Make the options those of this parser."""
        for option in self.options:
            parser.add_argument(option, **(self.own[option] if option in self.own else _OPTIONS[option]))
        if self.of_runs:
            parser.add_argument("--experiment", metavar="NAME", help="default: the environment's, else pcc-intent")
        else:
            parser.set_defaults(experiment=None)
        parser.add_argument(
            "--params-file", is_file=True, metavar="FILE", help="for registry and output; default: params.yaml"
        )
        parser.add_argument("--json", action="store_true", help="answer in JSON, for machines")
        volume_options(parser)
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def run(self, options: Namespace) -> int:
        """Print the answer; the exit code."""
        done = 0

        def answer() -> str:
            nonlocal done
            with imports():
                from pcc_pipeline.manage import queries

                importlib.import_module(f"pcc_pipeline.manage.{self.module}")
            log(volume(options) or "WARNING")
            params = queries.params_of(options.params_file, os.environ, demanded=self.needs_params)
            question = queries.Question(params, options.experiment, options.json)
            said = self.call(question, options)
            if isinstance(said, Answer):
                said, done = said
            return said.rstrip("\n")

        return exit_code(answer, debug=options.debug) or done


def add_to(parser: Parser, group: Sequence[ManageCommand] | None = None) -> None:
    """Make the commands, by default `COMMANDS`, those of this parser; the chosen one is `options.command`."""
    group = COMMANDS if group is None else group
    commands = parser.add_commands([command.name for command in group])
    for command in group:
        description = f"{command.help[0].upper()}{command.help[1:]}."
        one = commands.add_parser(command.name, help=command.help, description=description, epilog=command.epilog)
        command.add_options(one)
        one.set_defaults(command=command)


def parser(program: str) -> Parser:
    """The parser of the script."""
    whole = Parser(prog=program, description=DESCRIPTION, epilog=EPILOG)
    add_to(whole)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command as the script does."""
    any_text_prints()
    return quiet_if_ended(lambda: _run(parser("manage_models.py").parse_args(arguments)))


def _run(options: Namespace) -> int:
    return int(options.command.run(options))


def _init(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.init(question)


def _list(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.list_runs(question, limit=options.limit, step=options.step, failed=options.failed)


def _latest(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.latest(question)


def _summary(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.summary(question, limit=options.limit, metrics=options.metric)


def _get(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.get(question, options.version)


def _export(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.export(question, form=options.format, output=options.output, limit=options.limit)


def _compare(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.compare(question, options.a, options.b, every=options.all)


def _promote(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import decisions

    return decisions.promote(question, options.version, reason=options.reason, force=options.force, data=options.data)


def _rollback(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import decisions

    return decisions.rollback(question, reason=options.reason)


def _publish(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import decisions

    return decisions.publish(question)


def _resume(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import resume

    return resume.resume(question)


def _retention(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import removal

    return removal.show_or_remove(question, days=options.days, delete=options.delete)


def _import(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import queries

    return queries.import_registry(question, options.file, free_text=options.free_text)


def _status(question: Question, options: Namespace) -> Answer:
    from pcc_pipeline.manage import status

    text, wrong = status.answer(question)
    return Answer(text, 3 if wrong and options.fail_on == "alert" else 0)


def _approve(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import decisions

    return decisions.approve(question, options.version, reason=options.reason, decline=options.decline)


APPROVE = ManageCommand(
    "approve",
    "make a version that waits for an approver the champion, or decline it",
    _approve,
    ("version", "--reason", "--decline"),
    "decisions",
    needs_params=True,
    own={
        "version": {"metavar": "VERSION", "help": _REFERENCE},
        "--reason": {"required": True, "metavar": "…", "help": "why, for the record"},
        "--decline": {"action": "store_true", "help": "the champion stays, and the version does not wait any more"},
    },
)
STATUS = ManageCommand(
    "status", "the health of the model that serves, on one screen", _status, ("--fail-on",), "status", of_runs=False
)
COMMANDS = (
    STATUS,
    ManageCommand("init", "make the local store, if there is none", _init),
    ManageCommand("list", "recent runs, failed ones too, with their reason", _list, ("--limit", "--step", "--failed")),
    ManageCommand("latest", "the newest version that was trained", _latest),
    ManageCommand("summary", "performance over time", _summary, ("--limit", "--metric")),
    ManageCommand("get", "one version", _get, ("--version",)),
    ManageCommand("export", "all runs as CSV or JSON", _export, ("--limit", "--format", "--output")),
    ManageCommand("compare", "two versions side by side", _compare, ("a", "b", "--all")),
    ManageCommand(
        "promote",
        "make a version the champion if it passes the gates",
        _promote,
        ("version", "--reason", "--force", "--data"),
        "decisions",
        needs_params=True,
    ),
    ManageCommand(
        "rollback",
        "make the previous champion the champion again",
        _rollback,
        ("--reason",),
        "decisions",
        needs_params=True,
    ),
    ManageCommand("publish", "publish the champion", _publish, (), "decisions", needs_params=True),
    ManageCommand("resume", "log what MLflow missed while it was away", _resume, (), "resume"),
    ManageCommand(
        "retention",
        "remove what is older than retention allows, such as runs with their models; shows it first",
        _retention,
        ("--days", "--delete"),
        "removal",
    ),
    ManageCommand(
        "import",
        "bring the older system's JSON registry in, once",
        _import,
        ("file", "--free-text"),
        epilog=REGISTRY_FORM,
    ),
)
