"""`pcc alerts`: what stands, what waits, and whether anybody would hear of it."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from pcc_pipeline.command_line.commands.manage_commands import ManageCommand

if TYPE_CHECKING:
    from pcc_pipeline.manage.queries import Question

DESCRIPTION = "Alerts about the model that serves: which stand, who is told, and whether the telling works."
EPILOG = """\
examples:
  export PCC_NOTIFY=slack://…              an address that Apprise knows; several are parted by blanks
  %(prog)s test                            does it arrive?
  %(prog)s list                            which alerts stand, and what waits to be sent
  %(prog)s send                            send what a receiver did not take when it was down
  %(prog)s check --hours 36                tell it where nobody has looked at the model for so long
  %(prog)s webhook slack --address-from HOOK --on promotions,versions

When there is an alert is said by monitoring.alerts, and who is told by monitoring.notify, which names the environment
variables of their addresses. Sending needs the extra `notify`. No alert quotes a message.
"""


def _list(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import alerts

    return alerts.standing(question)


def _send(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import alerts

    return alerts.send(question)


def _test(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import alerts

    return alerts.test(question, options.to)


def _check(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import alerts

    return alerts.check(question, options.hours)


def _webhook(question: Question, options: Namespace) -> str:
    from pcc_pipeline.manage import alerts

    return alerts.webhook(
        question,
        options.name,
        address_from=options.address_from,
        secret_from=options.secret_from,
        on=options.on,
        remove=options.remove,
        try_it=options.try_it,
    )


COMMANDS = (
    ManageCommand("list", "the alerts that stand, and what waits to be sent", _list, (), "alerts", of_runs=False),
    ManageCommand("send", "send what waits", _send, (), "alerts", of_runs=False),
    ManageCommand("test", "send a test to the receivers", _test, ("--to",), "alerts", of_runs=False),
    ManageCommand(
        "check",
        "tell the receivers if nobody has looked for long",
        _check,
        ("--hours",),
        "alerts",
        of_runs=False,
    ),
    ManageCommand(
        "webhook",
        "MLflow's own webhooks, for events of its registry",
        _webhook,
        ("name", "--address-from", "--secret-from", "--on", "--try", "--remove"),
        "alerts",
        of_runs=False,
    ),
)
