"""Where a model is weaker: its accuracy on parts of the rows, by what is known of them beside their text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.data.columns import label_rule, shown_columns
from pcc_pipeline.data.contract import SOURCE
from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.intervals.chances import beyond_chance, fewer_hits_chance
from pcc_pipeline.evaluation.intervals.label_intervals import Interval, macro_f1_interval, proportion_interval
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.evaluation.metrics import count_labels
from pcc_pipeline.evaluation.ranking import IntArray

# What no value of a column is called, as `other` well may be.
OTHER, EMPTY = "(other)", "(empty)"
# Of one named column; rows of its further values are "(other)".
MOST_VALUES = 20
# A value of fewer rows may point at a person, and measures nothing.
FEWEST_ROWS = 5
_LONGEST_VALUE = 40
_MOST_NAMED = 5
_SHARES = (0.25, 0.5, 0.75)
# Column -> where ranges begin. They are fixed, so that runs compare; a label's confidence is seldom low.
_RANGES: dict[str, tuple[float, ...]] = {
    "text_length": (51, 101, 201, 401, 801),
    "formality_score": _SHARES,
    "urgency_score": _SHARES,
    "confidence": (0.5, 0.7, 0.8, 0.9),
}


@dataclass(frozen=True)
class Slice:
    """One metric on the rows of one group.

    Attributes:
        name, value: the column (or what was made of it) and the group, such as `text_length` and `51 to 100`.
        metric: `accuracy`, or `f1_macro` where each label of the test rows has `FEWEST_ROWS` in the group.
        interval: of 95 %, as `intervals.METHODS` says.
        worse: the accuracy is lower than that of all other rows by more than chance allows.
    """

    name: str
    value: str
    rows: int
    metric: str
    score: float
    interval: Interval
    worse: bool = False


def groups(frame: pd.DataFrame, named: Sequence[str] = ()) -> dict[str, pd.Series]:
    """The group of each row by each thing that the rows can be sliced by.

    `text_length`, `has_personal_info`, `formality_score`, `urgency_score`, `month`, `confidence` and `source` where the
    frame has them, then the named columns. Values are ranges, or labels of `FEWEST_ROWS` rows or more; never a text.

    Raises:
        DataError: a named column is not there, or its values are no groups.
    """
    made: dict[str, pd.Series] = {}
    for column, starts in _RANGES.items():
        if column in frame:
            made[column] = _ranges(frame[column], starts, whole=column == "text_length")
    if "has_personal_info" in frame:
        made["has_personal_info"] = frame["has_personal_info"].map({True: "yes", False: "no"}).astype(object)
    if "timestamp" in frame:
        made["month"] = pd.to_datetime(frame["timestamp"], utc=True).dt.strftime("%Y-%m").astype(object)
    if SOURCE in frame:
        values = label_rule(frame[SOURCE])[0]
        if values.nunique() <= MOST_VALUES and _no_groups(values) is None:
            made[SOURCE] = values.astype(object)
    for column in named:
        if column in made:
            continue
        if column not in frame:
            raise DataError(
                f"the test rows have no column {column}; they have {shown_columns(frame.columns)}",
                where="evaluation.slices",
                fix="name a column of the file",
            )
        values = label_rule(frame[column])[0]
        if (reason := _no_groups(values)) is not None:
            raise DataError(
                f"The column {column} cannot be sliced by: {reason}",
                where="evaluation.slices",
                fix="name a column of few values, such as a country or a product, or leave this one out",
            )
        made[column] = values.astype(object)
    return {name: _few(values.fillna(EMPTY)) for name, values in made.items()}


def length_counts(lengths: pd.Series) -> dict[str, int]:
    """Rows by the ranges of `text_length`, in order; without empty ones."""
    counts = _ranges(lengths, _RANGES["text_length"], whole=True).value_counts()
    return {str(name): int(counts[name]) for name in sorted(counts.index, key=_in_order)}


def _ranges(column: pd.Series, starts: Sequence[float], *, whole: bool) -> pd.Series:
    """Half-open ranges of numbers, named for their ends."""
    if whole:
        texts = [f"0 to {starts[0] - 1:g}", *(f"{low:g} to {high - 1:g}" for low, high in pairwise(starts))]
        texts.append(f"{starts[-1]:g} or more")
    else:
        texts = [f"below {starts[0]:g}", *(f"{low:g} to below {high:g}" for low, high in pairwise(starts))]
        texts.append(f"{starts[-1]:g} or more")
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    names = np.array(texts, dtype=object)[np.searchsorted(starts, numbers, side="right").clip(max=len(starts))]
    return pd.Series(np.where(np.isnan(numbers), None, names), index=column.index, dtype=object)


def _no_groups(values: pd.Series) -> str | None:
    """Why the values of a column are no groups; None where they are."""
    filled, different = int(values.notna().sum()), int(values.nunique())
    if different > filled / 2:
        return f"{different:,} of its {filled:,} values are different"
    if (values.str.len() > _LONGEST_VALUE).any():
        return f"it holds values of more than {_LONGEST_VALUE} characters, as texts are"
    return None


def _few(values: pd.Series) -> pd.Series:
    """At most `MOST_VALUES` values, each of `FEWEST_ROWS` or more, and `(other)`."""
    counts = values.value_counts()
    kept = counts[counts >= FEWEST_ROWS].sort_index().sort_values(ascending=False, kind="stable").index[:MOST_VALUES]
    return values.where(values.isin(kept), OTHER)


def measure_slices(by: Mapping[str, pd.Series], y: IntArray, predicted: IntArray) -> tuple[Slice, ...]:
    """Measure each group.

    Worse is a group with so few hits that Fisher's exact test, one-sided, against all other rows is below 5 % after
    Holm's correction for all groups that were looked at.

    Args:
        by: as `groups` makes it, (n,) each.
        y: indices of the true labels, (n,); a label that the model does not know has one of its own.
        predicted: of the predicted ones, (n,).
    """
    right, n_labels = y == predicted, int(max(y.max(initial=0), predicted.max(initial=0))) + 1
    present = np.unique(y)
    made: list[Slice] = []
    chances: dict[int, float] = {}
    for name, values in by.items():
        kinds = sorted(set(values), key=lambda value: (value in (OTHER, EMPTY), _in_order(value)))
        for value in kinds if len(kinds) > 1 else ():
            here = (values == value).to_numpy()
            rows, hits = int(here.sum()), int(right[here].sum())
            chances[len(made)] = fewer_hits_chance(hits, rows, int(right.sum()), len(y))
            made.append(Slice(name, value, rows, "accuracy", hits / rows, proportion_interval(hits, rows)))
            counts = np.bincount(y[here], minlength=n_labels)
            if len(present) > 1 and counts[present].min() >= FEWEST_ROWS:
                f1 = count_labels(y[here], predicted[here], n_labels).f1
                seen = np.union1d(y[here], predicted[here])
                interval = macro_f1_interval(
                    np.searchsorted(seen, y[here]), np.searchsorted(seen, predicted[here]), len(seen)
                )
                made.append(Slice(name, value, rows, "f1_macro", float(f1[seen].mean()), interval))
    for place in beyond_chance(chances):
        made[place] = replace(made[place], worse=True)
    return tuple(made)


def _in_order(value: str) -> tuple[bool, float, str]:
    """Ranges by their numbers, labels by their letters."""
    first = value.split()[0] if value.split() else ""
    try:
        return False, -math.inf if first == "below" else float(first), value
    except ValueError:
        return (first != "below", -math.inf, value)


def slice_metrics(measured: Sequence[Slice], split: str) -> dict[str, float]:
    """`<split>/slice/<name>/<value>/accuracy`, `rows` and, where measured, `f1_macro`; names made safe."""
    names = metric_names([each.name for each in measured])
    values = {name: metric_names([each.value for each in measured if each.name == name]) for name in names}
    numbers: dict[str, float] = {}
    for each in measured:
        path = f"{split}/slice/{names[each.name][:60]}/{values[each.name][each.value]}"
        numbers[f"{path}/{each.metric}"] = each.score
        numbers[f"{path}/rows"] = float(each.rows)
    return numbers


def slice_documents(measured: Sequence[Slice]) -> list[dict[str, Any]]:
    """For metrics.json."""
    return [
        {
            "slice": each.name,
            "value": each.value,
            "rows": each.rows,
            "metric": each.metric,
            "score": each.score,
            "interval": list(each.interval),
            "worse": each.worse,
        }
        for each in measured
    ]


def slice_warnings(measured: Sequence[Slice], accuracy: float) -> tuple[str, ...]:
    """The groups that are worse than the rest, the worst first, in one sentence; none where there are none."""
    worse = sorted((each for each in measured if each.worse), key=lambda each: each.score)
    if not worse:
        return ()
    looked_at = sum(each.metric == "accuracy" for each in measured)
    said = [f"{each.name} {each.value} ({each.score:.3f} on {each.rows:,} rows)" for each in worse[:_MOST_NAMED]]
    more = f" and {len(worse) - _MOST_NAMED} more" if len(worse) > _MOST_NAMED else ""
    return (
        f"The accuracy, {accuracy:.3f} on all rows, is lower in some parts of them by more than chance allows "
        f"({looked_at} looked at): {', '.join(said)}{more}. Look at their labels, and at how many training rows are "
        "like them.",
    )
