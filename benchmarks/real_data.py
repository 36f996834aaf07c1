"""Public sets of real messages beside the checkout, for benchmarks: `../shared/data/<set>/train.parquet`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from pcc_pipeline.encoder.caches.on_disk import EmbeddingCache
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


# Set -> the column of its labels.
LABELS = {"banking77": "intent", "sage_privacy_reviews": "intent", "pcc_bitext": "pcc_intent"}


@dataclass(frozen=True)
class Messages:
    """`texts` (n), `vectors` (n, 384) float32 by the real encoder, `labels` (n,)."""

    texts: list[str]
    vectors: np.ndarray
    labels: np.ndarray


def messages(name: str, n_rows: int | None = None, cache: Path | None = None) -> Messages | None:
    """A set's training rows, embedded: all, or a stratified draw of `n_rows`. None where the set is not there.

    Args:
        cache: a folder that keeps the vectors for the next call.
    """
    path = FOLDER / name / "train.parquet"
    if not path.is_file():
        return None
    frame = pd.read_parquet(path)
    labels = frame[LABELS[name]].astype(object)
    if n_rows is not None and n_rows < len(frame):
        chosen, _ = train_test_split(np.arange(len(frame)), train_size=n_rows, stratify=labels, random_state=0)
        frame, labels = frame.iloc[np.sort(chosen)], labels.iloc[np.sort(chosen)]
    texts, encoder = [str(text) for text in frame["text"]], SentenceEncoder()
    if cache is None:
        return Messages(texts, embed(texts, encoder, None)[0], labels.to_numpy())
    with EmbeddingCache(cache, encoder.digest, SENTENCE_WIDTH) as kept:
        return Messages(texts, embed(texts, encoder, kept)[0], labels.to_numpy())


def which_sets(description: str | None, n_rows: int) -> argparse.ArgumentParser:
    """A parser of the options that `asked_for` goes by; `n_rows` is how many rows of a set are taken by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", choices=tuple(LABELS), help="default: all; repeatable")
    parser.add_argument("--rows", type=int, default=n_rows, help="at most; a stratified draw of larger sets")
    parser.add_argument("--cache", type=Path, help="a folder that keeps the vectors for the next call")
    return parser


def asked_for(options: argparse.Namespace) -> Iterator[tuple[str, Messages]]:
    """Each set that the options name, with its messages."""
    for name in options.set or LABELS:
        read = messages(name, options.rows, options.cache)
        if read is None:
            raise SystemExit(f"{name} is not there")
        yield name, read
