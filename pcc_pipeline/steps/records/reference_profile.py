"""The reference profile that a version is watched by: made by `train`, and anew by `evaluate`, which has test rows.

The classifier that `train` measures on validation rows is not the one that it logs, which learned them too. On test
rows the version itself answers, so what `evaluate` leaves is exact, and stands in place of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pcc_pipeline.encoder.unique_texts import unique_texts
from pcc_pipeline.evaluation.over_time.volumes import Volumes
from pcc_pipeline.features.lexical import unknown_shares
from pcc_pipeline.monitoring.learned_space import LearnedSpace
from pcc_pipeline.monitoring.profile import Origin, ReferenceProfile, make_profile
from pcc_pipeline.monitoring.profile_file import NAME, to_bytes
from pcc_pipeline.monitoring.signals import Signals
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
) -> ReferenceProfile | None:
    """The profile from rows (n) that the model did not learn; `vectors` and `lexical` as of `signals_of`."""
    places = {label: place for place, label in enumerate(origin.classes)}
    return make_profile(
        signals_of(texts, vectors, probabilities, lexical, origin.space),
        np.array([places.get(str(label), -1) for label in labels], dtype=np.int64),
        different_rows(texts),
        origin,
    )


def profile_payloads(profile: ReferenceProfile | None) -> list[payloads.Payload]:
    """The profile as a run's file, and its SHA-256 as a tag, which lies where who can write files cannot change it."""
    if profile is None:
        return []
    content = to_bytes(profile)
    digest = hashlib.sha256(content).hexdigest()
    return [payloads.Binary(NAME, content), payloads.Tags({DIGEST_TAG: digest})]


def usual_figures(metrics: Mapping[str, float], volumes: Volumes | None) -> dict[str, float]:
    """Of the training file, what is usual: shares of faults and repeats, and rows a day where rows have times."""
    usual = {name: value for name, value in metrics.items() if name.startswith("data/") and np.isfinite(value)}
    if volumes is not None and len(volumes.daily):
        usual["data/rows_per_day"] = float(np.median(volumes.daily.sum(axis=1)))
    return usual
