"""`pcc lineage`: who stood in which rows, what came of them, and the keys that this takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import shown
from pcc_pipeline.persons.keys import VARIABLE, add_key, read_keys
from pcc_pipeline.persons.manifest import KeyAbsentError, Person, look_up, sides
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.store import past_runs
from pcc_pipeline.tracking.store.manifests import KEY_TAG, Descendant, manifest_of, runs_with_manifest, versions_from
from pcc_pipeline.tracking.store.past_runs import RecordedRun

# Step -> the options that name what it wrote on the machine that it ran on.
_COPIES = {
    "embed": ("output.embedded_dir", "output.rejected"),
    "train": ("output.label_issues",),
    "evaluate": ("output.predictions",),
    "score": ("output.scores", "output.rejected"),
    "monitor": ("output.novel_rows",),
}
_SHOWN_ROWS = 8


@dataclass(frozen=True)
class _Trace:
    """A run that read rows of the person."""

    run: RecordedRun
    places: dict[tuple[str, str], list[int]]
    made: list[Descendant]

    @property
    def copies(self) -> dict[str, str]:
        return {name: self.run.params[name] for name in _COPIES.get(self.run.step, ()) if name in self.run.params}

    def document(self) -> dict[str, Any]:
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

    def lines(self) -> list[str]:
        run = self.run
        head = f"{run.step:<9} {run.pcc_version or '':<16} run {run.run_id[:8]}  {run.started:%Y-%m-%d %H:%M} UTC"
        ended = "" if run.status == "FINISHED" else f"  {run.status}"
        lines = [f"{head}{ended}".rstrip()]
        for (side, file), rows in self.places.items():
            some = ", ".join(str(row) for row in rows[:_SHOWN_ROWS])
            more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
            lines.append(f"          {side:<9} {_counted(len(rows), 'row')} of {shown(file)}: row {some}{more}")
        for version in self.made:
            aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
            lines.append(f"          made      {version.name} version {version.number}{aliases}")
            lines += [f"          published {address}" for address in version.published]
        lines += [f"          copy      {name}: {path}" for name, path in self.copies.items()]
        return lines


def new_key(question: Question, *, rotate: bool) -> str:
    """Make the key of lineage, or with `rotate` another one, which writes from then on.

    Raises:
        ConfigError: there is one already; or it cannot be read or written.
    """
    file = local_path(question.params.lineage.key_file)
    keys = read_keys(file, os.environ)
    if keys.writing is not None and not rotate:
        raise ConfigError(
            f"there is a key already: {keys.writing.id}", where=str(file), fix="--rotate adds one that writes from now"
        )
    if os.environ.get(VARIABLE):
        raise ConfigError(
            f"the keys come from {VARIABLE}, before those of a file",
            where=VARIABLE,
            fix="put a new key of 64 hexadecimal digits before the others there, or unset it",
        )
    key = add_key(file)
    if question.as_json:
        return json_text({"key": key.id, "file": str(file), "reads": [each.id for each in keys.all]})
    earlier = f"; {_counted(len(keys.all), 'earlier one')} still read" if keys.all else ""
    return (
        f"key {key.id} writes the manifests of runs from now on{earlier}\n"
        f"it lies in {file}, for you alone. Keep a copy where backups of the data are not: without it nobody can be "
        "found in the manifests, and with it everybody can."
    )


def find(question: Question, *, subject: str | None, case_id: str | None) -> str:
    """Every run that read rows of a subject or a case, which side they stood on, and what came of them.

    Raises:
        ConfigError: nobody is named, or there is no key.
        DataError: a manifest is damaged.
        TrackingError: MLflow does not answer.
    """
    if subject is None and case_id is None:
        raise ConfigError("nobody is named", where="pcc lineage", fix="give --subject, --case-id or --version")
    keys = read_keys(local_path(question.params.lineage.key_file), os.environ)
    if not keys.all:
        raise ConfigError(
            "there is no key of lineage, so manifests tell nothing",
            where=question.params.lineage.key_file,
            fix=f"bring the key of the machine that trained, as {VARIABLE} or lineage.key_file",
        )
    # As manifests have them, whatever the file's format was.
    person = Person(*(None if name is None else label_text(name) for name in (subject, case_id)))
    traces: list[_Trace] = []
    absent: Counter[str] = Counter()
    nameless = gone = looked = 0
    for run in runs_with_manifest():
        content = manifest_of(run)
        if content is None:
            gone += 1
            continue
        try:
            found = look_up(content, keys, person, f"run {run.run_id}")
        except KeyAbsentError:
            absent[run.tags[KEY_TAG]] += 1
            continue
        looked += 1
        nameless += found.by_case_only
        if found.places:
            traces.append(_Trace(run, found.places, versions_from(run.run_id)))
    if question.as_json:
        return json_text(
            {
                "runs": [trace.document() for trace in traces],
                "looked_into": looked,
                "without_their_key": dict(absent),
                "without_subjects": nameless,
                "files_removed": gone,
            }
        )
    lines = [f"{_counted(len(traces), 'run')} of {looked} hold rows of this person", *_tree(traces)]
    lines += [
        f"not looked into: {_counted(number, 'run')} of the key {key}, which is not here"
        for key, number in absent.items()
    ]
    if gone:
        lines.append(f"not looked into: {_counted(gone, 'run')} whose files were removed")
    if subject is not None and nameless:
        lines.append(
            f"{_counted(nameless, 'run')} kept no subjects (data.subject_column): look for the case ids there as well"
        )
    lines.append("rows are counted from 0, without the header, as the file was read")
    return "\n".join(lines)


def of_version(question: Question, reference: str) -> str:
    """Which rows a version's runs read, by side and file. It needs no key.

    Raises:
        TrackingError: there is no such version.
        DataError: a manifest is damaged.
    """
    version = past_runs.find_version(
        reference, question.model_name, past_runs.open_experiment(question.experiment)
    ).pcc_version
    runs = [run for run in runs_with_manifest() if run.pcc_version == version]
    read = [(run, manifest_of(run)) for run in runs]
    counted = [(run, sides(content, f"run {run.run_id}")) for run, content in read if content is not None]
    if question.as_json:
        documents = [
            {
                "run_id": run.run_id,
                "step": run.step,
                "rows": [{"side": side, "file": file, "rows": number} for (side, file), number in counts.items()],
            }
            for run, counts in counted
        ]
        return json_text({"version": version, "runs": documents})
    if not counted:
        return f"{version}: no run of it left a manifest (`pcc lineage key` makes the key that this takes)"
    lines = [version]
    for run, counts in counted:
        lines.append(f"{run.step:<9} run {run.run_id[:8]}  {run.started:%Y-%m-%d %H:%M} UTC")
        lines += [f"          {side:<9} {number:,} rows of {shown(file)}" for (side, file), number in counts.items()]
    return "\n".join(lines)


def _tree(traces: Sequence[_Trace]) -> list[str]:
    return [line for trace in traces for line in trace.lines()]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
