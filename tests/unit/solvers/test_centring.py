"""Rows around zero; that fits of rows far from it are as good as of any others is seen in test_logistic.py."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.data.vector_file import is_on_disk, written
from pcc_pipeline.solvers import centring
from pcc_pipeline.solvers.centring import centred


def test_rows_in_memory_and_in_a_file_are_moved_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centring, "BLOCK_ROWS", 7)
    rows = np.random.default_rng(0).normal(300, 1.0, size=(50, 8)).astype(np.float32)
    (in_memory, centre), (in_file, same) = centred(rows), centred(written([rows], 8))
    assert not is_on_disk(in_memory)
    assert is_on_disk(in_file)
    np.testing.assert_array_equal(centre, same)
    np.testing.assert_allclose(centre, rows.astype(np.float64).mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(in_memory, in_file)
    np.testing.assert_array_equal(in_memory, (rows.astype(np.float64) - centre).astype(np.float32))
    assert np.abs(in_memory.mean(axis=0)).max() < 1e-4
