"""Embedding texts: our encoder, and `SentenceTransformer(...).encode(texts)` with its defaults, both loaded before.

All texts different and no cache; each text six times; and again with 1 % of the texts new, the rest in the cache.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.comparison import Comparison, Size
from benchmarks.real_data import FOLDER
from pcc_pipeline.encoder.caches.on_disk import EmbeddingCache
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.probe import lowest_cosine
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH

_TEXTS, _TIMES, _NEW_SHARE = 1_500, 6, 0.01


def comparisons() -> Iterator[Comparison]:
    """Real messages; a set that is not there is left out, with a line that says so."""
    bank, support = FOLDER / "banking77" / "train.parquet", FOLDER / "pcc_bitext" / "train.parquet"
    if bank.is_file():
        texts = list(pd.read_parquet(bank)["text"].unique())
        parts: tuple[tuple[int, Size, float | None], ...]
        parts = ((625, "1x", None), (2_500, "4x", None), (len(texts), "16x", 4))
        for part, size, goal in parts:
            title = f"embedding different texts, no cache, up to {len(texts):,}"
            yield Comparison(title, partial(_first_time, texts[:part]), goal, size=size)
        yield Comparison(f"embedding {len(texts):,} texts again, 1 % new", partial(_again, texts), 50, most_runs=1)
    else:
        print(f"left out: embedding of different texts, since there is no {bank}")
    if support.is_file():
        different = pd.read_parquet(support)["text"].drop_duplicates().sample(_TEXTS, random_state=0)
        rows = list(pd.concat([different] * _TIMES).sample(frac=1, random_state=0))
        yield Comparison(f"embedding {len(rows):,} rows, each text six times", partial(_first_time, rows), 18)
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
    begun = time.perf_counter()
    ours, _ = embed(texts, encoder, None)
    seconds = time.perf_counter() - begun
    peer_seconds, theirs = _encoded_by_peer(texts)
    return seconds, peer_seconds, _check(ours, theirs)


def _again(texts: list[str]) -> tuple[float, float, str]:
    encoder = _ours()
    known = texts[: -round(len(texts) * _NEW_SHARE)]
    with tempfile.TemporaryDirectory() as folder:
        with EmbeddingCache(Path(folder), encoder.space, SENTENCE_WIDTH) as kept:
            embed(known, encoder, kept)
        begun = time.perf_counter()
        with EmbeddingCache(Path(folder), encoder.space, SENTENCE_WIDTH) as kept:
            ours, _ = embed(texts, encoder, kept)
        seconds = time.perf_counter() - begun
    peer_seconds, theirs = _encoded_by_peer(texts)
    return seconds, peer_seconds, _check(ours, theirs)


def _encoded_by_peer(texts: list[str]) -> tuple[float, np.ndarray]:
    peer = _peer()
    begun = time.perf_counter()
    vectors = peer.encode(texts)
    return time.perf_counter() - begun, np.asarray(vectors)


def _check(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{_ours().backend}, cosine at least {lowest_cosine(ours, theirs):.5f}"
