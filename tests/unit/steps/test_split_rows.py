"""The sides of a training are the same rows whether vectors lie in memory or in a file, and there no copies."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from pcc_pipeline.data import vector_file
from pcc_pipeline.data.split_record import SplitRecord
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.data.vector_file import is_on_disk, written
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.inputs.split import Split
from pcc_pipeline.steps.training.split_rows import SplitRows

TRAIN, VALIDATION, TEST = np.array([9, 2, 4, 0]), np.array([7, 1, 5]), np.array([3, 6])
BOTH = np.array([9, 7, 1, 2, 4, 0, 5])  # row 8 is left out


def rows_and_split(count: int = 10) -> tuple[Rows, Split]:
    vectors = np.random.default_rng(0).normal(size=(count, 384)).astype(np.float32)
    labels = np.array(["a", "b"] * (count // 2), dtype=object)
    labels[7] = "of no training row"
    record = SplitRecord.of(RowKeys(np.arange(count).astype(np.uint64), None), {}, labels, refit=True)
    split = Split(TRAIN, VALIDATION, BOTH, TEST, record.keys.texts, record)
    return Rows([f"text {place}" for place in range(count)], vectors, labels), split


@pytest.mark.parametrize("on_disk", [False, True])
def test_each_side_has_its_own_rows_and_both_those_that_a_model_may_learn(on_disk: bool) -> None:
    rows, split = rows_and_split()
    given = replace(rows, vectors=written([rows.vectors], 384)) if on_disk else rows
    parts = SplitRows.of(given, split)
    for side, places in (
        (parts.train, TRAIN),
        (parts.validation, VALIDATION),
        (parts.both(), [9, 1, 2, 4, 0, 5]),
    ):
        found = [int(text.removeprefix("text ")) for text in side.texts]
        assert sorted(found) == sorted(places)
        np.testing.assert_array_equal(side.vectors, rows.vectors[found])
        assert side.labels.tolist() == rows.labels[found].tolist()
    assert parts.train.texts == [f"text {place}" for place in TRAIN], "its order is the split's"
    np.testing.assert_array_equal(parts.test_vectors, rows.vectors[TEST])
    assert np.shares_memory(parts.both().vectors, parts.train.vectors) == on_disk


def test_many_vectors_that_an_encoder_made_in_memory_are_laid_out_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_file, "LARGE_BYTES", 1)
    parts = SplitRows.of(*rows_and_split())
    assert is_on_disk(parts.train.vectors)
    assert np.shares_memory(parts.both().vectors, parts.validation.vectors)


def test_sides_of_a_file_take_no_memory_of_their_own() -> None:
    rows, split = rows_and_split(20_000)
    places = np.arange(20_000)
    train, validation, test = np.split(places, [14_000, 16_000])
    split = replace(split, train=train, validation=validation, both=places[:16_000], test=test)
    given = replace(rows, vectors=written([rows.vectors], 384))
    tracemalloc.start()
    try:
        parts = SplitRows.of(given, split)
        both = parts.both()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert both.vectors.nbytes > 20_000_000
    assert held < both.vectors.nbytes / 10
