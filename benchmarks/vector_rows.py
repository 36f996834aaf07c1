"""Files of rows that bring vectors of 584 numbers, of any size: few rows are in memory at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pcc_pipeline.data.sample.messages import sample

WIDTH, DAYS = 584, 30
_AT_A_TIME = 20_000


def write_rows(path: Path, rows: int, seed: int, *, last: datetime | None = None, apart: float = 1.0) -> None:
    """A Parquet file of rows whose texts all differ and whose vectors tell the labels apart.

    last: the time of the last row, today where None; the first is a month before it.
    apart: how far the labels' centres lie from each other; at 1 no row is between two labels, at 0.1 many are.
    """
    draws = np.random.default_rng(seed)
    first = sample(2_000)
    labels, places = np.unique(first["intent"], return_inverse=True)
    centers = apart * np.random.default_rng(9).normal(size=(len(labels), WIDTH))
    last = datetime.now(UTC) if last is None else last
    schema = pa.schema(
        {
            "case_id": pa.string(),
            "text": pa.string(),
            "intent": pa.string(),
            "timestamp": pa.timestamp("us", "UTC"),
            "embeddings": pa.list_(pa.float32()),
        }
    )
    with pq.ParquetWriter(path, schema) as file:
        for start in range(0, rows, _AT_A_TIME):
            count = min(_AT_A_TIME, rows - start)
            some = draws.integers(0, len(first), count)
            vectors = (centers[places[some]] + 3 * draws.normal(size=(count, WIDTH))).astype(np.float32)
            times = [last - timedelta(days=DAYS * (1 - (start + place) / rows)) for place in range(count)]
            columns = {
                "case_id": [f"case-{seed}-{start + place}" for place in range(count)],
                "text": [f"{first['text'][row]} ({seed}, {start + place})" for place, row in enumerate(some)],
                "intent": first["intent"].to_numpy(dtype=object)[some].tolist(),
                "timestamp": times,
            }
            ends = np.arange(0, (count + 1) * WIDTH, WIDTH, dtype=np.int32)
            arrays = [pa.array(columns[name], schema.field(name).type) for name in columns]
            arrays.append(pa.ListArray.from_arrays(pa.array(ends), pa.array(vectors.ravel())))
            file.write_table(pa.Table.from_arrays(arrays, schema=schema))
