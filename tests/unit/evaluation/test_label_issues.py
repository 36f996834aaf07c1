"""Labels that look wrong: the rows that cleanlab names, the surest first."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.filter import find_label_issues as by_cleanlab

from pcc_pipeline.evaluation.label_issues import find_label_issues, wrong_labels


def drawn(rows: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, those with a tenth at random, and probabilities that lean towards the former."""
    random = np.random.default_rng(seed)
    true = random.integers(0, n_classes, rows)
    table = random.dirichlet(np.full(n_classes, 0.4), rows) + random.random((rows, 1)) * np.eye(n_classes)[true] * 2
    noisy = np.where(random.random(rows) < 0.1, random.integers(0, n_classes, rows), true)
    return true, noisy, (table / table.sum(axis=1, keepdims=True)).round(2 if seed % 2 else 12)


@pytest.mark.parametrize(("rows", "n_classes"), [(60, 2), (400, 4), (900, 30)])
def test_the_rows_are_those_of_cleanlab(rows: int, n_classes: int) -> None:
    for seed in range(6):
        _, y, table = drawn(rows, n_classes, seed)
        table = table / table.sum(axis=1, keepdims=True)
        expected = np.flatnonzero(by_cleanlab(y, table, filter_by="confident_learning", n_jobs=1))
        np.testing.assert_array_equal(wrong_labels(y, table), expected)
        assert len(expected)


def test_a_class_without_rows_is_never_a_confident_one() -> None:
    table = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
    np.testing.assert_array_equal(wrong_labels(np.array([0, 0, 1, 1]), table), [3])


def test_the_list_has_the_surest_first_and_names_rows_by_case_id() -> None:
    true, y, table = drawn(400, 4, 0)
    found = find_label_issues([f"case {row}" for row in range(400)], y, table, ["a", "b", "c", "d"])
    assert found.looked_at == 400
    assert found.table["score"].is_monotonic_decreasing
    assert found.table["score"].between(0, 1).all()
    rows = [int(case.split()[1]) for case in found.table["case_id"]]
    assert list(found.table["label"]) == ["abcd"[label] for label in y[rows]]
    assert list(found.table["suggested"]) == ["abcd"[label] for label in table[rows].argmax(axis=1)]
    assert (true[rows[:10]] != y[rows[:10]]).mean() > 0.5  # of all rows, 7.5 % are wrong
    assert found.to_json()[0] == {**found.table.iloc[0].to_dict()}
