"""Folds on a disk that is full: one message that says where and what to do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.errors import ModelError
from pcc_pipeline.files import own_temporary_files
from pcc_pipeline.model.fitting import Recipe, Rows
from pcc_pipeline.model.folds import prepare_fold


def test_folds_that_find_no_room_say_where_and_what_to_do(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = disk("size=256k")
    monkeypatch.setattr(tempfile, "tempdir", str(small))
    rows = Rows([""] * 400, np.zeros((400, 584), np.float32), np.arange(400) % 2)
    recipe = Recipe("LogisticRegression", "none", {}, seed=0)
    with own_temporary_files(), tempfile.TemporaryDirectory() as folder, pytest.raises(ModelError) as raised:
        prepare_fold(rows, np.arange(300), np.arange(300, 400), recipe, Path(folder) / "fold-0")
    said = str(raised.value)
    assert "the folds of the search cannot be written: " in said
    assert f"where: {small}\n" in said
    assert "TMPDIR" in said
