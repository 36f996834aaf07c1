"""`pcc lineage`: who stood in which rows, what came of them, and the keys that this takes."""

from __future__ import annotations

import os

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.manage.persons import erasures
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import shown
from pcc_pipeline.persons.keys import VARIABLE, add_key, read_keys
from pcc_pipeline.persons.manifest import rows_by_side
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.holdings import Trace, holdings, names_of
from pcc_pipeline.steps.erasing.kept import standing, words
from pcc_pipeline.steps.erasing.spelling import NEARLY, unknown_names
from pcc_pipeline.steps.erasing.tables import written_by
from pcc_pipeline.steps.records.audit import Audit, record
from pcc_pipeline.steps.records.persons import hashed
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.store import past_runs
from pcc_pipeline.tracking.store.manifests import manifest_of, runs_with_manifest

_SHOWN_ROWS = 8


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
    warnings = record(question.params, "new key", {"key": key.id})
    if question.as_json:
        return json_text({"key": key.id, "file": str(file), "reads": [each.id for each in keys.all]})
    earlier = f"; {counted(len(keys.all), 'earlier one')} still read" if keys.all else ""
    return (
        f"key {key.id} writes the manifests of runs from now on{earlier}\n"
        f"it lies in {file}, for you alone. Keep a copy where backups of the data are not: without it nobody can be "
        "found in the manifests, and with it everybody can." + "".join(f"\n{line}" for line in warnings)
    )


def find(question: Question, *, subject: str | None, case_id: str | None) -> str:
    """Every run that read rows of a subject or a case, which side they stood on, and what came of them.

    Raises:
        ConfigError: nobody is named, or there is no key.
        DataError: a manifest is damaged.
        TrackingError: MLflow does not answer.
    """
    audit = Audit(question.params)
    with audit.act("look up", hashed(question.params, subject=subject, case_id=case_id)) as act:
        names = names_of(subject, case_id)
        known = holdings(question.params, **names)
        act.on["runs"] = len(known.traces)
    if question.as_json:
        return json_text({**known.document(), **erasures.document(question.params, names)})
    # What their files hold is another matter: an erasure that is half done has emptied some.
    lines = [f"{counted(len(known.traces), 'run')} of {known.looked_into} read rows of this person"]
    begun = erasures.half_erased(question.params, names)
    lines += map(erasures.half_erased_line, begun)
    if was := erasures.erased_words(question.params, names) if not begun else "":
        lines += [
            f"erased     {was}" + ("" if known.traces else ": nothing is held of them here"),
            *_after(question, names),
        ]
        lines += ["           what stands below was read since, or is left of it"] if known.traces else []
    elif not known.traces:
        lines += [
            f"nobody is known{NEARLY if nearly else ' as it is written'}: see the spelling; capitals and blanks count"
            f"{erasures.erased_otherwise(question.params, names)}"
            for nearly in unknown_names(question.params, known, names).values()
        ]
    emptied = any("copies" in state.done for state in begun)
    lines += [line for trace in known.traces for line in _lines(trace, emptied=emptied)]
    lines += [
        f"not looked into: {counted(number, 'run')} of the key {key}, which is not here"
        for key, number in known.absent.items()
    ]
    if known.gone:
        lines.append(f"not looked into: {counted(known.gone, 'run')} whose files were removed")
    if subject is not None and known.nameless:
        lines.append(
            f"{counted(known.nameless, 'run')} kept no subjects (data.subject_column): look for the case ids as well"
        )
    lines.append("rows are counted from 0, without the header, as the file was read")
    return "\n".join([*lines, *audit.warnings])


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
    counted = [(run, rows_by_side(content, f"run {run.run_id}")) for run, content in read if content is not None]
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


def _after(question: Question, names: dict[str, list[str]]) -> list[str]:
    """What an erasure let stay, and how to look once more."""
    earlier = erasures.erased(question.params, names)
    lines = list(dict.fromkeys(f"warning    {words(each)}" for plan in earlier.plans for each in standing(plan)))
    look = [
        f"           to look through everything once more: pcc erase --verify {file}" for file in earlier.pages[-1:]
    ]
    return [*lines, *look]


def _lines(trace: Trace, *, emptied: bool) -> list[str]:
    run = trace.run
    head = f"{run.step:<9} {run.pcc_version or '':<16} run {run.run_id[:8]}  {run.started:%Y-%m-%d %H:%M} UTC"
    ended = "" if run.status == "FINISHED" else f"  {run.status}"
    lines = [f"{head}{ended}".rstrip()]
    for (side, file), rows in trace.places.items():
        some = ", ".join(str(row) for row in rows[:_SHOWN_ROWS])
        more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
        lines.append(f"          {side:<9} {counted(len(rows), 'row')} of {shown(file)}: row {some}{more}")
    for version in trace.made:
        aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
        lines.append(f"          made      {version.name} version {version.number}{aliases}")
        lines += [f"          published {address}" for address in version.published]
    out = " (their rows are out of it)" if emptied else ""
    lines += [f"          copy      {name}: {path}{out}" for name, path in written_by(trace.run).items()]
    return lines
