"""Embedding texts: our encoder, and `SentenceTransformer(...).encode(texts)` with its defaults, both loaded before.

All texts different and no cache; each text six times; and again with 1 % of the texts new, the rest in the cache.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.real_data import FOLDER
from pcc_pipeline.features.cache import EmbeddingCache
from pcc_pipeline.features.embedding import embed
from pcc_pipeline.features.encoder import SENTENCE_WIDTH, SentenceEncoder
from pcc_pipeline.features.probe import lowest_cosine

Pair = Callable[[], tuple[float, float, str]]
_TEXTS, _TIMES, _NEW_SHARE = 1_500, 6, 0.01


def pairs() -> Iterator[tuple[str, Pair]]:
    """Real messages; a set that is not there is left out, with a line that says so."""
    bank, support = FOLDER / "banking77" / "train.parquet", FOLDER / "pcc_bitext" / "train.parquet"
    if bank.is_file():
        texts = list(pd.read_parquet(bank)["text"].unique())
        yield f"embedding {len(texts):,} different texts, no cache", lambda: _first_time(texts)
        yield f"embedding {len(texts):,} texts again, 1 % new", lambda: _again(texts)
    else:
        print(f"left out: embedding of different texts, since there is no {bank}")
    if support.is_file():
        different = pd.read_parquet(support)["text"].drop_duplicates().sample(_TEXTS, random_state=0)
        rows = list(pd.concat([different] * _TIMES).sample(frac=1, random_state=0))
        yield f"embedding {len(rows):,} rows, each text six times", lambda: _first_time(rows)
    else:
        print(f"left out: embedding of repeated texts, since there is no {support}")


@cache
def _ours() -> SentenceEncoder:
    encoder = SentenceEncoder(backend="auto")
    encoder.encode(["a text to load by"])
    return encoder


@cache
def _peer() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(_ours().folder))


def _first_time(texts: list[str]) -> tuple[float, float, str]:
    encoder = _ours()
    peer = _peer()
    begun = time.perf_counter()
    ours, _ = embed(texts, encoder, None)
    between = time.perf_counter()
    theirs = peer.encode(texts)
    return between - begun, time.perf_counter() - between, _check(ours, theirs)


def _again(texts: list[str]) -> tuple[float, float, str]:
    encoder, peer = _ours(), _peer()
    known = texts[: -round(len(texts) * _NEW_SHARE)]
    with tempfile.TemporaryDirectory() as folder:
        with EmbeddingCache(Path(folder), encoder.space, SENTENCE_WIDTH) as kept:
            embed(known, encoder, kept)
        begun = time.perf_counter()
        with EmbeddingCache(Path(folder), encoder.space, SENTENCE_WIDTH) as kept:
            ours, _ = embed(texts, encoder, kept)
        between = time.perf_counter()
    began = time.perf_counter()
    theirs = peer.encode(texts)
    return between - begun, time.perf_counter() - began, _check(ours, theirs)


def _check(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{_ours().backend}, cosine at least {lowest_cosine(ours, theirs):.5f}"
