"""Lines that each hold the SHA-256 of the one before: how they are made, and what is found when they were changed.

A line is a JSON object in ASCII. Its last field, `hash`, is the SHA-256 of all that stands before that field, and
`previous` is the `hash` of the line before, also where that one stands in an earlier file. So a changed byte is found
in its very line, a line that is gone or was moved by the numbers, and one that was made anew by the next. Whoever makes
all lines anew from some place on makes a chain that is whole: only an anchor, a `hash` that is kept elsewhere, tells.
The standard library suffices, since a server without this project's packages writes such a log as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

NOTHING_BEFORE = "0" * 64
# What the log says of itself: at the head of the first file, and of each other one; right behind a line that a crash
# left half written; and behind what is no line at all.
BEGUN, CONTINUED, TORN, DAMAGED = "log begun", "log continued", "log torn", "log damaged"

_HASH = b',"hash":"'
_TAIL_LENGTH = len(_HASH) + 64 + len(b'"}')
# Of each text of a line, in characters, and of what it is about, in bytes: an outcome may quote an error that lists a
# thousand files, but ids and digests are short.
_LONGEST_TEXT, _LONGEST_ON = 1000, 32 * 1024
_MOST_FAULTS = 200


@dataclass(frozen=True)
class Entry:
    """What a line tells.

    Attributes:
        who: the account of the tracking server, or the name in the system where there is no server.
        what: a verb, such as promote.
        on: ids and digests, never contents.
        outcome: such as done, refused or failed.
        login: the name in the system, and the machine.
        reason: as a person gave it.
    """

    who: str
    what: str
    on: Mapping[str, Any]
    outcome: str
    login: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a log; `intact`: its hash is that of its bytes."""

    seq: int
    previous: str
    hash: str
    intact: bool
    fields: Mapping[str, Any]

    @property
    def what(self) -> str:
        return str(self.fields.get("what", ""))

    @property
    def on(self) -> Mapping[str, Any]:
        on = self.fields.get("on")
        return on if isinstance(on, dict) else {}


@dataclass(frozen=True)
class Head:
    """The end of a log: its id, the number of its last line, and that line's hash."""

    log: str
    seq: int
    hash: str


@dataclass(frozen=True)
class Anchor:
    """A line's hash as it is kept elsewhere; `where` is named to who reads of it."""

    seq: int
    hash: str
    where: str


@dataclass
class Verdict:
    """What a check found.

    Attributes:
        faults: what was changed, taken out or cut off, a sentence each, by place.
        notes: what is no fault, such as a line that a crash left half written.
        lines: how many there are.
        head: the end of the log; None where there is no line.
        anchored: the last line that an anchor agrees with; 0 for none.
    """

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: int = 0
    head: Head | None = None
    anchored: int = 0


def encode(entry: Entry, seq: int, previous: str, when: datetime) -> tuple[bytes, str]:
    """The line of an entry with its end of line, and its hash."""
    on: Mapping[str, Any] = entry.on
    text = json.dumps(on)
    if len(text) > _LONGEST_ON:
        on = {"sha256": hashlib.sha256(text.encode("ascii")).hexdigest(), "bytes": len(text)}
    who, login, what, outcome, reason = (
        each[:_LONGEST_TEXT] for each in (entry.who, entry.login, entry.what, entry.outcome, entry.reason)
    )
    fields = {"seq": seq, "time": when.isoformat(timespec="milliseconds"), "who": who, "login": login}
    fields |= {"what": what, "on": on, "outcome": outcome, "reason": reason, "previous": previous}
    body = json.dumps(fields, separators=(",", ":")).encode("ascii")[:-1]
    digest = hashlib.sha256(body).hexdigest()
    return body + _HASH + digest.encode("ascii") + b'"}\n', digest


def parse(raw: bytes) -> Line | None:
    """A line without its end of line; None where it is none."""
    body, tail = raw[:-_TAIL_LENGTH], raw[-_TAIL_LENGTH:]
    if not (tail.startswith(_HASH) and tail.endswith(b'"}')):
        return None
    try:
        fields = json.loads(raw.decode("ascii"))
        seq, previous, digest = fields["seq"], fields["previous"], fields["hash"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if type(seq) is not int or not isinstance(previous, str) or not isinstance(digest, str):
        return None
    return Line(seq, previous, digest, hashlib.sha256(body).hexdigest() == digest, fields)


def verify(files: Iterable[tuple[str, Iterable[bytes]]], anchors: Sequence[Anchor] = ()) -> Verdict:
    """Check a whole log, in one pass.

    Args:
        files: name and lines of each, in order; a line has its end of line, but for one that is torn.
        anchors: what is kept elsewhere of this log.
    """
    kept: dict[int, list[Anchor]] = {}
    for anchor in anchors:
        kept.setdefault(anchor.seq, []).append(anchor)
    check = _Check(kept)
    for name, lines in files:
        for number, raw in enumerate(lines, start=1):
            check.take(f"{name}, line {number}", raw)
    return check.end()


class _Check:
    def __init__(self, anchors: dict[int, list[Anchor]]) -> None:
        self._anchors = anchors
        self._verdict = Verdict()
        self._next = 1
        # Of the line before the next one by number; None where it could not be read.
        self._last: Line | None = None
        self._last_place = ""
        self._gaps: dict[int, int] = {}  # first -> last number of lines that did not come
        self._broken: list[tuple[str, bytes]] = []
        self._log = ""
        self._agreed = 0

    def take(self, place: str, raw: bytes) -> None:
        line = parse(raw[:-1]) if raw.endswith(b"\n") else None
        if line is None:
            self._broken.append((place, raw))
            return
        self._verdict.lines += 1
        self._settle(line)
        if not line.intact:
            self._fault(f"line {line.seq} was changed ({place}): it is not what was written")
        if line.seq >= self._next:
            self._go_on(line, place)
        else:
            self._come_late(line, place)
        if line.what in (BEGUN, CONTINUED):
            ident = str(line.on.get("log", ""))
            if self._log and ident != self._log:
                self._fault(f"{place} is of another log, {ident}")
            self._log = self._log or ident
        self._hold_against_anchor(line)

    def _settle(self, line: Line) -> None:
        """What the lines were that could not be read, now that the next one is known."""
        broken, self._broken = self._broken, []
        if not broken:
            return
        place, raw = broken[-1]
        half = raw.rstrip(b"\n")
        if line.what == TORN and line.intact and line.on.get("sha256") == hashlib.sha256(half).hexdigest():
            broken.pop()
            self._verdict.notes.append(
                f"{place} was left half written by a crash or a full disk, before line {line.seq}"
            )
        for place, _ in broken:
            if self._next < line.seq:
                self._fault(f"line {self._next} was changed beyond reading ({place})")
                self._next += 1
                self._last = None
            else:
                self._fault(f"{place} is no line of this log: it was put in")

    def _go_on(self, line: Line, place: str) -> None:
        if line.seq > self._next:
            self._gaps[self._next] = line.seq - 1
            self._last = None
        before = NOTHING_BEFORE if line.seq == 1 else self._last.hash if self._last is not None else None
        intact = line.intact and (self._last is None or self._last.intact)
        if intact and before is not None and line.previous != before:
            followed = f"line {line.seq} followed another one" if line.seq > 1 else "it was not the first one"
            self._fault(f"line {max(line.seq - 1, 1)} was made anew ({self._last_place or place}): {followed}")
        self._next, self._last, self._last_place = line.seq + 1, line, place

    def _come_late(self, line: Line, place: str) -> None:
        for first, last in self._gaps.items():
            if first <= line.seq <= last:
                del self._gaps[first]
                if first < line.seq:
                    self._gaps[first] = line.seq - 1
                if line.seq < last:
                    self._gaps[line.seq + 1] = last
                self._fault(f"line {line.seq} was moved: it stands behind line {self._next - 1} ({place})")
                return
        self._fault(f"there is a second line {line.seq} ({place}): it was put in")

    def _hold_against_anchor(self, line: Line) -> None:
        anchors = self._anchors.pop(line.seq, [])
        if not anchors or not line.intact:
            return
        other = next((anchor for anchor in anchors if anchor.hash != line.hash), None)
        if other is None:
            self._agreed = line.seq
            return
        since = f"lines {self._agreed + 1} to {line.seq}" if line.seq > self._agreed + 1 else f"line {line.seq}"
        self._fault(f"of {since} some were written anew: line {line.seq} is not the one that {other.where} holds")

    def _fault(self, text: str) -> None:
        if len(self._verdict.faults) < _MOST_FAULTS:
            self._verdict.faults.append(text)
        elif len(self._verdict.faults) == _MOST_FAULTS:
            self._verdict.faults.append("… and more")

    def end(self) -> Verdict:
        verdict, last = self._verdict, self._next - 1
        broken = self._broken
        if broken and not broken[-1][1].endswith(b"\n"):
            place, _ = broken.pop()
            verdict.notes.append(f"{place}, the last one, is half written: by a crash, or it is being written")
        for place, _ in broken:
            last += 1
            self._fault(f"line {last} was changed beyond reading ({place})")
        for first, end in sorted(self._gaps.items()):
            self._fault(f"lines {first} to {end} were taken out" if end > first else f"line {first} was taken out")
        beyond = [each[0] for seq, each in sorted(self._anchors.items()) if seq > last]
        if beyond:
            furthest = beyond[-1]
            some = f"lines {last + 1} to {furthest.seq}" if furthest.seq > last + 1 else f"line {furthest.seq}"
            self._fault(f"{some}, and perhaps more, were cut off: {furthest.where} holds line {furthest.seq}")
        if self._last is not None:
            verdict.head = Head(self._log, self._last.seq, self._last.hash)
        verdict.anchored = self._agreed
        return verdict
