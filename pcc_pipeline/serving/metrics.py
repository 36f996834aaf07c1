"""What the server counts, as Prometheus reads it: requests, batches, answers and versions, and no word of a text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from pcc_pipeline.model.decision import certainty

if TYPE_CHECKING:
    from pcc_pipeline.serving.follow import Followed
    from pcc_pipeline.serving.forms import Answered
    from pcc_pipeline.serving.version import ServedVersion

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
# Where several processes serve, each writes its numbers into files of this folder, and any of them tells the sum.
# The library reads the variable when it is imported, so `server` sets it before.
SEVERAL_PROCESSES = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The metrics of a process, or of all that share a folder."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        # When each series began would be a series of its own.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library leaves it without types
        self._several = os.environ.get(SEVERAL_PROCESSES)
        self._registry = at = CollectorRegistry()
        self._requests = Counter("pcc_requests", "Requests answered.", ["path", "status"], registry=at)
        self._seconds = Histogram(
            "pcc_request_seconds", "From a request's first byte to its answer.", ["path"], buckets=_SECONDS, registry=at
        )
        self._batches = Histogram("pcc_batch_texts", "Texts answered together.", buckets=_TEXTS, registry=at)
        self._batch_seconds = Histogram(
            "pcc_batch_seconds", "What a batch took to answer.", buckets=_SECONDS, registry=at
        )
        self._queued = Gauge(
            "pcc_queue_texts", "Texts that wait or are at work.", registry=at, multiprocess_mode="livesum"
        )
        self._rows = Counter("pcc_predictions", "Rows by what was answered.", ["model_version", "label"], registry=at)
        self._left = Counter("pcc_abstentions", "Rows left to a person.", ["model_version"], registry=at)
        self._confidence = Histogram(
            "pcc_confidence",
            "Confidence of the answers.",
            ["model_version"],
            buckets=_CONFIDENCES,
            registry=at,
        )
        self._no_answer = Counter("pcc_rows_refused", "Rows that could not be answered.", registry=at)
        self._version = Gauge(
            "pcc_version_info",
            "1 for a version on duty, 0 for one that was.",
            ["role", "model_version"],
            registry=at,
            multiprocess_mode="livemax",
        )
        self._switches = Gauge(
            "pcc_version_switches", "Versions taken up while serving.", registry=at, multiprocess_mode="livemax"
        )
        self._refused = Gauge(
            "pcc_versions_refused",
            "Versions under a followed alias that do not serve.",
            registry=at,
            multiprocess_mode="livemax",
        )
        self._away = Gauge(
            "pcc_registry_away", "1 while the registry cannot be asked.", registry=at, multiprocess_mode="livemax"
        )
        self._shadow = Counter(
            "pcc_shadow_rows", "Rows that a shadow answered, by whether its label was the same.", ["same"], registry=at
        )
        self._shadow_difference = Histogram(
            "pcc_shadow_difference",
            "How far the shadow's confidence was from the answer's.",
            buckets=_CONFIDENCES,
            registry=at,
        )
        self._shadow_failed = Counter("pcc_shadow_failed_rows", "Rows that a shadow could not answer.", registry=at)
        self._known: set[tuple[str, str]] = set()

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        """A batch was answered."""
        self._batches.observe(rows)
        self._batch_seconds.observe(seconds)

    def queued(self, rows: int) -> None:
        """So many wait or are at work."""
        self._queued.set(rows)

    def answers(self, version: ServedVersion, rows: Sequence[Answered]) -> None:
        """Rows were answered by a version."""
        name = version.name
        confidence, left = self._confidence.labels(name), self._left.labels(name)  # none left is told as 0
        for row in rows:
            confidence.observe(row.confidence)
            if row.note is not None:
                left.inc()
            if row.label is not None:
                self._rows.labels(name, row.label).inc()

    def rows_refused(self, rows: int) -> None:
        """Rows had no text, or what is none."""
        self._no_answer.inc(rows)

    def shadow(self, version: ServedVersion, answer: np.ndarray, shadow: ServedVersion, beside: np.ndarray) -> None:
        """A shadow answered rows, too."""
        for one, other in zip(answer, beside, strict=True):
            same = version.model.classes[int(one.argmax())] == shadow.model.classes[int(other.argmax())]
            self._shadow.labels(str(same).lower()).inc()
        for sure, unused in zip(certainty(answer, "confidence"), certainty(beside, "confidence"), strict=True):
            self._shadow_difference.observe(abs(float(sure - unused)))

    def shadow_failed(self, rows: int) -> None:
        """A shadow could not answer rows."""
        self._shadow_failed.inc(rows)

    def duty(self, followed: Followed) -> None:
        """Which versions are on duty in this process, now."""
        on_duty = {
            (role, version.name)
            for role, version in (("champion", followed.duty.champion), ("challenger", followed.duty.challenger))
            if version is not None
        }
        self._known |= on_duty
        for role, name in self._known:
            self._version.labels(role, name).set((role, name) in on_duty)
        self._switches.set(followed.switches)
        self._refused.set(len(followed.refused))
        self._away.set(followed.away is not None)

    def text(self) -> tuple[bytes, str]:
        """All of it in Prometheus' text format, and that format's media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

        registry = self._registry
        if self._several:
            # What a dead worker had in its queue, or on duty, is so no more.
            for number in {int(file.stem.rpartition("_")[2]) for file in Path(self._several).glob("gauge_live*.db")}:
                if not psutil.pid_exists(number):
                    mark_process_dead(number)  # type: ignore[no-untyped-call] # as above
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # as above
        return generate_latest(registry), CONTENT_TYPE_LATEST
