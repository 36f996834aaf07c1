"""`pcc subject export`: what this project holds of a person, as a folder that can be handed over (GDPR Art. 15)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.errors import ConfigError, StorageError
from pcc_pipeline.files import private_folder, replacing
from pcc_pipeline.manage.persons import erasures
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import shown
from pcc_pipeline.steps.erasing.holdings import Holdings, holdings, names_of, tables
from pcc_pipeline.steps.erasing.spelling import NEARLY, unknown_names
from pcc_pipeline.steps.erasing.tables import written_by
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.steps.records.persons import hashed
from pcc_pipeline.steps.records.summary import counted
from pcc_pipeline.tracking.payloads import json_text

_README = """\
# What is held of you

Made on {when} UTC from the records of the system that sorts messages by what they ask for.

- `rows/` holds each row of yours that was found, a file for each table that it stood in: as CSV to be read, and as JSON
  lines with all that the table holds, the numbers made of your message too.
- `records.json` says which runs of the system read these rows, for what (to train, to test, to be answered), and which
  versions of the model came of that.

| table | rows |
|---|---|
{tables}

{runs}, {versions} learned from your rows.{unseen}
"""


def export(question: Question, *, subject: str | None, case_id: str | None, output: str) -> str:
    """Write the folder.

    Raises:
        ConfigError: nobody is named, there is no key, or the folder is there already.
        DataError: a manifest or table is damaged.
        StorageError: the folder cannot be written.
        TrackingError: MLflow does not answer.
    """
    audit = Audit(question.params)
    with audit.act("export", hashed(question.params, subject=subject, case_id=case_id)):
        said = _export(question, subject=subject, case_id=case_id, output=output)
    return said if question.as_json else "\n".join([said, *audit.warnings])


def _export(question: Question, *, subject: str | None, case_id: str | None, output: str) -> str:
    folder = local_path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("there is something already", where=str(folder), fix="name a folder that is not there")
    known = holdings(question.params, **names_of(subject, case_id))
    read = list(tables(question.params, known))
    names = names_of(subject, case_id)
    if not known.traces and not read:
        if was := erasures.erased_words(question.params, names):
            raise ConfigError(
                f"{was}: nothing is held of them here",
                where="--subject" if subject is not None else "--case-id",
                fix="answer with that certificate; pcc erase --verify looks through everything once more",
            )
        nearly = any(unknown_names(question.params, known, names).values())
        raise ConfigError(
            f"nothing is known of this person in {counted(known.looked_into, 'run')}",
            where="--subject" if subject is not None else "--case-id",
            fix=f"look at the spelling{NEARLY if nearly else ''} (capitals and blanks count)"
            + erasures.erased_otherwise(question.params, names)
            + (f"; not looked into: {unseen}" if (unseen := _unseen(known)) else ""),
        )
    try:
        rows = private_folder(private_folder(folder) / "rows")
        files = [f"{place:02d}-{_file_name(where)}" for place, (where, _) in enumerate(read, start=1)]
        for name, (_, table) in zip(files, read, strict=True):
            _write(rows / f"{name}.jsonl", "".join(f"{_line(row)}\n" for row in table.to_dict("records")))
            _write(rows / f"{name}.csv", table[_readable(table)].to_csv(index=False))
        contents = [
            {"file": name, "from": where, "rows": len(table)} for name, (where, table) in zip(files, read, strict=True)
        ]
        _write(folder / "records.json", json_text({**known.document(), "tables": contents}))
        # The last one, so that who finds it has all of it.
        _write(folder / "README.md", _readme(known, [(where, len(table)) for where, table in read]))
    except OSError as error:
        raise StorageError(
            f"the folder cannot be written: {error.strerror}", where=str(folder), fix="make room, or name another"
        ) from error
    total = sum(len(table) for _, table in read)
    if question.as_json:
        return json_text({"folder": str(folder), "tables": len(read), "rows": total, "runs": len(known.traces)})
    lines = [
        f"exported   {counted(total, 'row')} of {counted(len(read), 'table')} and the records of "
        f"{counted(len(known.traces), 'run')} to {folder}",
        "           it is for you alone; hand it over by a way that only this person can open",
    ]
    lines += [f"not in it: {line}" for line in _own_files(known)]
    lines += map(erasures.half_erased_line, erasures.half_erased(question.params, names))
    if unseen := _unseen(known):
        lines.append(f"warning    {unseen}")
    return "\n".join(lines)


def _readme(known: Holdings, read: Sequence[tuple[str, int]]) -> str:
    versions = {(made.name, made.number) for trace in known.traces for made in trace.made}
    unseen = _unseen(known)
    return _README.format(
        when=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        tables="\n".join(f"| {where} | {rows:,} |" for where, rows in read) or "| none | 0 |",
        runs=f"{counted(len(known.traces), 'run')} read them",
        versions=f"{counted(len(versions), 'version')} of a model",
        unseen="".join(
            [
                *(f"\n\nNot in this folder: {line}." for line in _own_files(known)),
                f"\n\nNot everything could be looked at: {unseen}." if unseen else "",
            ]
        ),
    )


def _own_files(known: Holdings) -> list[str]:
    """The files that their rows were read from, which are the owner's."""
    rows: dict[str, set[int]] = {}
    for trace in known.traces:
        for (_, file), places in trace.places.items():
            rows.setdefault(file, set()).update(places)
    copies = {place for trace in known.traces for place in written_by(trace.run).values()}
    return [
        f"{counted(len(places), 'row')} of this person in the file {shown(file)}, which is yours"
        for file, places in sorted(rows.items())
        if file not in copies
    ]


def _unseen(known: Holdings) -> str:
    absent = sum(known.absent.values())
    parts = [
        f"{counted(absent, 'run')} of a key that is not here" if absent else "",
        f"{counted(known.gone, 'run')} whose files were removed" if known.gone else "",
        f"{counted(known.nameless, 'run')} that kept no subjects" if known.nameless and known.by_subject else "",
    ]
    return ", ".join(part for part in parts if part)


def _file_name(where: str) -> str:
    """What a table's place is called as a file, without its folders."""
    return re.sub(r"[^\w.-]+", "-", where.rsplit("/", 1)[-1])[:80]


def _readable(table: pd.DataFrame) -> list[str]:
    """The columns without lists of numbers."""
    return [str(name) for name in table if not isinstance(table[name].iloc[0], list | np.ndarray)]


def _line(row: Mapping[Any, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return None if value is pd.NaT or value is pd.NA else str(value)


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogatepass")
