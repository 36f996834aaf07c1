"""What this project holds of persons: the runs that read their rows, what came of them, tables with these rows."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.persons.keys import VARIABLE, Key, Keys, read_keys
from pcc_pipeline.persons.manifest import NAME as MANIFEST
from pcc_pipeline.persons.manifest import KeyAbsentError, key_of, look_up
from pcc_pipeline.persons.rows import SUFFIXES, rows_of
from pcc_pipeline.persons.sought import Sought, names_in
from pcc_pipeline.steps.erasing.tables import pending_manifests, tables_here, written_by
from pcc_pipeline.storage.objects import local_copy
from pcc_pipeline.tracking.delivery.heartbeat import may_live
from pcc_pipeline.tracking.registry.versions import asking
from pcc_pipeline.tracking.runs import SPLIT_FILE
from pcc_pipeline.tracking.store.manifests import (
    Descendant,
    manifest_of,
    runs_with_manifest,
    versions_from,
)
from pcc_pipeline.tracking.store.past_runs import RecordedRun
from pcc_pipeline.tracking.store.run_files import RunFiles


@dataclass(frozen=True)
class Trace:
    """A run that read rows of the person.

    Attributes:
        places: (side, file) -> rows, counted from 0 in that file.
        made: the versions that the run made.
        lines: of its manifest, which are theirs.
    """

    run: RecordedRun
    places: dict[tuple[str, str], list[int]]
    made: list[Descendant]
    lines: Sequence[int] = ()

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
            "copies": written_by(self.run),
        }


@dataclass
class Holdings:
    """What manifests tell of persons.

    Attributes:
        persons: those who were asked for, with the cases that they turned out to have.
        seen: the hashes of cases and subjects that were found, by their key.
        looked_into: manifests that could be read; `absent`: key -> those of a key that is not here; `nameless`: those
            without subjects; `gone`: runs whose files were removed.
    """

    persons: Sought
    by_subject: bool
    traces: list[Trace] = field(default_factory=list)
    seen: set[tuple[Key, bytes]] = field(default_factory=set)
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


def under_way(runs: Iterable[RecordedRun]) -> list[RecordedRun]:
    """Those that have not ended, and whose process may be at work.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with asking("runs that have not ended"):
        return [run for run in runs if run.status == "RUNNING" and may_live(run.run_id)]


def names_of(subject: str | None, case_id: str | None) -> dict[str, list[str]]:
    """One person or one case, as `holdings` takes them."""
    return {"subjects": [] if subject is None else [subject], "case_ids": [] if case_id is None else [case_id]}


def keys_of_lineage(params: Params) -> Keys:
    """The keys that manifests can be read by.

    Raises:
        ConfigError: there are none.
    """
    keys = read_keys(local_path(params.lineage.key_file), os.environ)
    if not keys.all:
        raise ConfigError(
            "there is no key of lineage, so manifests tell nothing",
            where=params.lineage.key_file,
            fix=f"bring the key of the machine that trained, as {VARIABLE} or lineage.key_file",
        )
    return keys


def holdings(params: Params, *, subjects: Sequence[str] = (), case_ids: Sequence[str] = ()) -> Holdings:
    """Every run that read rows of these subjects and cases, and what came of it.

    A case of a subject is looked for in the manifests that name no subjects, too.

    Raises:
        ConfigError: nobody is named, or there is no key.
        DataError: a manifest is damaged.
        TrackingError: MLflow does not answer.
    """
    if not subjects and not case_ids:
        raise ConfigError("nobody is named", where="option", fix="give --subject or --case-id")
    keys = keys_of_lineage(params)
    # As manifests have them, whatever the file's format was.
    persons = Sought.of(keys, [label_text(name) for name in subjects], [label_text(name) for name in case_ids])
    with scratch_folder() as folder:
        manifests = [*_kept(runs_with_manifest(), folder), *pending_manifests(folder)]
        while True:
            known = _looked(manifests, keys, persons, by_subject=bool(subjects))
            grown = known.persons if len(keys.all) == 1 else _by_every_key(params, known, keys)
            if grown == persons:
                known.traces = [replace(trace, made=versions_from(trace.run.run_id)) for trace in known.traces]
                return known
            persons = grown


def holdings_of(params: Params, persons: Sought, keys: Keys) -> Holdings:
    """The same of persons that are known by their hashes, all of them.

    Raises:
        DataError: a manifest is damaged.
        TrackingError: MLflow does not answer.
    """
    with scratch_folder() as folder:
        manifests = [*_kept(runs_with_manifest(), folder), *pending_manifests(folder)]
        known = _looked(manifests, keys, persons, by_subject=bool(persons.subjects))
    known.persons = persons
    known.traces = [replace(trace, made=versions_from(trace.run.run_id)) for trace in known.traces]
    return known


def _kept(runs: Iterable[RecordedRun], folder: Path) -> Iterator[tuple[RecordedRun, Path | None]]:
    for run in runs:
        content, place = manifest_of(run), folder / run.run_id
        if content is not None:
            folder.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        yield run, None if content is None else place


def _looked(
    manifests: Sequence[tuple[RecordedRun, Path | None]], keys: Keys, persons: Sought, *, by_subject: bool
) -> Holdings:
    known = Holdings(persons, by_subject)
    for run, place in manifests:
        if place is None:
            known.gone += 1
            continue
        try:
            rows = look_up(place.read_bytes(), keys, persons, f"run {run.run_id}")
        except KeyAbsentError:
            known.absent[key_of(place.read_bytes(), f"run {run.run_id}")] += 1
            continue
        known.looked_into += 1
        known.nameless += rows.by_case_only
        known.seen |= {(rows.key, one) for one in rows.cases | rows.subjects}
        if rows.places:
            if by_subject and not rows.by_case_only:
                known.persons = known.persons.with_their_cases({rows.key: rows.cases})
            known.traces.append(Trace(run, rows.places, [], rows.lines))
    return known


def _by_every_key(params: Params, known: Holdings, keys: Keys) -> Sought:
    """The persons by the hashes of all keys, as far as tables tell the names of the cases."""
    names = {name for _, rows in tables(params, known) for name in names_in(rows, CASE_ID) if name is not None}
    by_name = Sought.of(keys, case_ids=sorted(names)).cases
    return known.persons.with_their_cases(by_name) if known.by_subject and names else known.persons


def tables(params: Params, known: Holdings) -> Iterator[tuple[str, pd.DataFrame]]:
    """Where -> the persons' rows, of each table that holds any: files of runs, and copies on this machine.

    Raises:
        DataError: a table is damaged.
        TrackingError: MLflow does not answer.
    """
    column = params.data.subject_column
    for trace in known.traces:
        files = RunFiles(trace.run.run_id)
        for name in filter(is_table, files.names()):
            with files.fetched(name) as path:
                rows = rows_of(path, known.persons, column)
            if len(rows):
                yield f"{name} of run {trace.run.run_id}", rows
    for address in tables_here(trace.run for trace in known.traces):
        with local_copy(address) as path:
            rows = rows_of(path, known.persons, column)
        if len(rows):
            yield address, rows


def is_table(name: str) -> bool:
    """Whether a run's file is a table that may have a row for a case."""
    return PurePosixPath(name).suffix in SUFFIXES and PurePosixPath(name).name not in (MANIFEST, SPLIT_FILE)
