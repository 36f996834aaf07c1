"""Texts that are encoded for a training take the room of their vectors once, however many there are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.config import load_params
from pcc_pipeline.data.vector_file import is_on_disk
from pcc_pipeline.steps.inputs.datasets import encoded, load_dataset

ROWS = 60_000


class CheapEncoder:
    """Gives a text the vector of its number."""

    digest = space = "cheap"

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.repeat(np.array([int(text.split()[1]) for text in texts], dtype=np.float32)[:, None], 384, axis=1)

    def release(self) -> None:
        return


@pytest.mark.long
def test_many_vectors_go_into_a_file_as_they_come(tmp_path: Path) -> None:
    texts = [f"message {number}" for number in range(ROWS)]
    pd.DataFrame({"text": texts, "intent": ["a", "b"] * (ROWS // 2)}).to_parquet(tmp_path / "rows.parquet")
    params = load_params(None, {"data.path": str(tmp_path / "rows.parquet"), "preprocessing.cache_dir": str(tmp_path)})
    dataset = load_dataset(params.data.path, params)
    for _ in range(2):  # encoded, and from the cache
        tracemalloc.start()
        vectors = encoded(dataset, params, CheapEncoder(), "encoding").vectors
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert vectors is not None
        assert is_on_disk(vectors)
        np.testing.assert_array_equal(vectors[:, [0, 383]], np.arange(ROWS)[:, None].repeat(2, axis=1))
        assert peak < 1.5 * vectors.nbytes
