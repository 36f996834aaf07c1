"""Two versions side by side: their scores with intervals, their parameters, and what forbids comparing them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pcc_pipeline.tracking.store.past_runs import RecordedRun, VersionRecord

# Where no digest of the test rows was kept: two models' held-out rows are the same if the file and these agree.
_SPLIT = ("data.random_state", "data.test_size", "data.validation_size", "data.stratify", "data.group_column")
NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True)
class Score:
    """A metric and the 95 % interval that was logged beside it, if one was."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, metrics: Mapping[str, float], name: str) -> Score:
        return cls(name, metrics[name], metrics.get(f"{name}_low"), metrics.get(f"{name}_high"))

    @staticmethod
    def names(metrics: Mapping[str, float]) -> list[str]:
        """All names but those of intervals' ends, sorted."""
        ends = {f"{name}{end}" for name in metrics for end in ("_low", "_high")}
        return sorted(name for name, value in metrics.items() if name not in ends and math.isfinite(value))

    def text(self, expected: str | None = None) -> str:
        """`0.9123 [0.8901, 0.9345]`, with its name where that is not the one that was asked for."""
        number = f"{self.value:,.0f}" if self.value.is_integer() and abs(self.value) > 1 else f"{self.value:.4f}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.4f}, {self.high:.4f}]"
        return number + interval + (f" {self.name}" if expected not in (None, self.name) else "")

    def document(self) -> dict[str, Any]:
        return {"metric": self.name, "value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class MetricRow:
    """One metric of both versions."""

    name: str
    a: Score | None
    b: Score | None

    @property
    def change(self) -> str:
        return f"{self.b.value - self.a.value:+.4f}" if self.a and self.b else ""


@dataclass(frozen=True)
class ParamRow:
    """One parameter of both versions."""

    name: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class Comparison:
    """Both versions, row by row; `notes` say what the numbers cannot."""

    first: VersionRecord
    second: VersionRecord
    metrics: tuple[MetricRow, ...]
    params: tuple[ParamRow, ...]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {
            "a": _side(self.first),
            "b": _side(self.second),
            "metrics": [
                {"name": row.name, "a": row.a and row.a.document(), "b": row.b and row.b.document()}
                for row in self.metrics
            ],
            "params": [vars(row) for row in self.params],
            "notes": list(self.notes),
        }


def score(metrics: Mapping[str, float], name: str) -> Score | None:
    """A metric, or what the older system called the same; None where neither was measured."""
    short = name.rpartition("/")[2]
    names = [name, *(f"legacy/{form}" for form in (short, f"test_{short}", f"test/{short}"))]
    first = next((each for each in names if math.isfinite(metrics.get(each, math.nan))), None)
    return None if first is None else Score.of(metrics, first)


def rows_measured(version: VersionRecord, metric: str) -> str | None:
    """What tells the rows of a metric from other rows; None where that is not known. Only equal ones compare.

    Test rows: their digest, whichever file and order they came in. Rows of the training's own split: the file's digest
    and the split's. The older system left no record of either.
    """
    part, trained = metric.partition("/")[0], version.trained
    if part == "test":
        if version.evaluated is None:
            return None
        tags = version.evaluated.tags
        if digest := tags.get("pcc.test_rows_digest"):
            return digest
        source = tags.get("pcc.test_source")
        if source is None or not source.startswith("held-out rows of"):
            return source
        return f"{source} {_split(trained)}"
    return None if part == "legacy" or "pcc.data_digest" not in trained.tags else _split(trained)


def _split(trained: RecordedRun) -> str:
    parts = (trained.tags.get("pcc.data_digest"), trained.tags.get("pcc.split_digest"))
    settings = () if parts[1] else (trained.params.get(name) for name in _SPLIT)
    return " ".join(map(str, (*parts, *settings)))


def compared(first: VersionRecord, second: VersionRecord) -> Comparison:
    """Lay two versions side by side."""
    names = sorted({*Score.names(first.metrics), *Score.names(second.metrics)}, key=lambda name: (_rank(name), name))
    metrics = tuple(
        MetricRow(
            name,
            Score.of(first.metrics, name) if name in first.metrics else None,
            Score.of(second.metrics, name) if name in second.metrics else None,
        )
        for name in names
    )
    a, b = first.trained.params, second.trained.params
    params = tuple(ParamRow(name, a.get(name), b.get(name)) for name in sorted({*a, *b}))
    return Comparison(first, second, metrics, params, tuple(_notes(first, second, metrics)))


def _rank(name: str) -> int:
    order = ("test", "val", "cv", "train", "legacy")
    side = name.partition("/")[0]
    return (order.index(side) if side in order else len(order)) + (10 if "/class/" in name else 0)


def _notes(first: VersionRecord, second: VersionRecord, metrics: tuple[MetricRow, ...]) -> list[str]:
    notes = [
        f"{side} is {NOT_EVALUATED}: it has no test scores"
        for side, version in (("A", first), ("B", second))
        if version.evaluated is None
    ]
    rows = [rows_measured(version, "test/f1_macro") for version in (first, second)]
    if first.evaluated is not None and second.evaluated is not None and (rows[0] is None or rows[0] != rows[1]):
        notes.append("The two were tested on different rows: the difference of their test scores says little.")
    for row in metrics:
        if row.name == "test/f1_macro" and row.a and row.b and _overlap(row.a, row.b):
            notes.append("The intervals of test/f1_macro overlap: on these rows neither is clearly the better one.")
    return notes


def _overlap(a: Score, b: Score) -> bool:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low <= b.high and b.low <= a.high


def _side(version: VersionRecord) -> dict[str, Any]:
    return {
        "version": version.pcc_version or None,
        "run_id": version.trained.run_id,
        "evaluated_by": version.evaluated.run_id if version.evaluated else None,
        "number": version.registered.number if version.registered else None,
    }
