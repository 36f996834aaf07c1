"""The command `pcc`: the steps and what looks back on them, as commands of one program."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from pcc_pipeline import __version__
from pcc_pipeline.command_line import (
    alert_commands,
    auto_command,
    completion,
    explain_command,
    lineage_command,
    manage_commands,
    profile_command,
)
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import any_text_prints, quiet_if_ended
from pcc_pipeline.command_line.step_commands import STEPS

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


def parser() -> Parser:
    """The parser of the whole program; the chosen command is `options.command`."""
    whole = Parser(prog="pcc", description=_DESCRIPTION, epilog=_EPILOG)
    whole.add_argument("--version", action="version", version=f"pcc {__version__}")
    names = {step: [step.name, *([step.entry] if step.entry != step.name else [])] for step in STEPS}
    commands = whole.add_commands(
        [
            *(name for each in names.values() for name in each),
            "auto",
            "profile",
            "explain",
            "status",
            "models",
            "alerts",
            "lineage",
            "subject",
            "completion",
        ]
    )
    for step, (name, *aliases) in names.items():
        line = f"{step.description[0].lower()}{step.description[1:-1]}"
        one = commands.add_parser(name, aliases=aliases, help=line, description=step.description, epilog=step.epilog)
        step.add_options(one)
        one.set_defaults(command=step)
    rounds = commands.add_parser(
        "auto",
        help="train again where there is need, then watch the champion: once, or again and again",
        description=auto_command.DESCRIPTION,
        epilog=auto_command.EPILOG,
    )
    auto = auto_command.AutoCommand()
    auto.add_options(rounds)
    rounds.set_defaults(command=auto)
    profiled = commands.add_parser(
        "profile",
        help="how complete, valid, unique, consistent and fresh a file of messages is",
        description=profile_command.DESCRIPTION,
        epilog=profile_command.EPILOG,
    )
    profile = profile_command.ProfileCommand()
    profile.add_options(profiled)
    profiled.set_defaults(command=profile)
    explained = commands.add_parser(
        "explain",
        help="which words of one message carried the model's answer",
        description=explain_command.DESCRIPTION,
        epilog=explain_command.EPILOG,
        private=True,
    )
    explain = explain_command.ExplainCommand()
    explain.add_options(explained)
    explained.set_defaults(command=explain)
    health = manage_commands.STATUS
    asked = commands.add_parser(
        health.name, help=health.help, description=f"{health.help[0].upper()}{health.help[1:]}."
    )
    health.add_options(asked)
    asked.set_defaults(command=health)
    models = commands.add_parser(
        "models",
        help="past runs and versions: list, compare, export, promote, …",
        description=manage_commands.DESCRIPTION,
        epilog=manage_commands.EPILOG,
    )
    manage_commands.add_to(models)
    alerts = commands.add_parser(
        "alerts",
        help="alerts about the model that serves, and who is told of them",
        description=alert_commands.DESCRIPTION,
        epilog=alert_commands.EPILOG,
    )
    manage_commands.add_to(alerts, alert_commands.COMMANDS)
    traced = commands.add_parser(
        "lineage",
        help=lineage_command.COMMAND.help,
        description=lineage_command.DESCRIPTION,
        epilog=lineage_command.EPILOG,
        private=True,
    )
    lineage_command.COMMAND.add_options(traced)
    traced.set_defaults(command=lineage_command.COMMAND)
    subjects = commands.add_parser(
        "subject",
        help="what is held of a person, as a folder for that person",
        description=lineage_command.SUBJECT_DESCRIPTION,
        epilog=lineage_command.SUBJECT_EPILOG,
        private=True,
    )
    manage_commands.add_to(subjects, lineage_command.SUBJECT_COMMANDS)
    shells = commands.add_parser(
        "completion", help="completion for bash and zsh", description=completion.DESCRIPTION, epilog=completion.EPILOG
    )
    command = completion.CompletionCommand(parser)
    command.add_options(shells)
    shells.set_defaults(command=command)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    any_text_prints()
    return quiet_if_ended(lambda: _run(parser().parse_args(arguments)))


def _run(options: Namespace) -> int:
    return int(options.command.run(options))
