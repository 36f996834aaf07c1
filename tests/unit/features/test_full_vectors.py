"""584 numbers: both halves side by side, or what the data brought whole."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.errors import FeatureError
from pcc_pipeline.features.full_vectors import FULL_WIDTH, full_vectors, needs_lexical
from pcc_pipeline.features.lexical import fit_lexical, lexical_vectors

TEXTS = ["delete my account", "stop the mail", "send me my data"]


def halves(width: int = 384) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)


def test_the_sentence_half_stands_before_the_lexical_half() -> None:
    lexical = fit_lexical(TEXTS)
    whole = full_vectors(halves(), lexical, TEXTS)
    assert (whole.shape, whole.dtype) == ((3, FULL_WIDTH), np.float32)
    np.testing.assert_array_equal(whole[:, :384], halves())
    np.testing.assert_array_equal(whole[:, 384:], lexical_vectors(lexical, TEXTS))


def test_whole_vectors_are_used_as_they_are() -> None:
    given = halves(FULL_WIDTH)
    assert not needs_lexical(given)
    np.testing.assert_array_equal(full_vectors(given, None, []), halves(FULL_WIDTH))
    np.testing.assert_array_equal(full_vectors(given, fit_lexical(TEXTS), TEXTS), halves(FULL_WIDTH))


@pytest.mark.parametrize("width", [1, 200, 383, 385, 768])
def test_another_width_is_told(width: int) -> None:
    with pytest.raises(FeatureError, match=f"expected vectors of 384 or 584 numbers, got {width}"):
        full_vectors(halves(width), fit_lexical(TEXTS), TEXTS)


def test_halves_without_a_lexical_half_are_told() -> None:
    with pytest.raises(FeatureError, match=r"(?s)no lexical half, so it cannot complete vectors of 384.*584 numbers"):
        full_vectors(halves(), None, TEXTS)
