"""Embedding a list of texts: each different one once, in the order asked for, and nothing lost on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.encoder.caches.on_disk import EmbeddingCache
from pcc_pipeline.encoder.embed_texts import EmbeddingCounts, embed
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.encoder.unique_texts import unique_texts


class CountingEncoder:
    """An Encoder whose vectors are made from a text's digest; it keeps what it was asked for and may give up."""

    name = "counting"
    digest = "0" * 64

    def __init__(self, fails_at_batch: int | None = None) -> None:
        self.batches: list[list[str]] = []
        self._fails_at_batch = fails_at_batch

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.batches) == self._fails_at_batch:
            raise KeyboardInterrupt
        self.batches.append(list(texts))
        return np.vstack([vector_of(text) for text in texts])


def vector_of(text: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=SENTENCE_WIDTH)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def cache_in(folder: Path) -> EmbeddingCache:
    return EmbeddingCache(folder, CountingEncoder.digest, SENTENCE_WIDTH)


TEXTS = ["b", "a", "b", "a longer text", "", "a", "b"]


def test_each_different_text_is_encoded_once() -> None:
    encoder = CountingEncoder()
    vectors, counts = embed(TEXTS, encoder, None)
    asked = [text for batch in encoder.batches for text in batch]
    assert sorted(asked) == sorted(set(TEXTS))
    assert (counts.rows, counts.unique, counts.hits, counts.encoded) == (7, 4, 0, 4)
    assert (vectors.shape, vectors.dtype) == ((7, SENTENCE_WIDTH), np.float32)


def test_vectors_stand_in_the_order_of_the_texts(tmp_path: Path) -> None:
    """Whether they come from the encoder, from the cache or from both."""
    expected = np.vstack([vector_of(text) for text in TEXTS])
    np.testing.assert_array_equal(embed(TEXTS, CountingEncoder(), None)[0], expected)
    with cache_in(tmp_path) as cache:
        embed(TEXTS[:2], CountingEncoder(), cache)
        np.testing.assert_array_equal(embed(TEXTS, CountingEncoder(), cache)[0], expected)
        np.testing.assert_array_equal(embed(TEXTS, CountingEncoder(), cache)[0], expected)


def test_a_second_run_encodes_only_what_is_new(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        embed(TEXTS, CountingEncoder(), cache)
    encoder = CountingEncoder()
    with cache_in(tmp_path) as cache:
        _, counts = embed([*TEXTS, "new", "new"], encoder, cache)
    assert encoder.batches == [["new"]]
    assert (counts.rows, counts.unique, counts.hits) == (9, 5, 4)


def test_a_run_of_known_texts_leaves_the_encoder_alone(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        embed(TEXTS, CountingEncoder(), cache)
        encoder = CountingEncoder()
        _, counts = embed(TEXTS, encoder, cache)
    assert encoder.batches == []
    assert (counts.hits, counts.encoded, counts.seconds, counts.texts_per_second) == (4, 0, 0.0, 0.0)


def test_interrupted_work_is_kept(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(2500)]
    broken = CountingEncoder(fails_at_batch=2)
    with pytest.raises(KeyboardInterrupt), cache_in(tmp_path) as cache:
        embed(texts, broken, cache)
    done = sum(len(batch) for batch in broken.batches)
    assert 0 < done < len(texts)
    encoder = CountingEncoder()
    with cache_in(tmp_path) as cache:
        vectors, counts = embed(texts, encoder, cache)
    assert counts.hits == done
    assert sum(len(batch) for batch in encoder.batches) == len(texts) - done
    np.testing.assert_array_equal(vectors[::100], np.vstack([vector_of(text) for text in texts[::100]]))


def test_like_lengths_are_encoded_together_longest_first() -> None:
    encoder = CountingEncoder()
    embed(["x" * length for length in (3, 900, 1, 40, 899)], encoder, None)
    lengths = [len(text) for batch in encoder.batches for text in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_progress_sums_to_the_rows(tmp_path: Path) -> None:
    texts = [f"text {number % 2100}" for number in range(3000)]
    with cache_in(tmp_path) as cache:
        embed(texts[:100], CountingEncoder(), cache)
        told: list[int] = []
        embed(texts, CountingEncoder(), cache, told.append)
    assert sum(told) == 3000
    assert len(told) > 2
    told = []
    embed([], CountingEncoder(), None, told.append)
    assert sum(told) == 0


def test_no_texts_give_no_vectors(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    with cache_in(tmp_path) as cache:
        vectors, counts = embed([], encoder, cache)
    assert (vectors.shape, counts.rows, encoder.batches) == ((0, SENTENCE_WIDTH), 0, [])


def test_lone_surrogates_are_texts_of_their_own(tmp_path: Path) -> None:
    with cache_in(tmp_path) as cache:
        vectors, counts = embed(["\ud800", "\ud801", "\ud800"], CountingEncoder(), cache)
    assert counts.unique == 2
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_counts_add_up_over_files() -> None:
    total = EmbeddingCounts(10, 5, 1, 2.0) + EmbeddingCounts(3, 3, 3, 0.0)
    assert total == EmbeddingCounts(13, 8, 4, 2.0)
    assert total.texts_per_second == 2.0


def test_unique_texts_lead_back_to_the_rows() -> None:
    unique, positions = unique_texts(TEXTS)
    assert unique == ["b", "a", "a longer text", ""]
    assert [unique[position] for position in positions] == TEXTS
    assert unique_texts([])[1].shape == (0,)
