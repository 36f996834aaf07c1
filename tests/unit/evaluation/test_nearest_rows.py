"""The nearest rows are those of the greatest cosine, whatever the lengths of the vectors."""

from __future__ import annotations

import numpy as np

from pcc_pipeline.evaluation.explanations.nearest_rows import nearest_rows


def test_the_nearest_come_first_and_equal_ones_in_order() -> None:
    vectors = np.array([[0, 9], [2, 2], [-1, 0], [5, 0], [0.1, 0], [0, 0]], dtype=np.float32)
    near = nearest_rows(np.array([3, 0], dtype=np.float32), vectors, list("abcdef"), list("xyxyxy"), 5)
    assert [(row.case_id, row.label) for row in near] == [("d", "y"), ("e", "x"), ("b", "y"), ("a", "x"), ("f", "y")]
    assert np.allclose([row.similarity for row in near], [1, 1, np.sqrt(0.5), 0, 0])
    assert nearest_rows(np.ones(2), np.zeros((0, 2)), [], [], 5) == ()
