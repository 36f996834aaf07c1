"""Files to be watched: messages, scored or not, labelled or not, as what is looked at of each row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.config.schema import ComputeParams
from pcc_pipeline.data.columns import timestamp_rule, unit_interval_rule
from pcc_pipeline.data.contract import CASE_ID, TIMESTAMP, RowPlaces
from pcc_pipeline.data.dataset import check_rejections, join_rejected, kept_out_note
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import ConfigError, DataError, PccError
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.profile import ReferenceProfile
from pcc_pipeline.monitoring.windows import days_of
from pcc_pipeline.persons.manifest import joined
from pcc_pipeline.search.pools.dask_cluster import demand_cluster
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.datasets import progress_bar, read
from pcc_pipeline.steps.inputs.suppressed import without_erased
from pcc_pipeline.steps.parts.engines import engine_of
from pcc_pipeline.steps.parts.running import as_listed, where_in, with_threads
from pcc_pipeline.steps.parts.surroundings import Surroundings
from pcc_pipeline.steps.records.persons import new_manifest
from pcc_pipeline.steps.watching.watched_file import PREDICTED, AnsweredFile, WatchedFile, WatchTask, labels_in
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, TrainedModel
from pcc_pipeline.tracking.payloads import InputFile

_CONFIDENCE, _PROBABILITY = "confidence", "probability/"
_TIMES = (TIMESTAMP, "inference_timestamp")  # of predictions: the first that has any
Seen = WatchedFile | AnsweredFile


@dataclass(frozen=True)
class WatchedRows:
    """Good rows, n of them, in the order of the files.

    Attributes:
        signals: see there; of a file of predictions without texts, what these show.
        texts: the number of each row's text among the different ones, (n,); None without texts.
        times: the column `timestamp`; None where there is none.
        labels: true labels, (n,) object, None where a row has none.
        learned: which rows have a text that the model learned, (n,) bool: they say nothing of how it does on others.
        rejected: which rows of the file break the contract, or were not answered, (total,) bool.
        missing: `missing/<column>` -> rows without a value, (n,) bool, of the optional columns; None where they were
            not checked, as in a file of predictions.
    """

    signals: Signals
    case_ids: np.ndarray
    texts: np.ndarray | None
    times: pd.Series | None
    labels: np.ndarray
    learned: np.ndarray
    rejected: np.ndarray
    missing: dict[str, np.ndarray] | None
    inputs: list[InputFile]
    notes: tuple[str, ...]
    lineage: bytes | None = None

    def __len__(self) -> int:
        return len(self.case_ids)

    def without(self, some: np.ndarray) -> WatchedRows:
        """Without some rows, (n,) bool, which are rejected then."""
        if not some.any():
            return self
        rejected = self.rejected.copy()
        rejected[np.flatnonzero(~rejected)[some]] = True
        return replace(
            self,
            signals=self.signals.take(~some),
            case_ids=self.case_ids[~some],
            texts=None if self.texts is None else self.texts[~some],
            times=None if self.times is None else self.times[~some].reset_index(drop=True),
            labels=self.labels[~some],
            learned=self.learned[~some],
            rejected=rejected,
            missing=None if self.missing is None else {name: one[~some] for name, one in self.missing.items()},
        )

    @cached_property
    def days(self) -> np.ndarray | None:
        """The day of each row in UTC, (n,) datetime64[D]; None where there are no times."""
        return None if self.times is None else days_of(self.times)


def demand_workers(settings: ComputeParams) -> None:
    """See that who is to look at the files is there.

    Raises:
        ConfigError: no scheduler of Dask answers, or Dask is not installed; or a share of the files is asked for.
    """
    if settings.shard is not None:
        raise ConfigError(
            "compute.shard is for a data set in parts; messages are judged over all files",
            where=f"compute.shard: {settings.shard}",
            fix="leave it out; several processes look at the files by compute.workers, several machines by "
            "compute.engine: dask",
        )
    demand_cluster(settings)


def watched_rows(
    params: Params, loaded: LoadedModel, profile: ReferenceProfile, learned: Callable[[], RowKeys | None]
) -> WatchedRows:
    """`data.path` as it is watched: messages are scored by the model; predictions without texts stand as they are.

    Of several files each is looked at by whom `compute` names, and is checked by itself; a case id that stands in two
    of them counts once, in the first.

    Args:
        learned: what the rows have that the model learned; None where no record says so. Nobody asks of predictions,
            which have no texts to be known by.

    Raises:
        DataError: a file cannot be read, no row is good, or all are predictions of other versions.
        FeatureError: its vectors are of another encoder.
        ComputeError: workers die, or a cluster is gone.
    """
    sources = files_of(params.data.path)
    task = WatchTask(with_threads(params), loaded.model_uri, profile.space, Surroundings.here(params))
    task.keep(loaded)
    try:
        files = _looked_at(params, task, sources)
    finally:
        task.let_go()
    if any(isinstance(file, AnsweredFile) for file in files):
        return _of_predictions(params, files, loaded.model)
    return _of_messages(params, [file for file in files if isinstance(file, WatchedFile)], loaded.model, learned)


def _looked_at(params: Params, task: WatchTask, sources: Sequence[str]) -> list[Seen]:
    """The files in their order: those of messages, or those of predictions, and those without rows."""
    seen: dict[str, Seen] = {}
    kinds: set[type[Seen]] = set()
    with closing(_results(params, task, sources)) as results:
        for source, one in results:
            if isinstance(one, PccError):
                raise type(one)(one.what, where=where_in(source, one), fix=one.fix) from one
            if isinstance(one, AnsweredFile) or len(one.rejected):
                kinds.add(type(one))
            if len(kinds) > 1:
                raise DataError(
                    "some of the files hold messages, and others predictions without texts",
                    where=source,
                    fix="look at them one after the other: predictions are judged by less than messages are",
                )
            seen[source] = one
    return [seen[source] for source in sources]


def _results(params: Params, task: WatchTask, sources: Sequence[str]) -> Generator[tuple[str, Seen | PccError]]:
    settings, what = params.compute, f"monitor {params.data.path}"
    if len(sources) == 1 or (settings.engine == "local" and settings.workers == 1):
        with progress_bar(None, what) as bar:
            for source in sources:
                try:
                    one: Seen | PccError = task.look_at(source, bar.update)
                except PccError as error:
                    one = error
                yield source, one
        return
    with progress_bar(len(sources), what, "file") as bar:
        for result in engine_of(settings).run(task, sources):
            bar.update()
            yield result


def _of_messages(
    params: Params, files: Sequence[WatchedFile], model: TrainedModel, learned: Callable[[], RowKeys | None]
) -> WatchedRows:
    """All rows of the files, in their order."""
    address = params.data.path
    kept_out = kept_out_note(sum(file.kept_out for file in files))
    signals = [file.signals for file in files if file.signals is not None]
    if not signals:
        several = len(files) > 1
        faults = join_rejected([file.faults.assign(file=file.source) if several else file.faults for file in files])
        if len(faults):
            check_rejections(faults, len(faults), address, 1.0)  # says why there is none
        raise DataError(
            "; ".join(["no good row stays", *kept_out]),
            where=address,
            fix="give a file with rows that keep the data contract",
        )
    keys = learned()
    known = np.concatenate([file.keys.texts for file in files])
    known = np.zeros(len(known), bool) if keys is None else RowKeys(known, None).known_to(keys)
    times = pd.concat([file.times for file in files], ignore_index=True)
    inputs = [InputFile(file.source, "monitoring", file.digest, len(file.rejected)) for file in files]
    contents = [file.lineage for file in files if file.lineage is not None]
    whole = WatchedRows(
        signals=signals[0] if len(signals) == 1 else Signals.joined(signals),
        case_ids=np.concatenate([file.case_ids for file in files]),
        texts=np.unique(np.concatenate([file.texts for file in files]), return_inverse=True)[1],
        times=None if times.isna().all() else times,
        labels=np.concatenate([file.labels for file in files]),
        learned=known,
        rejected=np.concatenate([file.rejected for file in files]),
        missing=_missing(files),
        inputs=as_listed(inputs, address),
        notes=(*dict.fromkeys(line for file in files for line in file.notes), *kept_out),
        lineage=joined(contents, address) if contents else None,
    )
    rows = whole.without(_repeated(files))
    left_out = (
        f"{model.model_version} learned the texts of {rows.learned.sum():,} of the {len(rows):,} rows: of these only "
        "the quality is judged"
    )
    return replace(rows, notes=(*rows.notes, left_out)) if rows.learned.any() else rows


def _repeated(files: Sequence[WatchedFile]) -> np.ndarray:
    """Which rows have a case id of a row before them, (n,) bool; ids that were made of rows are no case's."""
    own = np.concatenate([np.full(len(file), file.own_ids) for file in files])
    again = np.zeros(len(own), bool)
    again[own] = pd.Series(np.concatenate([file.case_ids for file in files])[own]).duplicated()
    return again


def _missing(files: Sequence[WatchedFile]) -> dict[str, np.ndarray]:
    """`missing/<column>` -> rows without a value; of several files, one that lacks a column has no value there."""
    names = dict.fromkeys(name for file in files for name in file.missing)
    return {
        name: np.concatenate([file.missing.get(name, np.ones(len(file), bool)) for file in files]) for name in names
    }


def with_labels(rows: WatchedRows, address: str, params: Params) -> tuple[WatchedRows, list[InputFile]]:
    """The same rows with labels that came later, joined by case id, in whole or in part.

    Raises:
        DataError: the file lacks a column, names a case twice with two labels, or names none of these rows.
    """
    column = params.data.label_column
    frame = pd.concat(list(read(address)), ignore_index=True)
    if missing := [name for name in (CASE_ID, column) if name not in frame]:
        raise DataError(
            f"the file of labels has no column {' and no column '.join(missing)}",
            where=address,
            fix=f"give {CASE_ID} and {column}; another column of labels by data.label_column",
        )
    labels = pd.Series(labels_in(frame[column]), index=frame[CASE_ID].astype(str)).dropna()
    different = labels.groupby(level=0).nunique()
    if twice := int((different > 1).sum()):
        raise DataError(f"{twice:,} cases have two labels", where=address, fix="keep one row for each case")
    known = labels[~labels.index.duplicated()].to_dict()
    joined = np.array([known.get(str(case), own) for case, own in zip(rows.case_ids, rows.labels, strict=True)], object)
    if not any(str(case) in known for case in rows.case_ids):
        raise DataError(
            f"none of its {len(known):,} labelled cases is among the {len(rows):,} rows",
            where=address,
            fix="give labels by the case ids of the file, or of its predictions",
        )
    digest = sha256(repr(sorted(known.items())).encode(errors="surrogatepass")).hexdigest()
    return replace(rows, labels=joined), [InputFile(address, "labels", digest, len(frame))]


def _answers(file: AnsweredFile, probabilities: Sequence[str]) -> pd.DataFrame:
    """A file of predictions with numbers and times of one type; what is neither is missing.

    Raises:
        DataError: it lacks a column.
    """
    frame = file.frame
    if missing := [name for name in (CASE_ID, _CONFIDENCE) if name not in frame]:
        raise DataError(
            f"this file of predictions has no column {', '.join(missing)}",
            where=file.source,
            fix="give it as it was written",
        )
    rules = {
        **dict.fromkeys((_CONFIDENCE, *probabilities), unit_interval_rule),
        **dict.fromkeys(_TIMES, timestamp_rule),
    }
    typed = {}
    for name, rule in rules.items():
        if name in frame:
            values, faults = rule(frame[name], frame[name])
            typed[name] = values.mask(faults != "")
    return frame.assign(**typed)


def _of_predictions(params: Params, files: Sequence[Seen], model: TrainedModel) -> WatchedRows:
    """Rows of files that `score` or the downstream system wrote; rows that it could not answer are rejected."""
    address, manifest = params.data.path, new_manifest(params)
    columns = [f"{_PROBABILITY}{label}" for label in model.classes]
    answered = [_answers(file, columns) for file in files if isinstance(file, AnsweredFile)]
    together = pd.concat(answered, ignore_index=True)
    frame, kept_out = without_erased(together, params)
    notes = (*dict.fromkeys(line for file in files for line in file.notes), *kept_out)
    if manifest is not None:
        manifest.add(frame, RowPlaces(np.arange(len(frame))), "watched", address)
    versions = frame.get("model_version", pd.Series(model.model_version, index=frame.index)).fillna(model.model_version)
    other = (versions.astype(str) != model.model_version).to_numpy()
    if other.any():
        # After a promotion a folder of scored files holds answers of both versions.
        names = ", ".join(sorted(set(versions[other].astype(str)))[:3])
        if other.all():
            raise DataError(
                f"these predictions are of {names}, not of {model.model_version}",
                where=address,
                fix="watch them beside their own version (pcc monitor --model …), or give the messages themselves",
            )
        notes = (*notes, f"{other.sum():,} of {len(frame):,} rows are left out: answers of {names}")
        frame = frame[~other].reset_index(drop=True)
    places = {label: place for place, label in enumerate(model.classes)}
    table = frame[columns].to_numpy(dtype=np.float64) if set(columns) <= set(frame.columns) else None
    predicted = frame[PREDICTED].map(places)
    if table is not None:
        likeliest = pd.Series(np.nan_to_num(table).argmax(axis=1), index=frame.index)
        predicted = predicted.fillna(likeliest.where(~np.isnan(table).any(axis=1)))
    good = (predicted.notna() & frame[_CONFIDENCE].notna()).to_numpy()
    if not good.any():
        raise DataError("no row has an answer of this model", where=address, fix="give a file of its predictions")
    kept = frame[good].reset_index(drop=True)
    if table is not None and np.isnan(table[good]).any():
        table = None  # a file among them has none
    signals = Signals(
        predicted[good].to_numpy(dtype=np.int64),
        kept[_CONFIDENCE].to_numpy(dtype=np.float64),
        None if table is None else table[good],
    )
    digest = sha256(
        "".join(f"{case}:{place};" for case, place in zip(kept[CASE_ID], signals.predicted, strict=True)).encode(
            errors="surrogatepass"
        )
    ).hexdigest()
    times = next((kept[name] for name in _TIMES if name in kept and kept[name].notna().any()), None)
    return WatchedRows(
        signals=signals,
        case_ids=kept[CASE_ID].astype(str).to_numpy(dtype=object),
        texts=None,
        times=times,
        labels=np.full(len(kept), None, dtype=object),
        learned=np.zeros(len(kept), bool),
        rejected=~good,
        missing=None,
        inputs=[InputFile(address, "monitoring", digest, len(frame))],
        notes=notes,
        lineage=None if manifest is None else manifest.to_bytes(),
    )
