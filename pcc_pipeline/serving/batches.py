"""What requests ask for, answered together: one encoding for all texts that wait, and no more of them than fit.

The event loop takes work in and hands answers out; two threads compute, and most of that needs no Python.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pcc_pipeline.config.serving_settings import ServingParams
from pcc_pipeline.encoder.unique_texts import unique_texts
from pcc_pipeline.serving.metrics import Metrics
from pcc_pipeline.serving.version import ServedVersion

# Batches in the making: what one leaves idle at its end, the other fills.
_AT_ONCE = 2
# How much the newest batch counts in the rate of answers.
_NEWEST = 0.1
_LONGEST_RETRY = 60

logger = logging.getLogger(__name__)


class FullError(Exception):
    """There is no room for so many texts now.

    Attributes:
        retry_after: seconds until there may be.
    """

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__("the queue is full")


class LateError(Exception):
    """The time that a request may take was over before its turn came."""


@dataclass(eq=False)
class Work:
    """Rows of one request for one version.

    Attributes:
        whole: vectors of 584 numbers, each (584,), which come after the texts in the answer.
        shadow: who answers beside, unused.
        deadline: by the event loop's clock.
        answer: probabilities float64 (texts + whole, K).
    """

    version: ServedVersion
    texts: Sequence[str]
    whole: Sequence[np.ndarray]
    shadow: ServedVersion | None
    deadline: float
    answer: asyncio.Future[np.ndarray] = field(init=False)

    @property
    def rows(self) -> int:
        return len(self.texts) + len(self.whole)


class Batcher:
    """The queue, and who works it off. To be used within one event loop.

    Args:
        settings: how many texts a batch, the queue, and how long one waits for others.
    """

    def __init__(self, settings: ServingParams, metrics: Metrics) -> None:
        self._size = settings.batch_texts
        self._wait = settings.batch_wait_ms / 1000
        self._room = settings.queue_texts
        self._metrics = metrics
        self._queue: deque[Work] = deque()
        self._queued = 0
        self._pending = 0
        self._rate = 0.0
        self._alone = True
        self._arrived = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pcc-batch")
        self._worker = asyncio.get_running_loop().create_task(self._work_off())

    @property
    def pending(self) -> int:
        """Texts and vectors that wait or are at work."""
        return self._pending

    async def answer(self, works: Sequence[Work]) -> list[np.ndarray]:
        """The answers to these works, all or none.

        Raises:
            FullError: there is no room for them now.
            LateError: their time was over before their turn came.
        """
        rows = sum(work.rows for work in works)
        if self._pending + rows > self._room:
            raise FullError(self._retry_after())
        parts = [self._parts(work) for work in works]
        loop = asyncio.get_running_loop()
        self._pending += rows
        self._metrics.queued(self._pending)
        for part in (part for each in parts for part in each):
            part.answer = loop.create_future()
            part.answer.add_done_callback(partial(self._done, part.rows))
            self._queue.append(part)
            self._queued += part.rows
        self._arrived.set()
        futures = [part.answer for each in parts for part in each]
        try:
            await (futures[0] if len(futures) == 1 else asyncio.gather(*futures))
        finally:
            # Of a caller who is gone, or of a work whose other part failed: nobody waits for the rest.
            for future in futures:
                future.cancel()
        return [_joined(each) for each in parts]

    async def close(self) -> None:
        """End the work."""
        self._worker.cancel()
        with suppress(asyncio.CancelledError):
            await self._worker
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _parts(self, work: Work) -> list[Work]:
        """Work of at most a batch's size, so that a large request lets small ones in between."""
        if work.rows <= self._size:
            return [work]
        starts = range(0, work.rows, self._size)
        ends = len(work.texts)
        return [
            Work(
                work.version,
                work.texts[start : min(start + self._size, ends)],
                work.whole[max(start - ends, 0) : max(start + self._size - ends, 0)],
                work.shadow,
                work.deadline,
            )
            for start in starts
        ]

    def _done(self, rows: int, _: asyncio.Future[np.ndarray]) -> None:
        self._pending -= rows
        self._metrics.queued(self._pending)

    def _retry_after(self) -> int:
        return min(max(math.ceil(self._pending / self._rate), 1), _LONGEST_RETRY) if self._rate else 1

    async def _work_off(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            await self._arrived.wait()
            # Who asks alone, one time after another, would only wait.
            if self._wait and self._queued < self._size and (len(self._queue) > 1 or not self._alone):
                await asyncio.sleep(self._wait)
            batch = self._take(loop.time())
            if not self._queue:
                self._arrived.clear()
            if not batch:
                self._slots.release()
                continue
            self._alone = len(batch) == 1
            computed = loop.run_in_executor(self._threads, self._compute, loop, batch)
            computed.add_done_callback(lambda _: self._slots.release())

    def _take(self, now: float) -> list[Work]:
        batch: list[Work] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= self._size):
            work = self._queue.popleft()
            self._queued -= work.rows
            if work.answer.done():
                continue
            if work.deadline <= now:
                work.answer.set_exception(LateError())
                continue
            batch.append(work)
            rows += work.rows
        return batch

    def _compute(self, loop: asyncio.AbstractEventLoop, batch: list[Work]) -> None:
        """Answer a batch, in a thread; then let the shadows answer, for whom nobody waits."""
        began = time.perf_counter()
        vectors: dict[str, _Encoded] = {}
        answers: list[np.ndarray | Exception] = []
        try:
            answers += _answers(batch, vectors)
        except Exception as error:  # one request must not fail another's
            logger.warning("a batch of %d requests failed (%s): each is answered alone", len(batch), _kind(error))
            answers = [_alone(work) for work in batch]
        seconds, rows = time.perf_counter() - began, sum(work.rows for work in batch)
        loop.call_soon_threadsafe(self._hand_out, batch, answers, rows, seconds)
        self._shadows(batch, answers, vectors)

    def _hand_out(self, batch: list[Work], answers: list[np.ndarray | Exception], rows: int, seconds: float) -> None:
        self._rate += _NEWEST * (rows / max(seconds, 1e-6) - self._rate) if self._rate else rows / max(seconds, 1e-6)
        self._metrics.batch(rows, seconds)
        for work, answer in zip(batch, answers, strict=True):
            if work.answer.done():
                continue
            if isinstance(answer, Exception):
                work.answer.set_exception(answer)
            else:
                work.answer.set_result(answer)

    def _shadows(self, batch: list[Work], answers: list[np.ndarray | Exception], vectors: dict[str, _Encoded]) -> None:
        for work, answer in zip(batch, answers, strict=True):
            shadow = work.shadow
            if shadow is None or isinstance(answer, Exception):
                continue
            try:
                beside = shadow.answer(work.texts, work.whole, _vectors_of(shadow, work.texts, vectors))
            except Exception as error:  # nobody's answer hangs on it
                logger.warning("the shadow %s failed on %d rows (%s)", shadow.name, work.rows, _kind(error))
                self._metrics.shadow_failed(work.rows)
                continue
            self._metrics.shadow(work.version, answer, shadow, beside)


@dataclass(frozen=True)
class _Encoded:
    """Sentence vectors by text."""

    places: dict[str, int]
    table: np.ndarray


def _answers(batch: Sequence[Work], vectors: dict[str, _Encoded]) -> list[np.ndarray]:
    """Each work's probabilities; fills `vectors`, the sentence vectors of all texts by their encoder's digest."""
    by_version: dict[int, list[Work]] = {}
    by_encoder: dict[str, list[Work]] = {}
    for work in batch:
        by_version.setdefault(id(work.version), []).append(work)
        if work.texts:
            by_encoder.setdefault(work.version.model.encoder_digest, []).append(work)
    for digest, works in by_encoder.items():
        texts, _ = unique_texts([text for work in works for text in work.texts])
        table = works[0].version.sentence_vectors(texts)
        vectors[digest] = _Encoded({text: place for place, text in enumerate(texts)}, table)
    answers: dict[int, np.ndarray] = {}
    for works in by_version.values():
        version = works[0].version
        texts = [text for work in works for text in work.texts]
        whole = [vector for work in works for vector in work.whole]
        table = version.answer(texts, whole, _vectors_of(version, texts, vectors))
        text, vector = 0, len(texts)
        for work in works:
            n, m = len(work.texts), len(work.whole)
            answers[id(work)] = np.vstack([table[text : text + n], table[vector : vector + m]])
            text, vector = text + n, vector + m
    return [answers[id(work)] for work in batch]


def _vectors_of(version: ServedVersion, texts: Sequence[str], vectors: dict[str, _Encoded]) -> np.ndarray | None:
    """The sentence vectors that a version answers texts by, where they were made; else None."""
    encoded = vectors.get(version.model.encoder_digest)
    if encoded is None or not texts:
        return None
    return encoded.table[[encoded.places[text] for text in texts]]


def _alone(work: Work) -> np.ndarray | Exception:
    try:
        return _answers([work], {})[0]
    except Exception as error:  # its own request is told
        return error


def _joined(parts: Sequence[Work]) -> np.ndarray:
    answers = [part.answer.result() for part in parts]
    return answers[0] if len(answers) == 1 else np.vstack(answers)


def _kind(error: Exception) -> str:
    # A library's words may quote a customer's.
    return type(error).__name__
