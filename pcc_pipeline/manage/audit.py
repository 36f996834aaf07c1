"""`pcc audit`: who decided or touched what, and whether the log is as it was written."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pcc_pipeline.auditing.chain import Anchor, Head, Verdict
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.errors import ConfigError, TrackingError
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import table
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.records.audit import log_of, place_of
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.registry.anchors import anchors_of, logs_of

_AGO = re.compile(r"(\d+)([dh])")
# Of a table's cells; --json has them whole.
_LONGEST, _LONGEST_OUTCOME = 100, 40


def of_folder(question: Question, folder: str | None) -> Question:
    """The same question about the log of another folder, such as a server's."""
    if folder is None:
        return question
    if not (path := local_path(folder)).is_dir():
        raise ConfigError("there is no such folder", where=str(path), fix="name one with files audit-….jsonl")
    audit = question.params.audit.model_copy(update={"folder": str(path)})
    return Question(question.params.model_copy(update={"audit": audit}), question.experiment, question.as_json)


def read(
    question: Question,
    *,
    since: str | None,
    who: str | None,
    what: str | None,
    on: str | None,
    limit: int | None,
    now: datetime,
) -> str:
    """The newest lines, oldest first.

    Args:
        since: `2026-11-01`, with a time or without, in UTC; or `30d` or `12h` ago.
        who: an account, or a name in the system.
        what: a verb.
        on: the id of a run or model, or a name, that a line is about.
        limit: how many; 0 for all, None for 50.

    Raises:
        ConfigError: `since` is no time.
        StorageError: the log cannot be read.
    """
    number = 50 if limit is None else limit
    if number < 0:
        raise ConfigError(f"{number} lines are none", where="--limit", fix="give 0 for all, or more")
    chosen: deque[Mapping[str, Any]] = deque(maxlen=number or None)
    broken = 0
    start = None if since is None else _moment(since, now)
    for line in log_of(question.params).lines():
        if line is None or not line.intact:
            broken += 1
        elif _is_meant(line.fields, start, who, what) and (on is None or _is_about(line.on, on)):
            chosen.append(line.fields)
    if question.as_json:
        return json_text(list(chosen))
    where = question.params.audit.folder
    lines = [_table(list(chosen)) if chosen else f"no such lines in {where}"]
    if broken:
        lines.append(f"{counted(broken, 'line')} cannot be read, or was changed: pcc audit verify")
    return "\n".join(lines)


def check(question: Question, *, offline: bool) -> tuple[str, bool]:
    """Whether the log is as it was written, in words, and whether it is.

    Args:
        offline: do not ask MLflow for what it holds of the log's ends.

    Raises:
        StorageError: the log cannot be read.
    """
    log, faults = log_of(question.params), list[str]()
    notes: list[str] = []
    anchors: list[Anchor] = []
    head = log.head()
    if not offline:
        try:
            anchors = anchors_of(head.log) if head is not None and head.log else []
            faults += _missing(question, head)
        except TrackingError as error:
            faults.append(f"MLflow does not tell what it holds of the log: {error.what} (--offline checks without it)")
    verdict = log.verify(anchors)
    faults = [*verdict.faults, *faults]
    notes = [*verdict.notes, *([] if verdict.head is None else [_anchored(verdict, offline)])]
    if question.as_json:
        document = {
            "folder": str(log.folder),
            "whole": not faults,
            "lines": verdict.lines,
            "head": None if verdict.head is None else vars(verdict.head),
            "anchored": verdict.anchored,
            "faults": faults,
            "notes": notes,
        }
        return json_text(document), not faults
    if verdict.head is None and not faults:
        return f"there is no audit log in {log.folder} yet", True
    title = f"{counted(verdict.lines, 'line')} in {log.folder}"
    lines = [f"whole      {title}" if not faults else f"ALTERED    {title}, {counted(len(faults), 'fault')}"]
    lines += [f"fault      {fault}" for fault in faults]
    lines += [f"note       {note}" for note in notes]
    return "\n".join(lines), not faults


def _missing(question: Question, head: Head | None) -> Iterator[str]:
    """Logs that lay in this folder, as MLflow holds them, and are not there any more."""
    for ident, (seq, where) in logs_of(place_of(question.params)).items():
        if head is None or ident != head.log:
            yield f"the log {ident} of {counted(seq, 'line')}, which {where} holds the end of, is gone from this folder"


def _anchored(verdict: Verdict, offline: bool) -> str:
    if offline:
        return "MLflow was not asked whether lines were cut off, or the whole log was made anew"
    assert verdict.head is not None, "asked of a log"
    last = verdict.head.seq
    if not verdict.anchored:
        return "MLflow holds no end of this log, so that it cannot tell whether lines were cut off"
    if verdict.anchored == last:
        return f"MLflow holds its last line, {last}"
    return f"MLflow holds line {verdict.anchored}; whether lines behind {last} were cut off cannot be told"


def _is_meant(fields: Mapping[str, Any], start: datetime | None, who: str | None, what: str | None) -> bool:
    login = str(fields.get("login", ""))
    if who is not None and who not in (fields.get("who"), login, login.partition("@")[0]):
        return False
    if what is not None and fields.get("what") != what:
        return False
    return start is None or datetime.fromisoformat(str(fields["time"])) >= start


def _is_about(fields: Mapping[str, Any], on: str) -> bool:
    values = [each for value in fields.values() for each in (value if isinstance(value, list) else [value])]
    return any(on == str(value) or f"/{on}/" in f"/{value}/" for value in values)


def _moment(since: str, now: datetime) -> datetime:
    if match := _AGO.fullmatch(since):
        return now - int(match[1]) * (timedelta(days=1) if match[2] == "d" else timedelta(hours=1))
    try:
        moment = datetime.fromisoformat(since)
    except ValueError as error:
        raise ConfigError(
            "this is no time", where="--since", fix="give 2026-11-01, 2026-11-01T08:30, 30d or 12h"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _table(lines: list[Mapping[str, Any]]) -> str:
    rows = [
        (
            str(line["seq"]),
            str(line["time"])[:19].replace("T", " "),
            line["who"] or "",
            line["what"],
            _cut(line["outcome"], _LONGEST_OUTCOME),
            _cut(_listed(line["on"]), _LONGEST),
            line["reason"],
        )
        for line in lines
    ]
    return table(("line", "time (UTC)", "who", "what", "outcome", "on", "reason"), rows)


def _listed(on: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str | int) else json.dumps(value)}"
        for name, value in on.items()
        if value is not None
    )


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
