"""The book of alerts: which stand, and the letters that wait for their receivers.

Both are one file, written whole: an alert and its letters begin together or not at all, however the process ends. A
lock of the folder keeps two processes from telling one alert twice; the system frees it with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pcc_pipeline.config.alert_settings import AlertRule, Level
from pcc_pipeline.errors import StorageError
from pcc_pipeline.files import private_file, private_folder, replacing
from pcc_pipeline.interruption import protected
from pcc_pipeline.monitoring.alert_rules import Reading, readings

_BOOK, _LOCK = "book.json", "lock"
# What no receiver took for so long is of no use to anybody any more.
_STALE = timedelta(days=7)
# For so long an event that was told is known, and not told again.
_REMEMBERED = timedelta(days=90)
# The metric of an alert that nobody looks.
_ABSENCE = "absence"

Kind = Literal["raised", "repeated", "recovered", "ended", "event"]
Windows = Sequence[tuple[str, Mapping[str, float]]]

logger = logging.getLogger(__name__)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Alert(_Entry):
    """One that stands: somebody was told, and it is not over.

    Attributes:
        subject: the registered model; `version` is the champion that was looked at, empty where nobody said.
        rule: in words.
        since: when it was raised.
        sent: when it was last told.
    """

    subject: str
    rule: str
    metric: str
    value: float
    window: str
    level: Level
    to: tuple[str, ...]
    since: datetime
    sent: datetime
    version: str = ""


class Ended(_Entry):
    """An alert that the promotion of another version ended.

    Attributes:
        successor: that version.
        when: when it was ended.
    """

    alert: Alert
    successor: str
    when: datetime

    @property
    def words(self) -> str:
        """Why, in words."""
        of = self.alert.version or "the version that it was about"
        return f"{of} is no longer the champion, {self.successor} is"


class Notice(_Entry):
    """What there is to tell.

    Attributes:
        id: the same for every receiver, and whenever it is sent again.
    """

    id: str
    kind: Kind
    level: Level
    title: str
    body: str
    made: datetime

    @classmethod
    def about(cls, what: str, kind: Kind, level: Level, *, title: str, body: str, made: datetime) -> Self:
        """A notice with the number of what it is about: `what` says it, and nothing else that is told says the same."""
        digest = hashlib.blake2b(what.encode(), digest_size=6).hexdigest()
        return cls(id=digest, kind=kind, level=level, title=title, body=f"{body}\nalert {digest}", made=made)


class Letter(Notice):
    """A notice for one receiver.

    Attributes:
        tries: how often it was begun to be sent.
        open: its sending was begun, and how that ended is not known.
    """

    to: str
    tries: int = 0
    open: bool = False


class _Pages(_Entry):
    """All that is in the file."""

    format: Literal[1] = 1
    alerts: dict[str, Alert] = {}
    ended: list[Ended] = []
    letters: list[Letter] = []
    events: dict[str, datetime] = {}
    checked: dict[str, datetime] = {}
    episodes: int = 0

    def post(self, notice: Notice, receivers: Sequence[str]) -> Notice:
        """Leave a letter of it for each receiver, to be sent."""
        self.letters += [Letter(**notice.model_dump(), to=to) for to in dict.fromkeys(receivers)]
        return notice


class Delivery(BaseModel):
    """What became of the letters.

    Attributes:
        failed: receiver -> why it did not take what is left for it.
    """

    sent: int = 0
    waiting: int = 0
    failed: dict[str, str] = {}


class AlertBook:
    """The book of one folder.

    Args:
        folder: made with the first entry, for its owner alone.
        clock: tells the time, with its zone.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder, self._clock = folder, clock

    def judge(
        self,
        subject: str,
        rules: Sequence[AlertRule],
        windows: Windows,
        receivers: Sequence[str],
        *,
        version: str = "",
        words: Mapping[tuple[str, str], str] | None = None,
    ) -> list[Notice]:
        """Hold the windows against the rules: new alerts, those to tell again, and those that are over.

        An alert whose rule is no longer there ends without a word, and one about another version as by `succession`:
        that may have been promoted on a machine with another book. A metric that no window has leaves its alert as it
        is.

        Args:
            subject: the registered model.
            receivers: who is told where a rule names nobody.
            version: which version the windows are of, for the letter.
            words: (window, metric) -> what is wrong, for the letter.

        Raises:
            StorageError: the book cannot be read or written.
        """
        with self._open() as pages:
            now = self._clock()
            notices = self._looked_again(pages, subject, now)
            if version:
                notices += self._succeeded(pages, subject, version, now, unnamed=False)
            speak = {rule.words: rule for rule in rules}
            for key in [key for key, one in pages.alerts.items() if one.subject == subject and one.rule not in speak]:
                del pages.alerts[key]
            for rule in rules:
                for reading in readings(rule, windows, words or {}):
                    notices += self._turn(pages, subject, reading, rule.to or tuple(receivers), version, now)
            pages.checked[subject] = now
        return notices

    def succession(self, subject: str, version: str) -> list[Notice]:
        """End the alerts about other versions of `subject`, since `version` is its champion now.

        Raises:
            StorageError: the book cannot be read or written.
        """
        if not self._read().alerts:  # nor need there be a book
            return []
        with self._open() as pages:
            return self._succeeded(pages, subject, version, self._clock(), unnamed=True)

    def event(
        self, key: str, title: str, body: str, receivers: Sequence[str], level: Level = "warning"
    ) -> list[Notice]:
        """Tell of something that happened, once for each key.

        Raises:
            StorageError: the book cannot be read or written.
        """
        with self._open() as pages:
            now = self._clock()
            if key in pages.events:
                return []
            pages.events[key] = now
            notice = Notice.about(f"event:{key}", "event", level, title=title, body=body, made=now)
            return [pages.post(notice, receivers)]

    def absence(self, subject: str, hours: float, receivers: Sequence[str]) -> list[Notice]:
        """Tell, once, that nobody has looked at `subject` for so many hours; the next look ends it, which is told too.

        Raises:
            StorageError: the book cannot be read or written.
        """
        with self._open() as pages:
            now = self._clock()
            last = pages.checked.setdefault(subject, now)  # who never looked begins to be waited for now
            absent = now - last
            if absent < timedelta(hours=hours):
                return self._looked_again(pages, subject, now)
            key = f"{_ABSENCE}:{subject}"
            if key in pages.alerts:
                return []
            pages.alerts[key] = Alert(
                subject=subject,
                rule=f"no monitoring for {hours:g} hours",
                metric=_ABSENCE,
                value=absent / timedelta(hours=1),
                window=f"since {last:%Y-%m-%d %H:%M} UTC",
                level="critical",
                to=tuple(receivers),
                since=now,
                sent=now,
            )
            title = f"critical: {subject}: not watched since {last:%Y-%m-%d %H:%M} UTC"
            body = f"No monitoring has ended for more than {hours:g} hours. See whether its schedule and its data come."
            about = f"{key}:{last.isoformat()}"
            notice = Notice.about(about, "raised", "critical", title=title, body=body, made=now)
            return [pages.post(notice, receivers)]

    def send(self, deliver: Callable[[Letter], str | None]) -> Delivery:
        """Send what waits, oldest first; a receiver that fails is not asked again in this call.

        A letter leaves the book once its receiver has taken it. Where the process is killed between the two, it is
        sent again, under the same id, and says so.

        Args:
            deliver: sends one; the reason where that failed, None where it went well.

        Raises:
            StorageError: the book cannot be read or written.
        """
        result = Delivery()
        with self._open() as pages:
            for letter in list(pages.letters):
                if letter.to in result.failed:
                    continue
                again = letter.open
                letter.tries, letter.open = letter.tries + 1, True
                self._write(pages)
                marked = letter.model_copy(
                    update={"body": f"{letter.body}\n(This may have reached you before.)"} if again else {}
                )
                with protected():  # a signal waits until the answer is on record
                    reason = deliver(marked)
                    if reason is None:
                        pages.letters.remove(letter)
                        result.sent += 1
                    else:
                        letter.open = False
                        result.failed[letter.to] = reason
                    self._write(pages)
            result.waiting = len(pages.letters)
        return result

    @property
    def alerts(self) -> list[Alert]:
        """Those that stand, oldest first."""
        return sorted(self._read().alerts.values(), key=lambda alert: alert.since)

    @property
    def ended(self) -> list[Ended]:
        """Those that a promotion ended within the last week, oldest first."""
        return self._read().ended

    @property
    def waiting(self) -> list[Letter]:
        """Letters that are not sent, oldest first."""
        return self._read().letters

    @property
    def checked(self) -> dict[str, datetime]:
        """Registered model -> when its windows were last judged."""
        return self._read().checked

    def _looked_again(self, pages: _Pages, subject: str, now: datetime) -> list[Notice]:
        stands = pages.alerts.pop(f"{_ABSENCE}:{subject}", None)
        if stands is None:
            return []
        title = f"recovered: {subject}: watched again"
        body = f"A monitoring has ended. There had been none {stands.window}."
        about = f"{_ABSENCE}:{subject}\n{stands.since.isoformat()}"
        notice = Notice.about(about, "recovered", stands.level, title=title, body=body, made=now)
        return [pages.post(notice, stands.to)]

    def _succeeded(self, pages: _Pages, subject: str, version: str, now: datetime, *, unnamed: bool) -> list[Notice]:
        """End what stands about other versions; `unnamed`: also what an earlier release noted without a version."""
        over = {
            key: alert
            for key, alert in pages.alerts.items()
            if alert.subject == subject
            and alert.metric != _ABSENCE
            and alert.version != version
            and (unnamed or alert.version)
        }
        notices = []
        for key, alert in over.items():
            del pages.alerts[key]
            ended = Ended(alert=alert, successor=version, when=now)
            pages.ended.append(ended)
            title = f"ended: {f'{subject} {alert.version}'.rstrip()}: {alert.metric}"
            body = (
                f"Ended: {ended.words}. {alert.metric} was {alert.value:.6g} in window "
                f"{alert.window}; the rule: {alert.rule}. It had stood since {alert.since:%Y-%m-%d %H:%M} UTC."
            )
            about = f"{key}\n{alert.since.isoformat()}\n{version}"
            notice = Notice.about(about, "ended", alert.level, title=title, body=body, made=now)
            notices.append(pages.post(notice, alert.to))
        return notices

    def _turn(
        self, pages: _Pages, subject: str, reading: Reading, to: tuple[str, ...], version: str, now: datetime
    ) -> list[Notice]:
        rule, key = reading.rule, f"{subject}\n{reading.rule.words}\n{reading.metric}"
        stands = pages.alerts.get(key)
        if stands is None and not reading.broken:
            return []
        where = f"{subject} {version}".rstrip()
        reason = f"{reading.words[0].upper()}{reading.words[1:]}.\n" if reading.words else ""
        facts = f"{reason}{reading.metric} is {reading.value:.6g} in window {reading.window}; the rule: {rule.words}."
        if stands is None:
            pages.episodes += 1
            pages.alerts[key] = Alert(
                subject=subject,
                rule=rule.words,
                metric=reading.metric,
                value=reading.value,
                window=reading.window,
                level=rule.level,
                to=to,
                since=now,
                sent=now,
                version=version,
            )
            title = f"{rule.level}: {where}: {reading.metric}"
            about = f"{key}\n{pages.episodes}"
            notice = Notice.about(about, "raised", rule.level, title=title, body=facts, made=now)
            return [pages.post(notice, to)]
        if not reading.broken:
            del pages.alerts[key]
            lasted = f"It had stood since {stands.since:%Y-%m-%d %H:%M} UTC."
            title = f"recovered: {where}: {reading.metric}"
            about, body = f"{key}\n{stands.since.isoformat()}", f"{facts} {lasted}"
            notice = Notice.about(about, "recovered", rule.level, title=title, body=body, made=now)
            # Who was told of it hears of its end, whoever the rule names by now.
            return [pages.post(notice, stands.to)]
        due = rule.repeat_hours is not None and now - stands.sent >= timedelta(hours=rule.repeat_hours)
        sent = now if due else stands.sent
        pages.alerts[key] = stands.model_copy(
            update={
                "value": reading.value,
                "window": reading.window,
                "level": rule.level,
                "sent": sent,
                "version": version or stands.version,
            }
        )
        if not due:
            return []
        title = f"still {rule.level}: {where}: {reading.metric}"
        body = f"{facts} It stands since {stands.since:%Y-%m-%d %H:%M} UTC."
        about = f"{key}\n{now.isoformat()}"
        notice = Notice.about(about, "repeated", rule.level, title=title, body=body, made=now)
        return [pages.post(notice, to)]

    @contextlib.contextmanager
    def _open(self) -> Iterator[_Pages]:
        """The pages, for this process alone, and written when the block ends well."""
        try:
            private_folder(self._folder)
            lock = private_file(self._folder / _LOCK).open("ab")
        except OSError as error:
            raise self._unwritten(error) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            pages = self._read()
            now = self._clock()
            yield pages
            pages.events = {key: last for key, last in pages.events.items() if now - last < _REMEMBERED}
            pages.ended = [one for one in pages.ended if now - one.when < _STALE]
            stale = [letter for letter in pages.letters if now - letter.made >= _STALE]
            for letter in stale:
                logger.warning("%s was not told within a week: %s", letter.to, letter.title)
                pages.letters.remove(letter)
            self._write(pages)

    def _read(self) -> _Pages:
        path = self._folder / _BOOK
        try:
            return _Pages.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _Pages()
        except (OSError, ValidationError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is damaged, or of a newer version"
            raise StorageError(
                f"the book of alerts cannot be read: {what}",
                where=str(path),
                fix="move it away: alerts that stand are then raised again, and what was not sent is lost",
            ) from error

    def _write(self, pages: _Pages) -> None:
        try:
            with replacing(self._folder / _BOOK) as partial:
                partial.write_text(pages.model_dump_json(indent=1), encoding="utf-8")
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> StorageError:
        return StorageError(
            f"the book of alerts cannot be written: {error.strerror}",
            where=str(self._folder),
            fix="make room, mend its permissions, or set output.alerts_dir; then run this again",
        )
