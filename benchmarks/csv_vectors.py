"""Reading a CSV file with 584 numbers a row: our reader and parser, and pandas with json.loads for each row."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.comparison import Comparison, Size
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.data.vector_column import parse_vectors

_ROWS, _WIDTH = 10_000, 584


def comparisons() -> Iterator[Comparison]:
    """10,000 rows, and a quarter and a sixteenth of them."""
    parts: tuple[tuple[int, Size, float | None], ...] = ((625, "1x", None), (2_500, "4x", None), (_ROWS, "16x", 3))
    for rows, size, goal in parts:
        yield Comparison(f"CSV with vectors, up to {_ROWS:,} x {_WIDTH}", partial(_pair, rows), goal, size=size)


def _pair(n_rows: int) -> tuple[float, float, str]:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(n_rows, _WIDTH)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.csv"
        texts = [json.dumps(row) for row in vectors.astype(float).round(6).tolist()]
        pd.DataFrame({"text": [f"message {number}" for number in range(n_rows)], "embeddings": texts}).to_csv(path)
        begun = time.perf_counter()
        ours = np.concatenate([parse_vectors(batch["embeddings"]).values for batch in read_batches(path)])
        between = time.perf_counter()
        peer = np.array([json.loads(text) for text in pd.read_csv(path)["embeddings"]], dtype=np.float32)
        ended = time.perf_counter()
    return between - begun, ended - between, "equal" if np.array_equal(ours, peer) else "NOT EQUAL"
