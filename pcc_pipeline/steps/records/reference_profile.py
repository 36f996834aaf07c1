"""The reference profile that a version is watched by: made by `train`, and anew by `evaluate`, which has test rows.

The classifier that `train` measures on validation rows is not the one that it logs, which learned them too. On test
rows the version itself answers, so what `evaluate` leaves is exact, and stands in place of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.data.columns import OPTIONAL_RULES
from pcc_pipeline.data.contract import COMPUTED, TIMESTAMP
from pcc_pipeline.data.dataset import Dataset
from pcc_pipeline.encoder.unique_texts import unique_texts
from pcc_pipeline.evaluation.over_time.volumes import Volumes
from pcc_pipeline.features.lexical import unknown_shares
from pcc_pipeline.monitoring.change.learned_space import LearnedSpace
from pcc_pipeline.monitoring.change.newest import alike_since
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.profile import Origin, ReferenceProfile, make_profile
from pcc_pipeline.monitoring.profile_file import NAME, to_bytes
from pcc_pipeline.monitoring.usual import Usual, UsualDays, UsualShare, repeating
from pcc_pipeline.monitoring.windows import ahead_of
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.registry.reference_profiles import DIGEST_TAG


def signals_of(
    texts: Sequence[str], vectors: np.ndarray, probabilities: np.ndarray, lexical: Any | None, space: LearnedSpace
) -> Signals:
    """What is looked at of rows (n).

    Args:
        vectors: (n, W) as the model takes them: without its own lexical half.
        lexical: the model's lexical half; None where vectors came whole.
    """
    unknown = None if lexical is None else unknown_shares(lexical, texts)
    return Signals.of_answers(probabilities).with_texts(texts, unknown).with_vectors(vectors, space)


def different_rows(texts: Sequence[str]) -> np.ndarray:
    """Positions of the first row of each text."""
    return np.unique(unique_texts(texts)[1], return_index=True)[1]


def reference(
    texts: Sequence[str],
    vectors: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    lexical: Any | None,
    origin: Origin,
    times: pd.Series | None = None,
) -> ReferenceProfile | None:
    """The profile from rows (n) that the model did not learn; `vectors` and `lexical` as of `signals_of`.

    Args:
        times: of the rows; where older ones are unlike the newest, only those since then count.
    """
    places = {label: place for place, label in enumerate(origin.classes)}
    signals = signals_of(texts, vectors, probabilities, lexical, origin.space)
    indices = np.array([places.get(str(label), -1) for label in labels], dtype=np.int64)
    different = different_rows(texts)
    if times is not None:
        moments = pd.to_datetime(times, utc=True).to_numpy(dtype="datetime64[us]")
        since = alike_since(signals.take(different), moments[different], len(origin.classes), origin.seed)
        if since is not None:
            kept = np.flatnonzero(moments >= since)
            signals, indices = signals.take(kept), indices[kept]
            different = different_rows([texts[place] for place in kept.tolist()])
            origin = replace(origin, since=str(since.astype("datetime64[D]")))
    return make_profile(signals, indices, different, origin)


def since_words(profile: ReferenceProfile | None) -> tuple[str, ...]:
    """What to know where only the newest rows are the reference."""
    if profile is None or profile.since is None:
        return ()
    return (
        f"messages since {profile.since} are unlike those before: the version will be watched beside its "
        f"{profile.rows:,} {profile.source} rows since then",
    )


def profile_payloads(profile: ReferenceProfile | None) -> list[payloads.Payload]:
    """The profile as a run's file, and its SHA-256 as a tag, which lies where who can write files cannot change it."""
    if profile is None:
        return []
    content = to_bytes(profile)
    digest = hashlib.sha256(content).hexdigest()
    return [payloads.Binary(NAME, content), payloads.Tags({DIGEST_TAG: digest})]


def data_figures(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of a training's metrics those of its file."""
    return {name: value for name, value in metrics.items() if name.startswith("data/") and np.isfinite(value)}


def usual_of(dataset: Dataset, volumes: Volumes | None, now: datetime) -> Usual:
    """What is usual of the file that a version learns from now."""
    frame = dataset.frame
    times = frame.get(TIMESTAMP)
    order = by_time(times, np.arange(len(frame)))
    marked = {name: rows[order] for name, rows in missing_values(frame).items()}
    marked["repeated_rows"] = repeating(unique_texts(dataset.texts)[1][order])
    days, newest = None, None if times is None else times[~ahead_of(times, now)].max()
    if volumes is not None:
        counts = volumes.daily.sum(axis=1)
        days = UsualDays.of(volumes.first, counts, whole_ends=volumes.hourly is None)
    low, middle, high = np.quantile(frame["text_length"].to_numpy(dtype=np.float64), [0.05, 0.5, 0.95])
    return Usual(
        shares={name: UsualShare.of(rows) for name, rows in {"rejected_rows": _rejected(dataset), **marked}.items()},
        days=days,
        lag_days=None if newest is None or pd.isna(newest) else max((now - newest).total_seconds() / 86400, 0.0),
        lengths=(float(low), float(middle), float(high)),
    )


def missing_values(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """`missing/<column>` -> which of the good rows have no value there, (n,) bool, for each optional column."""
    return {
        f"missing/{name}": frame[name].isna().to_numpy()
        for name in OPTIONAL_RULES
        if name in frame and name not in COMPUTED
    }


def by_time(times: pd.Series | None, rows: np.ndarray) -> np.ndarray:
    """Positions of rows in the order of their times; those without one last, and all as they stand where none has."""
    if times is None:
        return rows
    return np.asarray(rows[np.argsort(times.to_numpy(dtype="datetime64[us]")[rows], kind="stable")])


def _rejected(dataset: Dataset) -> np.ndarray:
    """Which rows of the file or files break the contract, (total_rows,) bool, in the order in which they were read."""
    places, rejected = dataset.places, dataset.rejected
    rows = np.concatenate([places.rows, rejected["row"].to_numpy(dtype=np.int64)])
    order = [rows]
    if places.files is not None:
        number = {part["file"]: place for place, part in enumerate(dataset.files)}
        order.append(np.array([number[file] for file in (*places.files, *rejected["file"])], dtype=np.int64))
    return np.asarray((np.arange(len(rows)) >= len(places.rows))[np.lexsort(order)])
