"""`manage_models`: past runs and versions out of MLflow, as tables, JSON or CSV. Each command is a function to text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcc_pipeline.config import Params, load_params
from pcc_pipeline.config.loading import chosen_file
from pcc_pipeline.config.paths import local_output, local_path
from pcc_pipeline.errors import ConfigError, DataError, PccError
from pcc_pipeline.manage.comparison import NOT_EVALUATED, Score, compared, rows_measured, score
from pcc_pipeline.manage.tables import csv_text, shown, table
from pcc_pipeline.model.lineage import SEMVER_TAG
from pcc_pipeline.persons.keys import use_keys
from pcc_pipeline.plurals import counted
from pcc_pipeline.storage.objects import local_copy, replacing
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.registry.versions import shown_address
from pcc_pipeline.tracking.store import local_store, past_runs
from pcc_pipeline.tracking.store.legacy_import import import_runs
from pcc_pipeline.tracking.store.past_runs import RecordedRun, RegisteredVersion, VersionRecord

SUMMARY_METRICS = ("test/f1_macro", "test/accuracy")
_HEADLINES = ("test/f1_macro", "val/f1_macro", "legacy/f1_macro", "legacy/f1_weighted", "legacy/f1", "legacy/accuracy")


@dataclass(frozen=True)
class Question:
    """What every command is asked about.

    Attributes:
        params: the configuration; what looks back needs `registry.model_name` alone.
        experiment: its name; None for the environment's, else pcc-intent.
        as_json: answer in JSON instead of a table.
    """

    params: Params
    experiment: str | None = None
    as_json: bool = False

    @property
    def model_name(self) -> str:
        return self.params.registry.model_name


def params_of(params_file: str | None, environment: Mapping[str, str], *, demanded: bool) -> Params:
    """The configuration of a parameter file, by default params.yaml, and the environment.

    Args:
        demanded: see `chosen_file`.

    Raises:
        ConfigError: there is no such file, or it is wrong.
    """
    params = load_params(chosen_file(params_file, demanded=demanded), environment=environment)
    use_keys(local_path(params.lineage.key_file))
    return params


def init(question: Question) -> str:
    """Make MLflow's local store, for its owner alone, where there is none; several may at once.

    Raises:
        TrackingError: it cannot be made or written.
    """
    local_store.prepare()
    address = shown_address()
    return json_text({"store": address}) if question.as_json else f"the store is there: {address}"


def list_runs(question: Question, *, limit: int | None = None, step: str | None = None, failed: bool = False) -> str:
    """Recent runs, newest first, with why the failed ones failed."""
    number = _limit(limit, 20)
    runs = past_runs.recent_runs(past_runs.open_experiment(question.experiment), number, step=step, failed=failed)
    places = _places(question.model_name) if runs else {}
    if question.as_json:
        return json_text([_run_document(run, places) for run in runs])
    rows = [
        (
            f"{run.started:%Y-%m-%d %H:%M}",
            run.run_id[:8],
            _step(run),
            run.status,
            _version(run, places.get(run.pcc_version)),
            _headline(run.metrics),
            "" if run.seconds is None else f"{run.seconds:.0f}",
            run.reason,
        )
        for run in runs
    ]
    if not rows:
        return "no such runs"
    return table(("started (UTC)", "run", "step", "status", "version", "score", "seconds", "reason"), rows)


def latest(question: Question) -> str:
    """The newest training that finished."""
    experiment = past_runs.open_experiment(question.experiment)
    finished = past_runs.recent_versions(experiment, question.model_name, 1, finished=True)
    if not finished:
        raise PccError("no training has finished in this experiment", fix="train first, or name another --experiment")
    return _version_text(finished[0], question.as_json)


def get(question: Question, reference: str) -> str:
    """One version, by tag, registry number, alias or run id."""
    return _version_text(find(question, reference), question.as_json)


def summary(question: Question, *, limit: int | None = None, metrics: Sequence[str] | None = None) -> str:
    """How versions performed over time, oldest first. Only scores on the same rows are compared."""
    metrics, number = metrics or SUMMARY_METRICS, _limit(limit, 20)
    versions = past_runs.recent_versions(past_runs.open_experiment(question.experiment), question.model_name, number)[
        ::-1
    ]
    scores = [[score(version.metrics, name) for name in metrics] for version in versions]
    measured_on = [
        None if row[0] is None else rows_measured(version, row[0].name)
        for version, row in zip(versions, scores, strict=True)
    ]
    if question.as_json:
        documents = [
            {
                "version": version.pcc_version,
                "semver": version.trained.tags.get(SEMVER_TAG),
                "started": version.trained.started.isoformat(),
                "status": version.trained.status,
                "number": version.registered.number if version.registered else None,
                "scores": {name: score.document() if score else None for name, score in zip(metrics, row, strict=True)},
                "evaluated_by": version.evaluated.run_id if version.evaluated else None,
                "measured_on": rows,
                "beside_champion": _beside_champion(version) or None,
            }
            for version, row, rows in zip(versions, scores, measured_on, strict=True)
        ]
        return json_text(documents)
    if not versions:
        return "no version yet"
    names = {rows: _row_set(place) for place, rows in enumerate(dict.fromkeys(filter(None, measured_on)))}
    last: dict[str, Score] = {}
    lines = []
    for version, row, on in zip(versions, scores, measured_on, strict=True):
        first, change = row[0], ""
        if first and on:
            change = f"{first.value - last[on].value:+.4f}" if on in last else "on other rows" if last else ""
            last[on] = first
        cells = [
            one.text(metrics[place]) if one else _unmeasured(metrics[place], version) for place, one in enumerate(row)
        ]
        name = _version(version.trained, version.registered)
        rows = names.get(on or "", "not known" if first else "")
        lines.append((f"{version.trained.started:%Y-%m-%d %H:%M}", name, version.trained.status, *cells, rows, change))
    head = ("trained (UTC)", "version", "status", *(f"{name} [95%]" for name in metrics), "rows", "change")
    measured = [
        (row[0], version, on)
        for version, row, on in zip(versions, scores, measured_on, strict=True)
        if row[0] is not None
    ]
    return "\n".join(
        [table(head, lines), "", _tally(versions), *_highest(measured, names, metrics[0]), *_beside(versions)]
    )


def _beside(versions: Sequence[VersionRecord]) -> list[str]:
    """What gates measured of a version and the champion of then, which may be compared whatever the table's rows."""
    lines = [(shown(version.pcc_version), _beside_champion(version)) for version in versions]
    return [f"on the same rows, by its gate: {name} {beside}" for name, beside in lines if beside]


def _beside_champion(version: VersionRecord) -> str:
    return "" if version.evaluated is None else version.evaluated.tags.get(past_runs.BESIDE_TAG, "")


def _row_set(place: int) -> str:
    """A name for the rows that some versions were measured on: A, B, …, Z, A1, and so on."""
    return chr(ord("A") + place % 26) + (str(place // 26) if place >= 26 else "")


def _unmeasured(metric: str, version: VersionRecord) -> str:
    return NOT_EVALUATED if metric.startswith("test/") and version.evaluated is None else ""


def _highest(
    measured: Sequence[tuple[Score, VersionRecord, str | None]], names: Mapping[str, str], metric: str
) -> list[str]:
    """The best of the versions that were measured on the rows of the newest one, and how many cannot be compared."""
    known = [on for _, _, on in measured if on is not None]
    if not known:
        return ["It is not known on which rows these scores were measured: they are not compared."] if measured else []
    alike = [(one, version) for one, version, on in measured if on == known[-1]]
    best, of = max(alike, key=lambda pair: pair[0].value)
    whom = f"{shown(of.pcc_version)}, of {counted(len(alike), 'version')} measured on them"
    lines = [f"highest {metric} on rows {names[known[-1]]}: {best.text(metric)} by {whom}"]
    if others := len(measured) - len(alike):
        lines.append(f"{others:,} measured on other rows: scores on different rows tell no versions apart.")
    return [*lines, "Scores with intervals that overlap widely tell no versions apart either."]


def export(question: Question, *, form: str = "csv", output: str | None = None, limit: int | None = None) -> str:
    """All runs with their parameters, metrics and our tags; to a file if one is named.

    Raises:
        ConfigError: the file is an address.
        StorageError: it cannot be written.
        TrackingError: MLflow does not answer.
    """
    target = None if output is None else local_output(output, "--output")
    runs = past_runs.recent_runs(past_runs.open_experiment(question.experiment), _limit(limit, None))
    places = _places(question.model_name)
    documents = [_run_document(run, places) for run in runs]
    text = json_text(documents) if form == "json" or question.as_json else csv_text([_flat(one) for one in documents])
    if target is None:
        return text
    with replacing(target, shared=True) as partial:
        partial.write_text(text, encoding="utf-8")
    return f"wrote {counted(len(documents), 'run')} to {output}"


def compare(question: Question, a: str, b: str, *, every: bool = False) -> str:
    """Two versions side by side: scores with their 95 % intervals, and the parameters in which they differ."""
    first, second = find(question, a), find(question, b)
    comparison = compared(first, second)
    if question.as_json:
        return json_text(comparison.document())
    names = [shown(version.pcc_version) or version.trained.run_id[:8] for version in (first, second)]
    scores = [
        (row.name, row.a.text() if row.a else "", row.b.text() if row.b else "", row.change)
        for row in comparison.metrics
        if every or "/class/" not in row.name
    ]
    params = [(row.name, row.a, row.b) for row in comparison.params if every or row.a != row.b]
    parts = [
        table(("metric [95%]", *names, "B - A"), scores) if scores else "neither has scores",
        table(("parameter", *names), params) if params else "no parameter differs",
        *comparison.notes,
    ]
    return "\n\n".join(parts)


def import_registry(question: Question, path: str, *, free_text: bool = False) -> str:
    """Bring the older system's JSON registry in as runs; what is there already is left alone."""
    try:
        with local_copy(path) as copy:
            document = json.loads(copy.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            "there is no such file", where=path, fix="give the older system's model_registry.json"
        ) from None
    except (OSError, ValueError) as error:  # the text of a JSON error quotes nothing; that of another might
        said = f": {error}" if isinstance(error, json.JSONDecodeError) else f" ({type(error).__name__})"
        raise DataError(
            f"the file is not readable JSON{said}", where=path, fix="give a whole, unaltered file"
        ) from None
    done = import_runs(document, past_runs.open_experiment(question.experiment, create=True), free_text=free_text)
    if question.as_json:
        return json_text(
            {
                "experiment": done.experiment,
                "imported": list(done.imported),
                "already_there": done.already_there,
                "bad": [vars(entry) for entry in done.bad],
                "left_out": dict(done.left_out),
            }
        )
    kept = [f"  {name}: {count:,} times" for name, count in sorted(done.left_out.items())]
    return "\n".join(
        [
            f"imported {counted(len(done.imported), 'run')} into {done.experiment}, {done.already_there:,} were there "
            f"already, {len(done.bad):,} {'entry is' if len(done.bad) == 1 else 'entries are'} bad",
            *(f"  entry {bad.place}{f' ({bad.run_id})' if bad.run_id else ''}: {bad.reason}" for bad in done.bad),
            *(["left out, as not a number or possibly a customer's words (see --free-text):", *kept] if kept else []),
        ]
    )


def _limit(limit: int | None, default: int | None) -> int | None:
    """How many to ask for: 0 means all."""
    if limit is not None and limit < 0:
        raise ConfigError("--limit cannot be negative", fix="give a number of rows, or 0 for all")
    return default if limit is None else limit or None


def find(question: Question, reference: str) -> VersionRecord:
    """The version that a person means by a tag, registry number, alias or run id."""
    if not reference.strip():
        raise ConfigError("no version is named", fix="name one such as v20250729_084352, 3 or @champion")
    return past_runs.find_version(reference, question.model_name, past_runs.open_experiment(question.experiment))


def _places(model_name: str) -> dict[str, RegisteredVersion]:
    return {
        version.pcc_version: version for version in past_runs.registered_versions(model_name) if version.pcc_version
    }


def _step(run: RecordedRun) -> str:
    action = run.tags.get("pcc.action")
    return f"{run.step} ({action})" if action else run.step or "(none)"


def _version(run: RecordedRun, place: RegisteredVersion | None) -> str:
    """Such as `v20261125_173250 1.2.0 #3 @champion`."""
    name = " ".join(filter(None, [run.pcc_version, run.tags.get(SEMVER_TAG)]))
    if place is None:
        return name
    return f"{name} #{place.number}" + "".join(f" @{alias}" for alias in place.aliases)


def _headline(metrics: Mapping[str, float]) -> str:
    name = next((name for name in _HEADLINES if name in metrics), None)
    return f"{metrics[name]:.4f} {name}" if name else ""


def _tally(versions: Sequence[VersionRecord]) -> str:
    failed = sum(version.trained.status in ("FAILED", "KILLED") for version in versions)
    tested = sum(version.evaluated is not None for version in versions)
    return f"{counted(len(versions), 'training')}, {failed:,} failed, {tested:,} evaluated"


def _version_text(version: VersionRecord, as_json: bool) -> str:
    run, tested, place = version.trained, version.evaluated, version.registered
    if as_json:
        document = _run_document(run, {version.pcc_version: place} if place else {})
        return json_text({**document, "metrics": _finite(version.metrics), "evaluated_by": tested and tested.run_id})
    facts = [
        ("version", _version(run, place)),
        ("run", f"{run.run_id} ({_step(run)}, {run.status})"),
        ("started", f"{run.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("seconds", "" if run.seconds is None else f"{run.seconds:.1f}"),
        ("reason", run.reason),
        ("evaluated by", "" if tested is None else f"{tested.run_id} on {tested.tags.get('pcc.test_source', '')}"),
        *sorted((name, value) for name, value in run.tags.items() if name.startswith("pcc.") and name != "pcc.error"),
    ]
    scores = [(name, Score.of(version.metrics, name).text()) for name in Score.names(version.metrics)]
    parts = [("fact", "", [fact for fact in facts if fact[1]]), ("metric", "value [95%]", scores)]
    parts.append(("parameter", "value", sorted(run.params.items())))
    return "\n\n".join(table((name, value), rows) for name, value, rows in parts if rows)


def _run_document(run: RecordedRun, places: Mapping[str, RegisteredVersion]) -> dict[str, Any]:
    place = places.get(run.pcc_version)
    return {
        "run_id": run.run_id,
        "name": run.name,
        "step": run.step,
        "status": run.status,
        "started": run.started.isoformat(),
        "ended": None if run.ended is None else run.ended.isoformat(),
        "seconds": run.seconds,
        "version": run.pcc_version or None,
        "number": place.number if place else None,
        "aliases": list(place.aliases) if place else [],
        "error": run.error or None,
        "metrics": _finite(run.metrics),
        "params": dict(sorted(run.params.items())),
        "tags": {name: value for name, value in sorted(run.tags.items()) if name.startswith("pcc.")},
    }


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in sorted(metrics.items())}


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = " ".join(value) if isinstance(value, list) else value
    return flat
