"""How good a model is class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pcc_pipeline.evaluation.intervals.label_intervals import class_intervals
from pcc_pipeline.evaluation.metrics import class_scores, count_labels
from pcc_pipeline.evaluation.plots.style import BLUE, COLOURS, GREEN, ORANGE, PALE, shorts
from pcc_pipeline.evaluation.ranking import IntArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = (("f1", "F1", BLUE), ("precision", "precision", ORANGE), ("recall", "recall", GREEN))


def scores_by_class(y_true: IntArray, predicted: IntArray, classes: Sequence[str], what: str) -> Figure:
    """F1, precision and recall of each class, each with its exact 95 % interval; the class with the worst F1 on top.

    A score that no row measures has no mark.
    """
    from matplotlib.figure import Figure

    scores = class_scores(y_true, predicted, classes)
    intervals = class_intervals(count_labels(y_true, predicted, len(classes)))
    # A score that was not measured sorts last.
    order = sorted(range(len(classes)), key=lambda place: (np.nan_to_num(scores[place].f1, nan=2.0), place))
    names = shorts([str(label) for label in classes], 34)
    many = len(classes) > 20
    size = 6.5 if many else 9.0
    figure = Figure(figsize=(11, 1.7 + (0.16 if many else 0.36) * len(classes)), layout="constrained")
    panels = figure.subplots(1, len(_SCORES), sharey=True, squeeze=False)[0]
    for axes, (name, title, colour) in zip(panels, _SCORES, strict=True):
        values = np.array([getattr(scores[place], name) for place in order])
        heights = np.flatnonzero(~np.isnan(values))
        # Of a class that was never predicted, precision is 0 by convention, and no row says anything of it.
        ends = np.array([intervals[order[height]].get(name, (0.0, 1.0)) for height in heights]).reshape(-1, 2)
        axes.barh(heights, ends[:, 1] - ends[:, 0], left=ends[:, 0], height=0.3, color=colour, alpha=0.35)
        axes.plot(values[heights], heights, color=colour, marker="o", markersize=3 if many else 6, linestyle="none")
        mean = float(values[heights].mean()) if len(heights) else float("nan")
        axes.axvline(mean, color=COLOURS[-1], linewidth=0.8, linestyle=":")
        axes.set_title(f"{title}, mean {mean:.3f} (dotted)", fontsize=9)
        axes.set(xlim=(-0.02, 1.02))
        axes.grid(axis="both", color=PALE, alpha=0.25, linewidth=0.5)
        axes.set_axisbelow(True)
    rows = [f"{names[place]}  ({scores[place].support:,})" for place in order]
    panels[0].set_yticks(range(len(order)), rows, fontsize=size)
    panels[0].set_ylim(len(order) - 0.4, -0.6)
    panels[0].set_ylabel("class (rows), worst F1 first")
    figure.suptitle(f"Scores by class, with 95% intervals\n{what}", fontsize=11)
    return figure
