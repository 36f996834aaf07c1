"""Files to be watched: messages, scored or not, labelled or not, as what is looked at of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import chain

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.columns import label_rule
from pcc_pipeline.data.contract import CASE_ID, TEXT, TIMESTAMP, CheckedBatch, RowPlaces
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.data.vector_origin import file_of, origin_of
from pcc_pipeline.encoder.unique_texts import unique_texts
from pcc_pipeline.errors import DataError
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.profile import ReferenceProfile
from pcc_pipeline.monitoring.windows import days_of
from pcc_pipeline.persons.manifest import Manifest
from pcc_pipeline.steps.answering.batch_vectors import BatchVectors, answers
from pcc_pipeline.steps.inputs.datasets import input_files, progress_bar, read, unlabelled
from pcc_pipeline.steps.inputs.model_vectors import OF_THE_DATA, demand_encoder
from pcc_pipeline.steps.inputs.suppressed import without_erased
from pcc_pipeline.steps.records.persons import add_batch
from pcc_pipeline.steps.records.reference_profile import missing_values, signals_of
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel
from pcc_pipeline.tracking.payloads import InputFile

_PREDICTED, _CONFIDENCE, _PROBABILITY = "predicted_label", "confidence", "probability/"


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

    def __len__(self) -> int:
        return len(self.case_ids)

    @cached_property
    def days(self) -> np.ndarray | None:
        """The day of each row in UTC, (n,) datetime64[D]; None where there are no times."""
        return None if self.times is None else days_of(self.times)


def watched_rows(
    params: Params,
    model: TrainedModel,
    profile: ReferenceProfile,
    learned_keys: RowKeys | None = None,
    manifest: Manifest | None = None,
) -> WatchedRows:
    """`data.path` as it is watched: messages are scored by the model; predictions without texts stand as they are.

    Args:
        learned_keys: of the rows that the model learned; None where no record says so. Predictions have no texts to be
            known by.
        manifest: gets the rows.

    Raises:
        DataError: the file cannot be read, has no good row, or holds predictions of other versions alone.
        FeatureError: its vectors are of another encoder.
    """
    address, notes = params.data.path, ReadNotes()
    batches = read(address, notes)
    first = next(batches)
    if _holds_answers(first):
        answered, notes_of = without_erased(_all_answers(first, batches, address), params)
        if manifest is not None and CASE_ID in answered:
            manifest.add(answered, RowPlaces(np.arange(len(answered))), "watched", address)
        return _predictions(answered, model, address, (*notes.lines, *notes_of))
    label = params.data.label_column
    # A label may be missing where labels come later, so the contract does not ask for it.
    file = CheckedFile(unlabelled(params), address, kept=False)
    parts: list[Signals] = []
    ids: list[np.ndarray] = []
    texts: list[str] = []
    times: list[pd.Series] = []
    labels: list[np.ndarray] = []
    rejected: list[np.ndarray] = []
    missing: list[dict[str, np.ndarray]] = []
    with progress_bar(None, f"monitor {address}") as bar, BatchVectors(params, model) as made:
        for batch in chain([first], batches):
            if _holds_answers(batch):
                raise _mixed(batch, address)
            checked = file.add(batch)
            bar.update(len(checked.rejected))
            rejected.append(_rejected(checked))
            add_batch(manifest, checked, "watched", address)
            if not len(checked.good):
                continue
            if checked.vectors is not None:
                demand_encoder(origin_of(batch), model, OF_THE_DATA)
            vectors = made.vectors(checked, bar.update)
            some = [str(text) for text in checked.good[TEXT]]
            probabilities = answers(model, vectors, some)
            halves = vectors[:, : model.vector_width]  # a lexical half that the data brings is not the model's
            parts.append(signals_of(some, halves, probabilities, model.lexical, profile.space))
            ids.append(checked.good[CASE_ID].to_numpy(dtype=object))
            texts += some
            missing.append(missing_values(checked.good))
            # Of several files, one may lack the times or the labels.
            nothing = pd.Series(pd.NaT, index=checked.good.index, dtype="datetime64[us, UTC]")
            times.append(checked.good.get(TIMESTAMP, nothing))
            labels.append(_labels(checked.good[label]) if label in checked.good else np.full(len(some), None, object))
    if not parts:
        file.rejected(1.0)  # says why there is none
        raise DataError("no good row stays", where=address, fix="give a file with rows that keep the data contract")
    known = np.zeros(len(texts), bool) if learned_keys is None else RowKeys.of(texts).known_to(learned_keys)
    left_out = (
        f"{model.model_version} learned the texts of {known.sum():,} of the {len(known):,} rows: of these only the "
        "quality is judged"
    )
    every_time = pd.concat(times, ignore_index=True)
    return WatchedRows(
        signals=Signals.joined(parts),
        case_ids=np.concatenate(ids),
        texts=unique_texts(texts)[1],
        times=None if every_time.isna().all() else every_time,
        labels=np.concatenate(labels),
        learned=known,
        rejected=np.concatenate(rejected),
        missing=_joined(missing, [len(part) for part in parts]),
        inputs=input_files(address, "monitoring", file),
        notes=(*notes.lines, *file.notes_on_kept_out, *([left_out] if known.any() else [])),
    )


def _rejected(checked: CheckedBatch) -> np.ndarray:
    """Which rows of a batch are rejected, bool, in the file's order; rows that are kept out are none."""
    rows = np.concatenate([checked.places.rows, checked.rejected["row"].to_numpy(dtype=np.int64)])
    return (np.arange(len(rows)) >= len(checked.good))[np.argsort(rows)]


def _holds_answers(batch: pd.DataFrame) -> bool:
    return TEXT not in batch.columns and _PREDICTED in batch.columns


def _all_answers(first: pd.DataFrame, batches: Iterator[pd.DataFrame], address: str) -> pd.DataFrame:
    """All rows of predictions; a file of messages among them is none."""
    parts = [first]
    for batch in batches:
        if not _holds_answers(batch):
            raise _mixed(first, address)
        parts.append(batch)
    return pd.concat(parts, ignore_index=True)


def _mixed(answers: pd.DataFrame, address: str) -> DataError:
    return DataError(
        "some of the files hold messages, and others predictions without texts",
        where=file_of(answers) or address,
        fix="look at them one after the other: predictions are judged by less than messages are",
    )


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
    labels = pd.Series(_labels(frame[column]), index=frame[CASE_ID].astype(str)).dropna()
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


def _joined(parts: list[dict[str, np.ndarray]], rows: list[int]) -> dict[str, np.ndarray]:
    """Of all batches; of several files, one that lacks a column has no value there."""
    return {
        name: np.concatenate([part.get(name, np.ones(n, bool)) for part, n in zip(parts, rows, strict=True)])
        for name in dict.fromkeys(name for part in parts for name in part)
    }


def _labels(column: pd.Series) -> np.ndarray:
    """Labels as the contract spells them; None where a row has none."""
    there = column.notna() & (column.astype(str).str.strip() != "")
    labels = np.full(len(column), None, dtype=object)
    if there.any():
        labels[there.to_numpy()] = label_rule(column[there])[0].to_numpy(dtype=object)
    return labels


def _predictions(frame: pd.DataFrame, model: TrainedModel, address: str, notes: tuple[str, ...]) -> WatchedRows:
    """Rows of a file that `score` or the downstream system wrote; rows that it could not answer are rejected."""
    if missing := [name for name in (CASE_ID, _CONFIDENCE) if name not in frame]:
        raise DataError(
            f"this file of predictions has no column {', '.join(missing)}",
            where=address,
            fix="give it as it was written",
        )
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
    columns = [f"{_PROBABILITY}{label}" for label in model.classes]
    table = frame[columns].to_numpy(dtype=np.float64) if set(columns) <= set(frame.columns) else None
    predicted = frame[_PREDICTED].map(places)
    if table is not None:
        predicted = predicted.fillna(pd.Series(np.nan_to_num(table).argmax(axis=1), index=frame.index))
    good = (predicted.notna() & frame[_CONFIDENCE].notna()).to_numpy()
    if not good.any():
        raise DataError("no row has an answer of this model", where=address, fix="give a file of its predictions")
    kept = frame[good].reset_index(drop=True)
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
    times = pd.to_datetime(kept[TIMESTAMP], utc=True, format="ISO8601") if TIMESTAMP in kept else None
    if times is None and "inference_timestamp" in kept:
        times = pd.to_datetime(kept["inference_timestamp"], utc=True)
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
    )
