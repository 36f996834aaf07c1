"""Many vectors go to a file while they are read, come back as they went in, and are never held twice."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data import vector_file
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import load
from pcc_pipeline.data.vector_file import GrowingVectors, in_order, is_on_disk, taken, written
from pcc_pipeline.errors import StorageError

WIDTH = 384


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def grown(batches: list[np.ndarray]) -> np.ndarray:
    growing = GrowingVectors()
    for batch in batches:
        growing.add(batch)
    whole = growing.whole()
    assert whole is not None
    return whole


@pytest.mark.parametrize(("limit", "on_disk"), [(10**9, False), (1, True), (3 * WIDTH * 4, True)])
def test_what_is_read_is_what_was_added_in_memory_or_on_disk(
    monkeypatch: pytest.MonkeyPatch, limit: int, on_disk: bool
) -> None:
    monkeypatch.setattr(vector_file, "LARGE_BYTES", limit)
    batches = [rows(2, 1), rows(3, 2), rows(1, 3)]
    whole = grown(batches)
    assert is_on_disk(whole) == on_disk
    assert is_on_disk(whole[1:4]) == on_disk
    assert type(whole) is np.ndarray
    np.testing.assert_array_equal(whole, np.concatenate(batches))


def test_without_rows_there_are_no_vectors() -> None:
    assert GrowingVectors().whole() is None
    assert written(iter([]), WIDTH).shape == (0, WIDTH)


def test_of_many_rows_of_a_file_another_file_is_made_and_few_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made = written([rows(50)], WIDTH)
    places = np.array([7, 3, 3, 49])
    monkeypatch.setattr(vector_file, "LARGE_BYTES", 4 * WIDTH * 4)
    assert not is_on_disk(taken(made, places[:3]))
    assert not is_on_disk(taken(np.array(made), places))
    for some in (taken(made, places), in_order(made, places)):
        assert is_on_disk(some)
        np.testing.assert_array_equal(some, made[places])


def test_the_file_has_no_name_and_its_rows_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = written([rows(5)], WIDTH)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 1


def test_growing_and_ordering_hold_a_few_blocks_in_memory_and_not_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced memory is what is allocated: pages of a mapped file are not among it."""
    monkeypatch.setattr(vector_file, "LARGE_BYTES", 2**20)
    monkeypatch.setattr(vector_file, "_BLOCK_BYTES", 2**20)
    batch = rows(500)
    tracemalloc.start()
    try:
        whole = grown([batch] * 40)
        ordered = in_order(whole, np.arange(len(whole))[::-1])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert whole.nbytes > 30_000_000
    np.testing.assert_array_equal(ordered[0], batch[-1])
    assert peak < whole.nbytes / 4


def test_a_full_disk_is_told_with_the_folder_and_what_to_do(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk("size=256k")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(vector_file, "LARGE_BYTES", 1)
    growing = GrowingVectors()
    with pytest.raises(StorageError, match=r"(?s)cannot write temporary files: No space left.*TMPDIR") as raised:
        growing.add(rows(500))
    assert raised.value.where == str(folder)


def test_a_bad_vector_in_the_middle_of_a_large_file_is_one_rejected_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_file, "LARGE_BYTES", 20 * WIDTH * 4)
    vectors = rows(60)
    spoilt = vectors.copy()
    spoilt[33, 5] = np.nan

    def batches() -> Iterator[pd.DataFrame]:
        for start in range(0, 60, 8):
            part = range(start, min(start + 8, 60))
            columns = {"text": [f"text {place}" for place in part], "intent": ["a", "b"] * (len(part) // 2)}
            yield pd.DataFrame({**columns, "embeddings": list(spoilt[part])}, index=list(part))

    read = load(batches(), Contract(label_column="intent"), "here", 0.1)
    assert read.vectors is not None
    assert is_on_disk(read.vectors)
    np.testing.assert_array_equal(read.vectors, np.delete(vectors, 33, axis=0))
    assert read.rejected[["row", "reason"]].to_numpy().tolist() == [[33, "holds a number that is not finite"]]
