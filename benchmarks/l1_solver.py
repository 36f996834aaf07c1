"""The shipped classifier (l1, C 10) by our solver and by scikit-learn's liblinear, one-vs-rest beyond two labels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.comparison import Comparison
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.features.lexical import fit_lexical
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier, complete
from pcc_pipeline.solvers.logistic import fit_fast


def comparisons() -> Iterator[Comparison]:
    """Two and four labels of the sample set, embedded by the real encoder."""
    frame = sample(2400)
    texts = list(frame["text"])
    vectors = full_vectors(SentenceEncoder().encode(texts), fit_lexical(texts), texts)
    intents = frame["intent"].to_numpy(object)
    four = intents
    two = np.where(intents == "other", "other", "privacy").astype(object)
    for name, labels in (("2 labels", two), ("4 labels", four)):
        yield Comparison(f"l1 logistic regression, {len(texts):,} rows, {name}", partial(_pair, vectors, labels))


def _pair(vectors: np.ndarray, labels: np.ndarray) -> tuple[float, float, str]:
    values = complete("LogisticRegression", {"penalty": "l1", "solver": "liblinear"})
    task = Task(len(set(labels)), seed=0)
    with threadpool_limits(1, user_api="blas"):  # as every fit has it
        begun = time.perf_counter()
        ours = fit_fast(build_classifier("LogisticRegression", values, task), values, vectors, labels).classifier
        between = time.perf_counter()
    peer = build_classifier("LogisticRegression", values, task).fit(vectors, labels)
    ended = time.perf_counter()
    our_objective, peer_objective = (_objective(model, vectors, labels, values["C"]) for model in (ours, peer))
    return between - begun, ended - between, f"objective {our_objective / peer_objective - 1:+.1e} of liblinear's"


def _objective(model: object, vectors: np.ndarray, labels: np.ndarray, C: float) -> float:
    parts = getattr(model, "estimators_", [model])
    classes = np.unique(labels)
    positives = classes if len(parts) > 1 else classes[1:]
    total = 0.0
    for part, positive in zip(parts, positives, strict=True):
        weights, intercept = part.coef_[0], float(part.intercept_[0])
        margins = np.where(labels == positive, 1, -1) * (vectors.astype(np.float64) @ weights + intercept)
        total += float(np.abs(weights).sum()) + abs(intercept) + C * float(np.logaddexp(0, -margins).sum())
    return total
