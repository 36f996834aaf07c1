"""`pcc subject export`: what this project holds of a person, as a folder that can be handed over (GDPR Art. 15)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.config.paths import addresses_in, local_output
from pcc_pipeline.errors import ConfigError, StorageError
from pcc_pipeline.files import private_folder, replacing
from pcc_pipeline.manage.persons import erasures
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import shown
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.holdings import Holdings, holdings, names_of, tables
from pcc_pipeline.steps.erasing.plan import LEARNED
from pcc_pipeline.steps.erasing.spelling import NEARLY, unknown_names
from pcc_pipeline.steps.erasing.tables import kinds_of, written_by
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.steps.records.persons import hashed
from pcc_pipeline.tracking.payloads import json_text

# For whom the rows are of, and for nobody else: what the owner must do stands in what the command prints.
_README = """\
# What we hold of you

Made on {when} UTC.

A computer program sorts messages such as yours by what they ask for, and it learns that from messages that were sorted
before. This folder holds what the program keeps of yours.

The folder `rows` holds it as tables. Each is there twice: the file that ends in `.csv` can be opened with any
spreadsheet program; the one that ends in `.jsonl` holds all of it, also the numbers that the program made of your
words.

{tables}

The file `records.json` is the program's own list of when it read your messages, and for what. Computers read it more
easily than people.

{learned}{unseen}

If something is wrong or you want it removed, tell whoever gave you this folder.
"""
# Kind of table -> what it is to somebody who wrote a message.
_WHAT = {
    "embedded": "your messages as the program read them, with the numbers that it made of them",
    "predictions": "what the program answered to your messages when it was tried out",
    "scores": "what the program answered to your messages",
    "rejected": "messages of yours that the program could not use, and why",
    "label_issues": "messages of yours that may have been sorted wrongly by hand",
    "novel_rows": "messages of yours that were unlike those that the program knew",
}
# In which file of several a row stood.
_FILE = "file"
_OTHER = "more that the program keeps of your messages"


def export(question: Question, *, subject: str | None, case_id: str | None, output: str) -> str:
    """Write the folder.

    Raises:
        ConfigError: nobody is named, there is no key, or the folder is there already or is an address.
        DataError: a manifest or table is damaged.
        StorageError: the folder cannot be written.
        TrackingError: MLflow does not answer.
    """
    audit = Audit(question.params)
    with audit.act("export", hashed(question.params, subject=subject, case_id=case_id)):
        said = _export(question, subject=subject, case_id=case_id, output=output)
    return said if question.as_json else "\n".join([said, *audit.warnings])


def _export(question: Question, *, subject: str | None, case_id: str | None, output: str) -> str:
    folder = local_output(output, "--output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("there is something already", where=str(folder), fix="name a folder that is not there")
    known = holdings(question.params, **names_of(subject, case_id))
    kinds = _kinds(known)
    read = [(where, _nowhere(table, _kind(where, kinds))) for where, table in tables(question.params, known)]
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
            {"file": name, "from": _base_name(where), "rows": len(table)}
            for name, (where, table) in zip(files, read, strict=True)
        ]
        _write(folder / "records.json", json_text({**_records(known), "tables": contents}))
        # The last one, so that who finds it has all of it.
        about = [(f"rows/{file}.csv", where, len(table)) for file, (where, table) in zip(files, read, strict=True)]
        _write(folder / "README.md", _readme(known, about))
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
        "           until then it is for you alone; its README is for this person",
        "to do      look into it first: rows that name others as well are theirs, too",
        "to do      say what a copy of rows does not: for what, to whom, for how long, and which rights there are "
        "(Art. 15(1) GDPR)",
        "to do      hand it over by a way that only this person can open, and remove it then",
    ]
    lines += [f"not in it: {line}; add these rows" for line in _own_files(known)]
    lines += map(erasures.half_erased_line, erasures.half_erased(question.params, names))
    if unseen := _unseen(known):
        lines.append(f"warning    {unseen}")
    return "\n".join(lines)


def _readme(known: Holdings, read: Sequence[tuple[str, str, int]]) -> str:
    """The page for the person.

    Args:
        read: of each table its file, where it is from, and its rows.
    """
    # A model that was only tested with their rows has not learned from them.
    learned = any(trace.made and side in LEARNED for trace in known.traces for side, _ in trace.places)
    kinds = _kinds(known)
    what = [
        f"- `{file}` ({counted(rows, 'row')}): {_WHAT.get(_kind(where, kinds), _OTHER)}" for file, where, rows in read
    ]
    return _README.format(
        when=f"{datetime.now(UTC):%-d %B %Y, %H:%M}",
        tables="\n".join(what) or "No table holds anything of yours.",
        learned="The program has learned from your messages."
        if learned
        else "The program has answered or been tried out with your messages, and has not learned from them.",
        unseen=" Not all older records could be looked through; whoever gave you this folder can tell you about that."
        if _unseen(known)
        else "",
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


def _records(known: Holdings) -> dict[str, Any]:
    """What `pcc lineage` says for machines, but for where things lie: that is nothing for who is outside."""
    document = known.document()
    for run in document["runs"]:
        run["rows"] = [{**part, "file": _base_name(part["file"])} for part in run["rows"]]
        run["made"] = [{**made, "published": [*map(_base_name, made["published"])]} for made in run["made"]]
        run["copies"] = {option: _base_name(place) for option, place in run["copies"].items()}
    return document


def _nowhere(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A table whose column `file`, which the program itself adds to its answers, names no folders."""
    if kind == "embedded" or _FILE not in table:
        return table
    return table.assign(**{_FILE: [_base_name(each) if isinstance(each, str) else each for each in table[_FILE]]})


def _kinds(known: Holdings) -> dict[str, str]:
    """Table outside of MLflow -> what it is; see `kinds_of`."""
    return {address: kind for trace in known.traces for address, kind in kinds_of(trace.run).items()}


def _kind(where: str, kinds: Mapping[str, str]) -> str:
    """What a table is: a run's own file is called as its option is, a copy of it elsewhere as its owner likes."""
    return kinds.get(where, PurePath(where.split()[0]).stem)


def _base_name(where: str) -> str:
    """A file's or folder's own name, without what it lies in; of several files, each one's."""
    if where.startswith("["):
        return ", ".join(map(_base_name, addresses_in(where)))
    return where.rstrip("/").rsplit("/", 1)[-1]


def _file_name(where: str) -> str:
    """What a table's place is called as a file, without its folders."""
    return re.sub(r"[^\w.-]+", "-", _base_name(where))[:80]


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
