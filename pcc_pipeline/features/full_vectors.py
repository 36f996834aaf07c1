"""The 584-vector: the sentence half beside the lexical half, or the vector that the data brings whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import FeatureError
from pcc_pipeline.features.lexical import LEXICAL_WIDTH, lexical_vectors

FULL_WIDTH = SENTENCE_WIDTH + LEXICAL_WIDTH


def needs_lexical(vectors: np.ndarray) -> bool:
    """Whether the lexical half is still to be added to `vectors` (n, 384 or 584).

    Raises:
        FeatureError: the width is neither.
    """
    if vectors.shape[1] not in (SENTENCE_WIDTH, FULL_WIDTH):
        raise FeatureError(
            f"expected vectors of {SENTENCE_WIDTH} or {FULL_WIDTH} numbers, got {vectors.shape[1]}",
            fix="check the embeddings column of the data",
        )
    return bool(vectors.shape[1] == SENTENCE_WIDTH)


def full_vectors(vectors: np.ndarray, lexical: Any | None, texts: Sequence[str], terms: Any = None) -> np.ndarray:
    """Vectors of width 584, float32.

    Args:
        vectors: (n, 384) sentence halves, or (n, 584), which is used as it is.
        lexical: the fitted lexical half; unused for whole vectors.
        texts: the n texts; unused for whole vectors.
        terms: what `hashed_terms` makes of the texts, where it is known.

    Raises:
        FeatureError: the width is neither 384 nor 584, or halves come without a lexical half to complete them.
    """
    if not needs_lexical(vectors):
        return vectors
    if lexical is None:
        raise FeatureError(
            f"this model was trained on whole vectors of {FULL_WIDTH} numbers and has no lexical half, "
            f"so it cannot complete vectors of {SENTENCE_WIDTH}",
            fix=f"give rows with an embeddings column of {FULL_WIDTH} numbers",
        )
    return np.hstack([vectors, lexical_vectors(lexical, texts, terms)])
