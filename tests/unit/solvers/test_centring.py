"""Rows around zero; that fits of rows far from it are as good as of any others is seen in test_logistic.py."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.data.vector_file import is_on_disk, written
from pcc_pipeline.solvers import centring
from pcc_pipeline.solvers.centring import centred


def rows_at(place: float) -> np.ndarray:
    return np.random.default_rng(0).normal(place, 1.0, size=(50, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centring, "BLOCK_ROWS", 7)


@pytest.mark.parametrize("place", [0.0, 300.0])
def test_rows_are_moved_by_their_mean(place: float) -> None:
    rows = rows_at(place)
    moved, centre = centred(rows)
    np.testing.assert_allclose(centre, rows.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(moved, (rows.astype(np.float64) - centre).astype(np.float32))
    assert np.abs(moved.mean(axis=0)).max() < 1e-4


def test_few_rows_of_a_file_are_moved_in_memory() -> None:
    # The folds of a search lie in files, and each is fitted many times.
    moved, _ = centred(written([rows_at(1.0)], 8))
    assert not is_on_disk(moved)
    np.testing.assert_array_equal(moved, centred(rows_at(1.0))[0])


@pytest.mark.parametrize(("place", "far"), [(0.0, False), (0.5, False), (2.0, True), (-300.0, True)])
def test_many_rows_of_a_file_are_moved_into_another_where_they_are_far(
    monkeypatch: pytest.MonkeyPatch, place: float, far: bool
) -> None:
    monkeypatch.setattr(centring, "LARGE_BYTES", 50 * 8 * 4)
    rows = rows_at(place)
    moved, centre = centred(written([rows], 8))
    assert is_on_disk(moved)
    np.testing.assert_array_equal(moved, rows - centre.astype(np.float32) if far else rows)
    assert centre.any() == far
    in_memory, its_centre = centred(rows)
    assert not is_on_disk(in_memory)
    np.testing.assert_array_equal(in_memory, moved)
    np.testing.assert_array_equal(its_centre, centre)


def test_a_wide_column_hides_no_other_that_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centring, "LARGE_BYTES", 50 * 8 * 4)
    rows = rows_at(0.0) * np.float32(3_000)
    rows[:, 3] = rows_at(300.0)[:, 3]
    _, centre = centred(written([rows], 8))
    assert centre[3] == pytest.approx(300, abs=1)
    rows[:, 3] = 0
    assert not centred(written([rows], 8))[1].any()
