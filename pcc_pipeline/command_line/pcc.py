"""The command `pcc`: the steps and what looks back on them, as commands of one program."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import NamedTuple, NoReturn, Protocol

from pcc_pipeline import __version__
from pcc_pipeline.command_line.commands import (
    alert_commands,
    audit_command,
    auto_command,
    completion,
    decrypt_command,
    explain_command,
    hold_commands,
    lineage_command,
    manage_commands,
    profile_command,
    serve_command,
)
from pcc_pipeline.command_line.commands.step_commands import STEPS
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import any_text_prints, leave, quiet_if_ended

_DESCRIPTION = "Train, evaluate, promote and use text classifiers, with every run and model on record in MLflow."
_EPILOG = """\
examples:
  pcc profile --data cases.csv                  is the file fit to be trained on?
  pcc run --data cases.csv                      from a file of labelled messages to an evaluated model
  pcc train --data cases.csv --model-type SGD   training alone
  pcc models list --failed                      why did the last runs fail?

Each command has its own --help. Options that are left out come from params.yaml in this folder; without one, they have
their defaults.
"""


class _Command(Protocol):
    def add_options(self, parser: Parser) -> None: ...
    def run(self, options: Namespace) -> int: ...


class _Entry(NamedTuple):
    """A command beside the steps, or a group of them.

    Attributes:
        private: no word that is typed is repeated; see Parser.
    """

    name: str
    of: _Command | list[manage_commands.ManageCommand]
    help: str
    description: str
    epilog: str | None
    private: bool = False


def _entries() -> list[_Entry]:
    status, traced, lineage = manage_commands.STATUS, lineage_command.COMMAND, lineage_command
    audited, approve = audit_command.COMMAND, manage_commands.APPROVE
    return [
        _Entry(
            "auto",
            auto_command.AutoCommand(),
            "train again where there is need, then watch the champion: once, or again and again",
            auto_command.DESCRIPTION,
            auto_command.EPILOG,
        ),
        _Entry(
            "profile",
            profile_command.ProfileCommand(),
            "how complete, valid, unique, consistent and fresh a file of messages is",
            profile_command.DESCRIPTION,
            profile_command.EPILOG,
        ),
        _Entry(
            "explain",
            explain_command.ExplainCommand(),
            "which words of one message carried the model's answer",
            explain_command.DESCRIPTION,
            explain_command.EPILOG,
            private=True,
        ),
        _Entry(
            "serve",
            serve_command.ServeCommand(),
            "answer messages over HTTP by the champion",
            serve_command.DESCRIPTION,
            serve_command.EPILOG,
        ),
        _Entry(status.name, status, status.help, f"{status.help[0].upper()}{status.help[1:]}.", None),
        _Entry(
            "models",
            [*manage_commands.COMMANDS],
            "past runs and versions: list, compare, export, promote, …",
            manage_commands.DESCRIPTION,
            manage_commands.EPILOG,
        ),
        _Entry(approve.name, approve, approve.help, f"{approve.help[0].upper()}{approve.help[1:]}.", None),
        _Entry(
            "alerts",
            [*alert_commands.COMMANDS],
            "alerts about the model that serves, and who is told of them",
            alert_commands.DESCRIPTION,
            alert_commands.EPILOG,
        ),
        _Entry(traced.name, traced, traced.help, lineage.DESCRIPTION, lineage.EPILOG, private=True),
        _Entry(
            "subject",
            [*lineage.SUBJECT_COMMANDS],
            "what is held of a person, as a folder for that person",
            lineage.SUBJECT_DESCRIPTION,
            lineage.SUBJECT_EPILOG,
            private=True,
        ),
        _Entry(audited.name, audited, audited.help, audit_command.DESCRIPTION, audit_command.EPILOG),
        _Entry(
            "hold",
            [*hold_commands.COMMANDS],
            "legal holds: what is kept whatever retention or erasure would do",
            hold_commands.DESCRIPTION,
            hold_commands.EPILOG,
            private=True,
        ),
        _Entry(
            decrypt_command.COMMAND.name,
            decrypt_command.COMMAND,
            decrypt_command.COMMAND.help,
            decrypt_command.DESCRIPTION,
            decrypt_command.EPILOG,
        ),
        _Entry(
            "completion",
            completion.CompletionCommand(parser),
            "completion for bash and zsh",
            completion.DESCRIPTION,
            completion.EPILOG,
        ),
    ]


def parser() -> Parser:
    """The parser of the whole program; the chosen command is `options.command`."""
    whole = Parser(prog="pcc", description=_DESCRIPTION, epilog=_EPILOG)
    whole.add_argument("--version", action="version", version=f"pcc {__version__}")
    names = {step: [step.name, *([step.entry] if step.entry != step.name else [])] for step in STEPS}
    entries = _entries()
    commands = whole.add_commands([*(name for each in names.values() for name in each), *(one.name for one in entries)])
    for step, (name, *aliases) in names.items():
        line = f"{step.description[0].lower()}{step.description[1:-1]}"
        one = commands.add_parser(name, aliases=aliases, help=line, description=step.description, epilog=step.epilog)
        step.add_options(one)
        one.set_defaults(command=step)
    for entry in entries:
        texts = {"help": entry.help, "description": entry.description, "epilog": entry.epilog}
        one = commands.add_parser(entry.name, **texts, private=entry.private)
        if isinstance(entry.of, list):
            manage_commands.add_to(one, entry.of)
        else:
            entry.of.add_options(one)
            one.set_defaults(command=entry.of)
    return whole


def program() -> NoReturn:
    """What the script `pcc` calls."""
    leave(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    any_text_prints()
    return quiet_if_ended(lambda: _run(parser().parse_args(arguments)))


def _run(options: Namespace) -> int:
    return int(options.command.run(options))
