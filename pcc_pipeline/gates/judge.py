"""Whether a version may become the champion: each gate of `registry.gates` against what is known of the version.

A gate that cannot be computed has failed, and its verdict says why.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcc_pipeline.config.gate_settings import (
    CalibrationGate,
    DataAgeGate,
    EncoderGate,
    Gate,
    MaximumGate,
    MinimumGate,
    NoWorseThanChampionGate,
)
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.gates.noninferiority import Difference, paired_difference
from pcc_pipeline.gates.verdicts import GateVerdict

CALIBRATION_METRIC = "test/calibration_error"
_BY_CLASS = re.compile(r"(?P<split>[^/]+)/class/(?P<label>.+)/(?P<name>precision|recall|f1|support)", re.DOTALL)
# A mean of exact fractions may miss a bound that it meets by the rounding of floats.
_ROUNDING = 1e-12
# Clocks and time zones disagree by less; newer data than that have a wrong date.
_AHEAD_AT_MOST = timedelta(days=1)
_DIGITS_OF_DIGEST, _MOST_NAMED = 12, 5


@dataclass(frozen=True)
class GateEvidence:
    """What is known of a version and of the champion, gathered before judging.

    Args:
        metrics: the version's metrics under their names in MLflow (`test/f1_macro`, `test/class/<label>/recall`).
        labels: true labels of the test rows, shape (rows,).
        predicted: the version's labels for these rows, shape (rows,).
        champion_predicted: the champion's labels for the same rows, or for those that `compared` marks; None without a
            champion, or if it has none.
        data_time: the newest timestamp of the training data, else the time of training. Naive times are UTC.
        now: the time to reckon age from.
        encoder_digest: of the encoder that the version was trained with.
        serving_digest: of the encoder that serves: the champion's, or the one installed here.
        champion_version: None while there is no champion.
        test_fault, champion_fault: why there are no test rows, or no predictions of the champion; empty if there are.
        compared: the test rows that the champion has not learned, booleans of shape (rows,); None for all.
        champion_note: what to know of the comparison; may be empty.
    """

    metrics: Mapping[str, float]
    labels: NDArray[Any]
    predicted: NDArray[Any]
    champion_predicted: NDArray[Any] | None
    data_time: datetime | None
    now: datetime
    encoder_digest: str
    serving_digest: str | None
    champion_version: str | None
    test_fault: str = ""
    champion_fault: str = ""
    compared: NDArray[np.bool_] | None = None
    champion_note: str = ""


class _NotComputableError(Exception):
    """Why a gate has no answer."""


@dataclass(frozen=True)
class _Finding:
    found: str
    passed: bool
    note: str = ""


def judge(gates: Sequence[Gate], evidence: GateEvidence) -> tuple[GateVerdict, ...]:
    """One verdict for each gate, in their order.

    Raises:
        TypeError: a gate of unknown kind.
    """
    return tuple(_verdict(gate, evidence) for gate in gates)


def _verdict(gate: Gate, evidence: GateEvidence) -> GateVerdict:
    name, wanted = _asked(gate, evidence)
    try:
        finding = _find(gate, evidence)
    except _NotComputableError as reason:
        finding = _Finding("not computed", False, str(reason))
    return GateVerdict(name, wanted, finding.found, finding.passed, finding.note)


def _asked(gate: Gate, evidence: GateEvidence) -> tuple[str, str]:
    """The gate's name and what it wants, in words."""
    match gate:
        case MinimumGate(metric=metric, threshold=threshold):
            return f"{gate.kind} {metric}", f">= {threshold:.10g}"
        case MaximumGate(metric=metric, threshold=threshold):
            return f"{gate.kind} {metric}", f"<= {threshold:.10g}"
        case NoWorseThanChampionGate(metric=metric, margin=margin, confidence=confidence):
            return f"{gate.kind} {metric}", f"difference >= {-margin:.10g} ({100 * confidence:.10g}% sure)"
        case CalibrationGate(threshold=threshold):
            return gate.kind, f"error <= {threshold:.10g}"
        case DataAgeGate(days=days):
            return gate.kind, f"<= {days} days"
        case EncoderGate():
            return gate.kind, (evidence.serving_digest or "")[:_DIGITS_OF_DIGEST] or "the serving encoder"
        case _:
            raise TypeError(f"cannot judge a {type(gate).__name__}")


def _find(gate: Gate, evidence: GateEvidence) -> _Finding:
    match gate:
        case MinimumGate() | MaximumGate():
            return _bounded(gate.metric, gate.threshold, evidence, least=isinstance(gate, MinimumGate))
        case CalibrationGate():
            return _bounded(CALIBRATION_METRIC, gate.threshold, evidence, least=False)
        case NoWorseThanChampionGate():
            return _no_worse(gate, evidence)
        case DataAgeGate():
            return _young_enough(gate, evidence)
        case EncoderGate():
            return _same_encoder(evidence)


def _bounded(metric: str, threshold: float, evidence: GateEvidence, *, least: bool) -> _Finding:
    """The metric against the threshold; of several classes the worst one counts."""
    parts = _BY_CLASS.fullmatch(metric)
    if parts and parts["label"] == "*" and metric not in evidence.metrics and not evidence.test_fault:
        by_class = _of_every_class(evidence.metrics, parts["split"], parts["name"])
        label = (min if least else max)(by_class, key=lambda name: by_class[name])
        value, whose = by_class[label], f" ({label})"
    else:
        value, whose = _measured(metric, evidence), ""
    within = value >= threshold - _ROUNDING if least else value <= threshold + _ROUNDING
    return _Finding(_number(value, threshold) + whose, within)


def _measured(metric: str, evidence: GateEvidence) -> float:
    """A metric by its name in MLflow, or with the label as the data spells it."""
    if evidence.test_fault:
        raise _NotComputableError(evidence.test_fault)
    metrics, parts = evidence.metrics, _BY_CLASS.fullmatch(metric)
    name = metric
    if name not in metrics and parts:
        labels = {str(label) for label in (*np.unique(evidence.labels), *np.unique(evidence.predicted))}
        safe = metric_names([*labels, parts["label"]])[parts["label"]]
        name = f"{parts['split']}/class/{safe}/{parts['name']}"
    if name not in metrics:
        near = difflib.get_close_matches(metric, metrics, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        # Of a class without rows nothing is logged: see `Report.metrics`.
        why = " (a class without test rows has none)" if parts else ""
        raise _NotComputableError(f"the version has no metric {metric}{why}{hint}")
    return _finite(name, metrics[name])


def _of_every_class(metrics: Mapping[str, float], split: str, name: str) -> dict[str, float]:
    """The label's name in MLflow -> the metric, of every class of the split."""
    found = [parts for parts in map(_BY_CLASS.fullmatch, metrics) if parts and parts["split"] == split]
    values = {parts["label"]: metrics[parts[0]] for parts in found if parts["name"] == name}
    unmeasured = sorted({parts["label"] for parts in found} - values.keys())
    if unmeasured:
        raise _NotComputableError(
            f"{len(unmeasured)} of {len(values) + len(unmeasured)} classes have no {name}, for want of {split} rows: "
            + ", ".join(unmeasured[:_MOST_NAMED])
            + (f" and {len(unmeasured) - _MOST_NAMED} more" if len(unmeasured) > _MOST_NAMED else "")
        )
    if not values:
        raise _NotComputableError(f"the version has no metric {split}/class/<label>/{name}")
    return {label: _finite(f"{split}/class/{label}/{name}", value) for label, value in values.items()}


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise _NotComputableError(f"{name} is {value}: it could not be measured")
    return float(value)


def _no_worse(gate: NoWorseThanChampionGate, evidence: GateEvidence) -> _Finding:
    if evidence.champion_version is None and evidence.champion_predicted is None:
        return _Finding("no champion", True, "there is no champion yet that the version could be worse than")
    champion = f"champion {evidence.champion_version}" if evidence.champion_version else "the champion"
    if fault := evidence.test_fault or evidence.champion_fault:
        raise _NotComputableError(fault)
    if evidence.champion_predicted is None:
        raise _NotComputableError(f"{champion} has no predictions for these test rows")
    labels, predicted = evidence.labels, evidence.predicted
    if evidence.compared is not None:
        labels, predicted = labels[evidence.compared], predicted[evidence.compared]
    shapes = [np.shape(column) for column in (labels, predicted, evidence.champion_predicted)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1 or shapes[0][0] == 0:
        rows = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise _NotComputableError(f"labels, version and {champion} must have the same test rows, and some; got {rows}")
    found = paired_difference(labels, predicted, evidence.champion_predicted, gate.metric, confidence=gate.confidence)
    passed = found.low >= -gate.margin - _ROUNDING
    notes = [
        f"{gate.metric} {found.challenger:.4f}, {champion} {found.champion:.4f}, on {found.rows:,} test rows of which "
        f"{found.differing_rows:,} are labelled differently"
    ]
    if found.unmeasured and gate.metric != "accuracy":
        notes.append(f"{found.unmeasured:,} labels that were given have no test rows and are left out")
    if evidence.champion_note:
        notes.append(evidence.champion_note)
    if not passed:
        notes.append(_more_rows(found, gate.margin))
    return _Finding(
        f"at least {_number(found.low, -gate.margin, signed=True)} (measured {found.value:+.4f})",
        passed,
        "; ".join(notes),
    )


def _more_rows(found: Difference, margin: float) -> str:
    """Whether these rows could have shown what the gate asks, and how many could."""
    needed = found.rows_needed(margin)
    otherwise = "raise the gate's margin in registry.gates, or use force with a reason"
    if needed is None:
        return f"no number of rows shows a version that is just as good to be within {margin:.10g}: {otherwise}"
    if needed <= found.rows:
        return "these rows are enough to show that a version just as good is no worse: this one is not shown to be"
    return (
        f"too few rows to judge: about {needed:,} such test rows show a version that is just as good to be within "
        f"{margin:.10g} in 4 of 5 cases; give more with test_data, {otherwise}"
    )


def _young_enough(gate: DataAgeGate, evidence: GateEvidence) -> _Finding:
    # pandas' NaT is a datetime that equals nothing, itself included.
    if evidence.data_time is None or evidence.data_time != evidence.data_time:
        raise _NotComputableError("neither a timestamp of the training data nor the time of training is known")
    age = _utc(evidence.now) - _utc(evidence.data_time)
    day = f"{_utc(evidence.data_time):%Y-%m-%d}"
    if age < -_AHEAD_AT_MOST:
        raise _NotComputableError(f"the training data are dated {day}, in the future: a timestamp is wrong")
    days = _number(max(age / timedelta(days=1), 0.0), gate.days, decimals=1)
    return _Finding(f"{days} days ({day})", age <= timedelta(days=gate.days))


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _same_encoder(evidence: GateEvidence) -> _Finding:
    if not evidence.encoder_digest:
        raise _NotComputableError("the version does not say which encoder it was trained with")
    if not evidence.serving_digest:
        raise _NotComputableError("the digest of the serving encoder is not known")
    same = evidence.encoder_digest == evidence.serving_digest
    note = "" if same else "vectors of another encoder mean nothing to the model: train it with the one that serves"
    return _Finding(evidence.encoder_digest[:_DIGITS_OF_DIGEST], same, note)


def _number(value: float, bound: float, *, decimals: int = 4, signed: bool = False) -> str:
    """With so many decimals, or as many more as show on which side of the bound the value lies."""
    for places in range(decimals, 13):
        shown = f"{value:{'+' if signed else ''}.{places}f}"
        if abs(value - bound) <= _ROUNDING or float(shown) != bound:
            break
    return shown
