"""`minimum`, `maximum`, `calibration`: a metric on the right side of a bound."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import field_validator

from pcc_pipeline.config.gate_settings import Number, ShareOfOne
from pcc_pipeline.config.section import NonEmpty
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.gate import ROUNDING, Gate, Measured, NotComputableError, shown_number

_CALIBRATION_METRIC = "test/calibration_error"
_BY_CLASS = re.compile(r"(?P<split>[^/]+)/class/(?P<label>.+)/(?P<name>precision|recall|f1|support)", re.DOTALL)
_MOST_NAMED = 5


class _MetricGate(Gate):
    """A bound on a metric that the file names."""

    metric: NonEmpty
    threshold: Number

    @field_validator("metric")
    @classmethod
    def _named_with_its_split(cls, metric: str) -> str:
        if "/" not in metric:
            raise ValueError(
                f"{metric!r} does not say of which rows; name a metric as MLflow shows it, such as test/{metric}"
            )
        return metric

    @property
    def name(self) -> str:
        """Its kind and its metric."""
        return f"{self.kind} {self.metric}"


class MinimumGate(_MetricGate):
    """`metric >= threshold`; `test/class/*/f1` is the worst class's."""

    kind: Literal["minimum"] = "minimum"

    @property
    def in_words(self) -> str:
        """The metric and the bound."""
        return f"its score {self.metric} is {self.threshold:.10g} or more"

    def required(self, evidence: GateEvidence) -> str:
        """The bound."""
        return f">= {self.threshold:.10g}"

    def measure(self, evidence: GateEvidence) -> Measured:
        """The metric; of several classes the least."""
        return _bounded(self.metric, self.threshold, evidence, least=True)


class MaximumGate(_MetricGate):
    """`metric <= threshold`; `test/class/*/…` is the greatest of the classes'."""

    kind: Literal["maximum"] = "maximum"

    @property
    def in_words(self) -> str:
        """The metric and the bound."""
        return f"its score {self.metric} is {self.threshold:.10g} or less"

    def required(self, evidence: GateEvidence) -> str:
        """The bound."""
        return f"<= {self.threshold:.10g}"

    def measure(self, evidence: GateEvidence) -> Measured:
        """The metric; of several classes the greatest."""
        return _bounded(self.metric, self.threshold, evidence, least=False)


class CalibrationGate(Gate):
    """`test/calibration_error <= threshold`."""

    kind: Literal["calibration"] = "calibration"
    threshold: ShareOfOne = 0.15

    @property
    def in_words(self) -> str:
        """What the error is of, and the bound."""
        return f"how sure it says it is differs from how often it is right by {self.threshold:.10g} or less"

    def required(self, evidence: GateEvidence) -> str:
        """The bound."""
        return f"error <= {self.threshold:.10g}"

    def measure(self, evidence: GateEvidence) -> Measured:
        """The expected calibration error of the test rows."""
        return _bounded(_CALIBRATION_METRIC, self.threshold, evidence, least=False)


def _bounded(metric: str, threshold: float, evidence: GateEvidence, *, least: bool) -> Measured:
    """The metric against the threshold; of several classes the worst one counts."""
    parts = _BY_CLASS.fullmatch(metric)
    if parts and parts["label"] == "*" and metric not in evidence.metrics and not evidence.test_fault:
        by_class = _of_every_class(evidence.metrics, parts["split"], parts["name"])
        label = (min if least else max)(by_class, key=lambda name: by_class[name])
        value, whose = by_class[label], f" ({label})"
    else:
        value, whose = _value(metric, evidence), ""
    within = value >= threshold - ROUNDING if least else value <= threshold + ROUNDING
    return Measured(shown_number(value, threshold) + whose, within)


def _value(metric: str, evidence: GateEvidence) -> float:
    """A metric by its name in MLflow, or with the label as the data spells it."""
    if evidence.test_fault:
        raise NotComputableError(evidence.test_fault)
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
        raise NotComputableError(f"the version has no metric {metric}{why}{hint}")
    return _finite(name, metrics[name])


def _of_every_class(metrics: Mapping[str, float], split: str, name: str) -> dict[str, float]:
    """The label's name in MLflow -> the metric, of every class of the split."""
    of_split = [parts for parts in map(_BY_CLASS.fullmatch, metrics) if parts and parts["split"] == split]
    values = {parts["label"]: metrics[parts[0]] for parts in of_split if parts["name"] == name}
    unmeasured = sorted({parts["label"] for parts in of_split} - values.keys())
    if unmeasured:
        raise NotComputableError(
            f"{len(unmeasured)} of {len(values) + len(unmeasured)} classes have no {name}, for want of {split} rows: "
            + ", ".join(unmeasured[:_MOST_NAMED])
            + (f" and {len(unmeasured) - _MOST_NAMED} more" if len(unmeasured) > _MOST_NAMED else "")
        )
    if not values:
        raise NotComputableError(f"the version has no metric {split}/class/<label>/{name}")
    return {label: _finite(f"{split}/class/{label}/{name}", value) for label, value in values.items()}


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise NotComputableError(f"{name} is {value}: it could not be measured")
    return float(value)
