"""What this project holds of a person: the runs that read their rows, what came of them, tables with these rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.persons.keys import VARIABLE, Key, read_keys
from pcc_pipeline.persons.manifest import KeyAbsentError, Person, look_up
from pcc_pipeline.persons.rows import Cases, rows_of
from pcc_pipeline.tracking.store.manifests import (
    KEY_TAG,
    Descendant,
    manifest_of,
    run_tables,
    runs_with_manifest,
    versions_from,
)
from pcc_pipeline.tracking.store.past_runs import RecordedRun

# Step -> the options that name what it wrote on the machine that it ran on.
_COPIES = {
    "embed": ("output.embedded_dir", "output.rejected"),
    "train": ("output.label_issues",),
    "evaluate": ("output.predictions",),
    "score": ("output.scores", "output.rejected"),
    "monitor": ("output.novel_rows",),
}
_TABLES = ("predictions.parquet", "rejected.parquet", "label_issues.parquet")
_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True)
class Trace:
    """A run that read rows of the person.

    Attributes:
        places: (side, file) -> rows, counted from 0 in that file.
        made: the versions that the run made.
    """

    run: RecordedRun
    places: dict[tuple[str, str], list[int]]
    made: list[Descendant]

    @property
    def copies(self) -> dict[str, str]:
        """Option -> what the run wrote there, on its machine."""
        return {name: self.run.params[name] for name in _COPIES.get(self.run.step, ()) if name in self.run.params}

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "run_id": self.run.run_id,
            "step": self.run.step,
            "status": self.run.status,
            "started": self.run.started.isoformat(),
            "version": self.run.pcc_version or None,
            "rows": [{"side": side, "file": file, "rows": rows} for (side, file), rows in self.places.items()],
            "made": [vars(version) for version in self.made],
            "copies": self.copies,
        }


@dataclass
class Holdings:
    """What manifests tell of a person.

    Attributes:
        looked_into: manifests that could be read; `absent`: key -> those of a key that is not here; `nameless`: those
            without subjects; `gone`: runs whose files were removed.
    """

    person: Person
    traces: list[Trace] = field(default_factory=list)
    hashes: dict[Key, frozenset[bytes]] = field(default_factory=dict)
    looked_into: int = 0
    absent: Counter[str] = field(default_factory=Counter)
    nameless: int = 0
    gone: int = 0

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "runs": [trace.document() for trace in self.traces],
            "looked_into": self.looked_into,
            "without_their_key": dict(self.absent),
            "without_subjects": self.nameless,
            "files_removed": self.gone,
        }


def holdings(params: Params, *, subject: str | None, case_id: str | None) -> Holdings:
    """Every run that read rows of a subject or a case.

    Raises:
        ConfigError: nobody is named, or there is no key.
        DataError: a manifest is damaged.
        TrackingError: MLflow does not answer.
    """
    if subject is None and case_id is None:
        raise ConfigError("nobody is named", where="option", fix="give --subject or --case-id")
    keys = read_keys(local_path(params.lineage.key_file), os.environ)
    if not keys.all:
        raise ConfigError(
            "there is no key of lineage, so manifests tell nothing",
            where=params.lineage.key_file,
            fix=f"bring the key of the machine that trained, as {VARIABLE} or lineage.key_file",
        )
    # As manifests have them, whatever the file's format was.
    known = Holdings(Person(*(None if name is None else label_text(name) for name in (subject, case_id))))
    for run in runs_with_manifest():
        content = manifest_of(run)
        if content is None:
            known.gone += 1
            continue
        try:
            found = look_up(content, keys, known.person, f"run {run.run_id}")
        except KeyAbsentError:
            known.absent[run.tags[KEY_TAG]] += 1
            continue
        known.looked_into += 1
        known.nameless += found.by_case_only
        if found.places:
            known.hashes[found.key] = known.hashes.get(found.key, frozenset()) | found.cases
            known.traces.append(Trace(run, found.places, versions_from(run.run_id)))
    return known


def tables(params: Params, known: Holdings) -> Iterator[tuple[str, pd.DataFrame]]:
    """Where -> the person's rows, of each table that holds any: files of runs, and copies on this machine.

    Raises:
        DataError: a table is damaged.
        TrackingError: MLflow does not answer.
    """
    person = known.person
    cases = Cases(known.hashes, person.case_id, person.subject, params.data.subject_column)
    for trace in known.traces:
        with run_tables(trace.run, _TABLES) as files:
            for path in files:
                if len(rows := rows_of(path, cases)):
                    yield f"{path.name} of run {trace.run.run_id}", rows
    places = [path for trace in known.traces for path in trace.copies.values()]
    files = [file for place in dict.fromkeys(places) for file in _files(Path(place))]
    for file in dict.fromkeys(files):
        if len(rows := rows_of(file, cases)):
            yield str(file), rows


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.iterdir() if path.is_file() and path.suffix in _SUFFIXES)
    return [place] if place.is_file() and place.suffix in _SUFFIXES else []
