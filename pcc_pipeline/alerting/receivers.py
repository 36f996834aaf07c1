"""Who is told: addresses of the environment, sent to through Apprise (Slack, Teams, e-mail, PagerDuty, a webhook …)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pcc_pipeline.errors import StorageError

if TYPE_CHECKING:
    from pcc_pipeline.alerting.book import Letter

_INSTALL = "pip install -c constraints.txt -e '.[notify]'"


class Receivers:
    """The receivers of `monitoring.notify` that have an address.

    Args:
        notify: the environment variables of the addresses; a receiver goes by the name of its variable.
        environment: of this process.
    """

    def __init__(self, notify: Sequence[str], environment: Mapping[str, str]) -> None:
        self._known = tuple(notify)
        self._addresses = {name: environment[name].split() for name in notify if environment.get(name)}
        self._open: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Those that can be told."""
        return tuple(self._addresses)

    @property
    def without_address(self) -> tuple[str, ...]:
        """Those whose variable is not set."""
        return tuple(name for name in self._known if name not in self._addresses)

    def deliver(self, letter: Letter) -> str | None:
        """Send one letter; the reason where its receiver did not take it.

        A reason names no address: its path is often its password.
        """
        if letter.to not in self._addresses:
            return "it is not set" if letter.to in self._known else "monitoring.notify no longer names it"
        try:
            receiver = self._receiver(letter.to)
        except StorageError as error:
            return error.what
        import apprise

        kinds = {
            "recovered": apprise.NotifyType.SUCCESS,
            "ended": apprise.NotifyType.INFO,
            "event": apprise.NotifyType.INFO,
        }
        levels = {"warning": apprise.NotifyType.WARNING, "critical": apprise.NotifyType.FAILURE}
        kind = levels[letter.level] if letter.kind in ("raised", "repeated") else kinds[letter.kind]
        with _Overheard() as overheard:
            taken = receiver.notify(title=letter.title, body=letter.body, notify_type=kind)
        return None if taken else overheard.reason

    def _receiver(self, name: str) -> Any:
        """One receiver, ready to be sent to.

        Raises:
            StorageError: Apprise is not installed, or the address is none that it knows.
        """
        if name not in self._open:
            try:
                import apprise
            except ModuleNotFoundError as error:
                raise StorageError(f"Apprise, which sends alerts, is not installed: {_INSTALL}") from error
            # One after the other, and nothing of a message stays on disk.
            asset = apprise.AppriseAsset(async_mode=False, secure_logging=True, app_id="pcc_pipeline")
            receiver = apprise.Apprise(asset=asset)
            with _Overheard():
                known = [receiver.add(address) for address in self._addresses[name]]
            if not all(known):
                raise StorageError(f"{name} holds no address that Apprise knows (see its list of them)")
            self._open[name] = receiver
        return self._open[name]


class _Overheard(logging.Handler):
    """What Apprise logs within this: it may hold addresses, so that only its status goes further."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())

    def __enter__(self) -> _Overheard:
        self._logger = logging.getLogger("apprise")
        self._propagates, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagates

    @property
    def reason(self) -> str:
        text = "\n".join(self._lines)
        if match := re.search(r"error=(\d{3})\b", text):
            return f"it answered {match[1]}"
        return "it does not answer" if "onnection" in text or "imeout" in text else "it did not take it"
