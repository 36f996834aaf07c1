"""Files of predictions without texts, as the rows that are watched."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.columns import timestamp_rule, unit_interval_rule
from pcc_pipeline.data.contract import CASE_ID, TIMESTAMP, RowPlaces
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.predictions import ExtraColumns
from pcc_pipeline.model.decision import likeliest_of
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.steps.inputs.suppressed import without_erased
from pcc_pipeline.steps.records.persons import new_manifest
from pcc_pipeline.steps.watching.watched_file import PREDICTED, AnsweredFile
from pcc_pipeline.steps.watching.watched_rows import WatchedRows
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel
from pcc_pipeline.tracking.payloads import InputFile

_CONFIDENCE, _NOTES = "confidence", "prediction_notes"
_TIMES = (TIMESTAMP, "inference_timestamp")  # the first that has any


def of_predictions(
    params: Params, files: Sequence[AnsweredFile], notes: Sequence[str], model: TrainedModel
) -> WatchedRows:
    """Rows of files that `score` or the downstream system wrote; rows that it could not answer are rejected.

    Args:
        notes: what to say of the files, files without rows among them.

    Raises:
        DataError: a file lacks a column, no row has an answer, or all are of other versions.
    """
    address, manifest = params.data.path, new_manifest(params)
    columns = ExtraColumns(probabilities=True, classes=model.classes).names
    answered = [_answers(file, columns) for file in files]
    together = pd.concat(answered, ignore_index=True)
    frame, kept_out = without_erased(together, params)
    said = (*dict.fromkeys(notes), *kept_out)
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
        said = (*said, f"{other.sum():,} of {len(frame):,} rows are left out: answers of {names}")
        frame = frame[~other].reset_index(drop=True)
    places = {label: place for place, label in enumerate(model.classes)}
    table = frame[columns].to_numpy(dtype=np.float64) if set(columns) <= set(frame.columns) else None
    predicted = frame[PREDICTED].map(places)
    if _NOTES in frame:  # a row that is left to a person was answered, too
        predicted = predicted.fillna(frame[_NOTES].map(likeliest_of).map(places))
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
        notes=said,
        lineage=None if manifest is None else manifest.to_bytes(),
    )


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
