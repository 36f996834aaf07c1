"""The lexical half of the vector: hashed TF-IDF reduced by truncated SVD to 200 numbers, fitted on training rows.

Terms are hashed, not listed: a fitted model then carries no vocabulary, and so none of a customer's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import eigh
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from pcc_pipeline.encoder.unique_texts import unique_texts
from pcc_pipeline.errors import FeatureError

LEXICAL_WIDTH = 200
# Up to so many rows the SVD is exact.
_FEW_ROWS = 1_000
# What a sketch in single precision tells apart, as a share of the greatest singular value.
_ROUNDING = 100 * np.finfo(np.float32).eps


def fit_lexical(texts: Sequence[str], **options: Any) -> Pipeline:
    """The lexical half fitted on `texts`; options as those of `fit_transform_lexical`."""
    return fit_transform_lexical(texts, **options)[0]


def hashed_terms(texts: Sequence[str], **options: Any) -> Any:
    """How often each text has each term: sparse (n, n_features), float32. What is fitted has no part in it.

    Options as those of `fit_transform_lexical`.
    """
    unique, places = unique_texts(texts)
    return _hashing(**options).transform(unique).astype(np.float32)[places]


def _hashing(
    analyzer: str = "char_wb", ngram_range: tuple[int, int] = (3, 5), n_features: int = 65536, **_: Any
) -> HashingVectorizer:
    return HashingVectorizer(
        analyzer=analyzer, ngram_range=ngram_range, n_features=n_features, norm=None, alternate_sign=False
    )


def fit_transform_lexical(
    texts: Sequence[str],
    *,
    sublinear_tf: bool = True,
    components: int = LEXICAL_WIDTH,
    seed: int = 0,
    terms: Any = None,
    **hashing: Any,
) -> tuple[Pipeline, np.ndarray]:
    """Fit the lexical half on `texts`: a plain scikit-learn pipeline whose `transform` gives (n, 200).

    Also the vectors of `texts` themselves, float32 (n, 200), as `lexical_vectors` would give them: the terms of a text
    are hashed once for both.

    Where the corpus has fewer than `components` dimensions, or fewer than 200 are asked for, the last columns are
    zero, so that the width is always 200.

    Args:
        terms: what `hashed_terms` makes of the texts, where it is known.
        hashing: `analyzer` ("char_wb" where it is not given), `ngram_range` ((3, 5)) and `n_features` (65536) of a
            HashingVectorizer.

    Raises:
        FeatureError: the texts share no term at all, so nothing can be learned from them.
    """
    tfidf = TfidfTransformer(sublinear_tf=sublinear_tf)
    # Hash buckets that no training text fills would only widen the SVD.
    used = VarianceThreshold()
    if terms is None:
        terms = hashed_terms(texts, **hashing)
    try:
        weights = used.fit_transform(tfidf.fit_transform(terms.astype(np.float64)))
    except ValueError as error:
        raise FeatureError(
            "the training texts are all alike, so no lexical feature tells them apart",
            fix="check that data.path holds the right column of different texts",
        ) from error
    rank = min(components, weights.shape[1], weights.shape[0])
    # Thin products and factorisations: BLAS threads wait for one another longer than they work, here by 1.5 to 4 times.
    with threadpool_limits(1, user_api="blas"):
        svd = _truncated_svd(weights, rank, seed)
    # Zero rows make the transform's last columns zero without a class of our own in the saved pipeline.
    padding = np.zeros((LEXICAL_WIDTH - rank, weights.shape[1]), dtype=np.float32)
    svd.components_ = np.vstack([svd.components_.astype(np.float32), padding])
    fitted = Pipeline([("hashing", _hashing(**hashing)), ("tfidf", tfidf), ("used", used), ("svd", svd)])
    return fitted, np.asarray(svd.transform(weights), dtype=np.float32)


def _truncated_svd(weights: Any, rank: int, seed: int) -> TruncatedSVD:
    """Fitted on sparse `weights` (n, terms): exactly on few rows, which takes less time there than a sketch.

    The right singular vectors follow from the eigenvectors of the rows' products with one another (Golub and Van Loan,
    "Matrix Computations", 2013, section 8.6).
    """
    svd = TruncatedSVD(n_components=rank, random_state=seed)
    if weights.shape[0] > _FEW_ROWS:
        svd.fit(weights.astype(np.float32))
        # As below: rows of few different texts have fewer dimensions, and a direction of rounding is one of no text.
        svd.components_[svd.singular_values_ <= _ROUNDING * svd.singular_values_[0]] = 0
        return svd
    n_rows = weights.shape[0]
    squares, left = eigh((weights @ weights.T).toarray(), subset_by_index=[n_rows - rank, n_rows - 1])
    squares, left = squares[::-1], left[:, ::-1]
    # Rows that repeat one another have fewer dimensions than there are of them; the others hold rounding and no text.
    there = squares > n_rows * np.finfo(np.float64).eps * squares[0]
    sizes = np.sqrt(np.where(there, squares, 0))
    right = weights.T @ (left * np.where(there, 1 / np.where(there, sizes, 1), 0))
    # A vector's greatest number is positive, as TruncatedSVD has it.
    signs = np.where(right.max(axis=0) >= -right.min(axis=0), 1, -1)
    left, svd.components_ = left * signs, (right * signs).T
    svd.singular_values_, svd.n_features_in_ = sizes, weights.shape[1]
    svd.explained_variance_ = (left * sizes).var(axis=0)
    of_all = (weights.power(2).mean(axis=0) - np.square(weights.mean(axis=0))).sum()
    svd.explained_variance_ratio_ = svd.explained_variance_ / of_all
    return svd


def lexical_vectors(lexical: Any, texts: Sequence[str], terms: Any = None) -> np.ndarray:
    """The lexical half of `texts`: float32, (len(texts), 200); each different text is transformed once.

    `terms`: what `hashed_terms` makes of them, where it is known.
    """
    unique, places = unique_texts(texts)
    if not unique:
        return np.zeros((0, LEXICAL_WIDTH), dtype=np.float32)
    *steps, (_, svd) = lexical.steps
    weights: Any = unique
    if terms is not None:
        weights, places, steps = terms.astype(np.float64), np.arange(len(texts)), steps[1:]
    for _, step in steps:
        weights = step.transform(weights)
    # As TruncatedSVD's own transform, which lays its components out anew for each call: 20 ms for a text alone.
    return np.take(np.asarray(weights @ _projection(svd), dtype=np.float32), places, axis=0)


@lru_cache(maxsize=2)
def _projection(svd: TruncatedSVD) -> np.ndarray:
    """A fitted SVD's components as a sparse product reads them: float64 (terms, 200), row by row."""
    return np.ascontiguousarray(svd.components_.T, dtype=np.float64)


def unknown_shares(lexical: Any, texts: Sequence[str]) -> np.ndarray:
    """Of each text's terms, the share whose hash no text has that `lexical` was fitted on: float64, (len(texts),).

    A text without any term has share 0.
    """
    unique, places = unique_texts(texts)
    if not unique:
        return np.zeros(0)
    hashing, used = lexical.named_steps["hashing"], lexical.named_steps["used"]
    terms = hashing.transform(unique)
    total = np.asarray(terms.sum(axis=1)).ravel()
    known = np.asarray(terms @ used.get_support().astype(np.float64)).ravel()
    shares: np.ndarray = np.divide(total - known, total, out=np.zeros_like(total), where=total > 0)[places]
    return shares
