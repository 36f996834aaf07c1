"""Reading a CSV file of texts: our reader beside pandas, which reads strings as we do, and beside pyarrow.

pyarrow is the measure of what can be had: it checks no quotes, and takes the whole file into memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow.csv

from benchmarks.comparison import Comparison
from pcc_pipeline.data.formats.readers import read_batches

Peer = Literal["pandas", "pyarrow"]
_WORDS = ["delete", "my", "account", "please", "stop", "the", "emails", "why", "order, now", "late", '"really"', "ünï"]


def comparisons() -> Iterator[Comparison]:
    """Short texts, and long ones, of which the most are quoted."""
    for n_rows, n_words, kind in ((200_000, 7, "short"), (20_000, 200, "long")):
        for peer in ("pandas", "pyarrow"):
            yield Comparison(f"CSV of {n_rows:,} {kind} texts, {peer}", partial(_pair, n_rows, n_words, peer))


def _pair(n_rows: int, n_words: int, peer: Peer) -> tuple[float, float, str]:
    random = np.random.default_rng(0)
    texts = [" ".join(words) for words in random.choice(_WORDS, (n_rows, n_words))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.csv"
        pd.DataFrame({"text": texts, "intent": "other", "case_id": np.arange(n_rows)}).to_csv(path, index=False)
        reader = _by_pandas if peer == "pandas" else _by_pyarrow
        ours, own = _least(lambda: sum(map(len, read_batches(path))))
        theirs, others = _least(lambda: reader(path))
        same = pd.concat(read_batches(path))["text"].tolist() == texts
    return ours, theirs, "equal" if same and own == others == n_rows else "NOT EQUAL"


def _by_pandas(path: Path) -> int:
    return len(pd.read_csv(path, dtype=str, keep_default_na=False))


def _by_pyarrow(path: Path) -> int:
    return len(pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)).to_pandas())


def _least(work: Callable[[], int]) -> tuple[float, int]:
    """The least seconds of three times: what else the machine does comes on top."""
    taken, result = [], 0
    for _ in range(3):
        begun = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - begun)
    return min(taken), result
