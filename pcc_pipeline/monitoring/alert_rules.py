"""Which alert rules the last windows of a watched model break."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pcc_pipeline.config.alert_settings import AlertRule


@dataclass(frozen=True)
class Reading:
    """What one rule says of one metric.

    Attributes:
        value: in the last window that has the metric.
        window: the name of that window.
        broken: past the bound in each of the last `rule.windows` windows that have it.
        words: what is wrong, where the value is that of an alarm; else empty.
    """

    rule: AlertRule
    metric: str
    value: float
    window: str
    broken: bool
    words: str = ""


def readings(
    rule: AlertRule, windows: Sequence[tuple[str, Mapping[str, float]]], words: Mapping[tuple[str, str], str]
) -> Iterator[Reading]:
    """One reading for each metric that the rule speaks of, by name.

    A window that lacks a metric, or has no number for it, says nothing of it: labels that come late neither raise an
    alert nor end one. Fewer windows than the rule asks for break nothing.

    Args:
        windows: name and metrics of each, oldest first.
        words: (window, metric) -> what is wrong, where somebody knows.
    """
    names = sorted({name for _, metrics in windows for name in metrics if fnmatchcase(name, rule.metric)})
    for metric in names:
        known = [
            (window, float(metrics[metric]))
            for window, metrics in windows
            if metric in metrics and not math.isnan(metrics[metric])
        ]
        if not known:
            continue
        last = known[-rule.windows :]
        broken = len(last) == rule.windows and all(rule.broken_by(value) for _, value in last)
        window, value = known[-1]
        yield Reading(rule, metric, value, window, broken, words.get((window, metric), "") if broken else "")
