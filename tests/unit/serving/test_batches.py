"""The queue: what is answered together, what is turned away, and that no request costs another its answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pcc_pipeline.config.serving_settings import ServingParams
from pcc_pipeline.serving.batches import Batcher, FullError, LateError, Work
from pcc_pipeline.serving.metrics import Metrics


class Model:
    encoder_digest = "e"
    classes = ("a", "b")


class Version:
    """Answers a text with its length, and counts what it was asked; blocks while it is told to."""

    model = Model()
    name = "v1"

    def __init__(self) -> None:
        self.encoded: list[list[str]] = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    def sentence_vectors(self, texts: Sequence[str]) -> np.ndarray:
        self.goes_on.wait(20)
        self.encoded.append(list(texts))
        if any("poison" in text for text in texts):
            raise RuntimeError("poison was among the texts")
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    def answer(self, texts: Sequence[str], whole: Sequence[np.ndarray], made: Any = None) -> np.ndarray:
        vectors = self.sentence_vectors(texts) if made is None and texts else made
        rows = [[float(vectors[place, 0]), 0.0] for place in range(len(texts))]
        return np.array(rows + [[0.0, float(vector.sum())] for vector in whole]).reshape(-1, 2)


def settings(**options: Any) -> ServingParams:
    return ServingParams(**{"batch_wait_ms": 5, "batch_texts": 8, "queue_texts": 1000, **options})


def work(version: Any, texts: Sequence[str], whole: Sequence[np.ndarray] = (), deadline: float = 1e12) -> Work:
    return Work(version, texts, whole, None, deadline)


async def both_threads_busy(batcher: Batcher, version: Any) -> list[Any]:
    """Two works in the making, which wait until `version.goes_on`; what comes now waits for its turn."""
    version.goes_on.clear()
    busy = []
    for number in range(2):
        busy.append(asyncio.ensure_future(batcher.answer([work(version, [f"busy {number}"])])))
        await asyncio.sleep(0.1)
    return busy


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_requests_are_answered_together_each_text_once_and_each_by_its_own_rows() -> None:
    async def ask() -> None:
        version, batcher = Version(), Batcher(settings(), Metrics())
        busy = await both_threads_busy(batcher, version)
        texts = [["a"], ["bb", "a"], ["a", "a", "ccc"]]
        waiting = [asyncio.ensure_future(batcher.answer([work(version, each)])) for each in texts]
        await asyncio.sleep(0.05)
        version.goes_on.set()
        await asyncio.gather(*busy)
        for each, (answer,) in zip(texts, await asyncio.gather(*waiting), strict=True):
            assert answer[:, 0].tolist() == [len(text) for text in each]
        assert sorted(version.encoded[-1]) == ["a", "bb", "ccc"]
        assert batcher.pending == 0
        await batcher.close()

    run(ask())


def test_a_large_request_is_taken_in_parts_and_joined_in_order() -> None:
    async def ask() -> None:
        version, batcher = Version(), Batcher(settings(batch_texts=4), Metrics())
        texts = ["x" * n for n in range(1, 11)]
        vectors = [np.full(3, number) for number in range(7)]
        (answer,) = await batcher.answer([work(version, texts, vectors)])
        assert answer[:, 0].tolist() == [*range(1, 11), *[0] * 7]
        assert answer[10:, 1].tolist() == [3 * number for number in range(7)]
        assert all(len(each) <= 4 for each in version.encoded)
        await batcher.close()

    run(ask())


def test_what_finds_no_room_is_told_when_to_come_again_and_takes_none() -> None:
    async def ask() -> None:
        version, batcher = Version(), Batcher(settings(queue_texts=5, request_texts=5), Metrics())
        version.goes_on.clear()
        taken = asyncio.ensure_future(batcher.answer([work(version, ["a"] * 4)]))
        await asyncio.sleep(0.02)
        with pytest.raises(FullError) as full:
            await batcher.answer([work(version, ["a", "b"])])
        assert full.value.retry_after >= 1
        assert batcher.pending == 4
        version.goes_on.set()
        await taken
        assert batcher.pending == 0
        await batcher.answer([work(version, ["a", "b"])])
        await batcher.close()

    run(ask())


def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    async def ask() -> None:
        version, batcher = Version(), Batcher(settings(), Metrics())
        busy = await both_threads_busy(batcher, version)
        gone = asyncio.ensure_future(batcher.answer([work(version, ["gone"])]))
        late = asyncio.ensure_future(
            batcher.answer([work(version, ["late"], deadline=asyncio.get_running_loop().time() + 0.05)])
        )
        await asyncio.sleep(0.1)
        gone.cancel()
        version.goes_on.set()
        await asyncio.gather(*busy)
        with pytest.raises(LateError):
            await late
        assert not [texts for texts in version.encoded if "gone" in texts or "late" in texts]
        assert batcher.pending == 0
        await batcher.close()

    run(ask())


def test_a_request_that_fails_fails_alone() -> None:
    async def ask() -> None:
        version, batcher = Version(), Batcher(settings(), Metrics())
        busy = await both_threads_busy(batcher, version)
        others = [asyncio.ensure_future(batcher.answer([work(version, [text])])) for text in ("ok", "poison", "fine")]
        version.goes_on.set()
        results = await asyncio.gather(*others, return_exceptions=True)
        assert [isinstance(result, RuntimeError) for result in results] == [False, True, False]
        await asyncio.gather(*busy)
        assert batcher.pending == 0
        await batcher.close()

    run(ask())
