"""`pcc alerts`: which alerts stand, what waits to be sent, and whether receivers can be reached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcc_pipeline.alerting.book import AlertBook, Letter
from pcc_pipeline.alerting.receivers import Receivers
from pcc_pipeline.config.alert_settings import names_variable
from pcc_pipeline.errors import ConfigError, PccError, StorageError, meant
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import table
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.records.alerts import note_alerts
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.registry import webhooks


def book_of(question: Question) -> AlertBook:
    """The book of `output.alerts_dir`."""
    return AlertBook(Path(question.params.output.alerts_dir))


def receivers_of(question: Question) -> Receivers:
    """Those of `monitoring.notify`."""
    return Receivers(question.params.monitoring.notify, os.environ)


def standing(question: Question) -> str:
    """The alerts that stand, and what waits to be sent."""
    book, receivers = book_of(question), receivers_of(question)
    alerts, ended, waiting = book.alerts, book.ended, book.waiting
    if question.as_json:
        document = {
            "alerts": [alert.model_dump(mode="json") for alert in alerts],
            "ended": [one.model_dump(mode="json") for one in ended],
            "waiting": [letter.model_dump(mode="json", exclude={"body"}) for letter in waiting],
            "checked": {name: when.isoformat() for name, when in book.checked.items()},
            "rules": [rule.words for rule in question.params.monitoring.alerts],
        }
        return json_text(document)
    lines = []
    if alerts:
        head = ("since (UTC)", "level", "model", "version", "metric", "value", "window", "rule")
        rows = [
            (
                f"{alert.since:%Y-%m-%d %H:%M}",
                alert.level,
                alert.subject,
                alert.version,
                alert.metric,
                alert.value,
                alert.window,
                alert.rule,
            )
            for alert in alerts
        ]
        lines.append(table(head, rows))
    else:
        lines.append("no alert stands")
    lines += [f"ended {one.when:%Y-%m-%d %H:%M} UTC: {one.alert.rule}: {one.words}" for one in ended]
    if waiting:
        wait = "letter waits" if len(waiting) == 1 else "letters wait"
        lines.append(f"{len(waiting):,} {wait} for {', '.join(sorted({letter.to for letter in waiting}))}")
    lines += [f"{name} was looked at last {when:%Y-%m-%d %H:%M} UTC" for name, when in sorted(book.checked.items())]
    lines += [f"{name} is told nothing: it is not set" for name in receivers.without_address]
    return "\n".join(lines)


def send(question: Question) -> str:
    """Send what waits.

    Raises:
        PccError: something could not be sent, and still waits.
    """
    return _sent(question, book_of(question), receivers_of(question))


def test(question: Question, to: str | None) -> str:
    """Send a test to each receiver, or to one.

    Raises:
        ConfigError: there is no such receiver, or none has an address.
        PccError: a receiver did not take it.
    """
    receivers = receivers_of(question)
    if to is not None:
        _demand_name(to, "--to")
    names = receivers.names if to is None else (to,)
    if to is not None and to not in receivers.names:
        known = to in receivers.without_address
        raise ConfigError(
            f"{to} is not set" if known else f"there is no receiver {to}{meant(to, receivers.names)}",
            where="monitoring.notify",
            fix=f"set {to} to an address" if known else f"give one of {', '.join(question.params.monitoring.notify)}",
        )
    if not names:
        missing = ", ".join(receivers.without_address) or "monitoring.notify"
        raise ConfigError(
            "no receiver has an address",
            where="monitoring.notify",
            fix=f"set {missing} to an address that Apprise knows, such as slack://…, mailto://… or json://host/path",
        )
    now = datetime.now(UTC)
    letter = Letter(
        id="test",
        kind="event",
        level="warning",
        title=f"test: {question.model_name}",
        body="This is a test of pcc alerts. Nothing is wrong.",
        made=now,
        to="",
    )
    results = {name: receivers.deliver(letter.model_copy(update={"to": name})) for name in names}
    if failed := {name: reason for name, reason in results.items() if reason}:
        raise _undelivered(failed, len(failed))
    return json_text({"sent": list(names)}) if question.as_json else f"sent to {', '.join(names)}"


def check(question: Question, hours: float | None) -> str:
    """Tell the receivers where nobody has looked at the model for so many hours; for a schedule of its own.

    Args:
        hours: None for `monitoring.absence_hours`.

    Raises:
        ConfigError: the hours are none.
        PccError: it could not be sent, and waits.
    """
    hours = question.params.monitoring.absence_hours if hours is None else hours
    if not hours > 0:
        raise ConfigError(f"{hours:g} hours are no time to wait", where="--hours", fix="give more than 0, such as 36")
    book, receivers = book_of(question), receivers_of(question)
    notices = book.absence(question.model_name, hours, receivers.names)
    warnings = note_alerts(question.params, notices)
    said = _sent(question, book, receivers)
    last = book.checked.get(question.model_name)
    if question.as_json:
        return json_text({"told": [notice.title for notice in notices], "last": last.isoformat() if last else None})
    looked = f"looked at last {last:%Y-%m-%d %H:%M} UTC" if last else "never looked at"
    return "\n".join([f"{question.model_name}: {looked}", *(notice.title for notice in notices), said, *warnings])


def webhook(
    question: Question,
    name: str | None,
    *,
    address_from: str | None,
    secret_from: str | None,
    on: str | None,
    remove: bool,
    try_it: bool,
) -> str:
    """List MLflow's webhooks, or set up, try or remove one.

    Raises:
        ConfigError: the options do not go together.
        TrackingError: the store has no server, or it refuses.
    """
    if name is None:
        if address_from or secret_from or on or remove or try_it:
            raise ConfigError("which webhook?", where="NAME", fix="name it: pcc alerts webhook NAME …")
        return _hooks(question, webhooks.hooks())
    if remove:
        webhooks.remove_hook(name)
        return json_text({"removed": name}) if question.as_json else f"removed webhook {name}"
    if address_from:
        events = tuple((on or "promotions").split(","))
        if wrong := [event for event in events if event not in webhooks.EVENTS]:
            raise ConfigError(
                f"no such events: {', '.join(wrong)}{meant(wrong[0], webhooks.EVENTS)}",
                where="--on",
                fix=f"give some of {','.join(webhooks.EVENTS)}",
            )
        environment = os.environ
        secret = _from(environment, "--secret-from", secret_from) if secret_from else None
        hook = webhooks.set_hook(name, _from(environment, "--address-from", address_from), events, secret)
        said = _hooks(question, [hook])
        if not try_it:
            return said
    if not try_it and not address_from:
        raise ConfigError(
            f"what about {name}?", where="pcc alerts webhook", fix="give --address-from VARIABLE, --try or --remove"
        )
    answer = webhooks.try_hook(name)
    return json_text({"tried": name, "answer": answer}) if question.as_json else f"{name}: {answer}"


def _from(environment: Mapping[str, str], option: str, variable: str) -> str:
    _demand_name(variable, option)
    if not (value := environment.get(variable)):
        raise ConfigError(f"{variable} is not set", where=option, fix="name the variable that holds it, and set that")
    return value


def _demand_name(variable: str, option: str) -> None:
    if not names_variable(variable):
        raise ConfigError(
            "this is no name of an environment variable",
            where=option,
            fix="name the variable that holds the address or secret; neither is given by itself",
        )


def _hooks(question: Question, hooks: list[webhooks.Hook]) -> str:
    if question.as_json:
        return json_text([{"name": one.name, "host": one.host, "events": list(one.events)} for one in hooks])
    if not hooks:
        return "this server has no webhook"
    rows: list[tuple[Any, ...]] = [
        (one.name, one.host, "active" if one.active else "disabled", ", ".join(one.events)) for one in hooks
    ]
    return table(("name", "host", "state", "events"), rows)


def _sent(question: Question, book: AlertBook, receivers: Receivers) -> str:
    delivery = book.send(receivers.deliver)
    if delivery.failed:
        raise _undelivered(delivery.failed, delivery.waiting)
    if question.as_json:
        return json_text(delivery.model_dump())
    return f"sent {delivery.sent}" if delivery.sent else "nothing waits to be sent"


def _undelivered(failed: Mapping[str, str], waiting: int) -> PccError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
    return StorageError(
        f"{counted(waiting, 'letter')} could not be sent: {reasons}",
        where="monitoring.notify",
        fix="mend the address in its variable, or wait until its service is back; `pcc alerts send` sends what waits",
    )
