"""The figures that are about a data set or a search, not about predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pcc_pipeline.evaluation.plots.style import BLUE, COLOURS, GREEN, ORANGE, PALE, blank, note, short, shorts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES: tuple[str, ...] = ("complete", "failed", "pruned")


def class_distribution(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """How many rows each class has in each split: stacked bars, the largest class first.

    Args:
        counts: rows by split name (`train`, `val`, `test`, up to 6), then by label.
    """
    labels = sorted({label for split in counts.values() for label in split})
    totals = {label: sum(split.get(label, 0) for split in counts.values()) for label in labels}
    labels.sort(key=lambda label: (-totals[label], label))
    if not labels:
        return note("There are no rows.", "Rows per class")
    many = len(labels) > 40
    figure, axes = blank(9, 1.8 + (0.155 if many else 0.32) * len(labels))
    start = np.zeros(len(labels))
    for place, (name, split) in enumerate(counts.items()):
        rows = np.array([split.get(label, 0) for label in labels], dtype=float)
        text = f"{short(name)} ({int(rows.sum()):,} rows)"
        colour = COLOURS[place % len(COLOURS)]
        axes.barh(range(len(labels)), rows, left=start, color=colour, edgecolor="white", linewidth=0.4, label=text)
        start += rows
    size = 6.5 if many else 9.0
    for place, label in enumerate(labels):
        axes.annotate(
            f"{totals[label]:,}", (start[place], place), (3, 0), textcoords="offset points", va="center", fontsize=size
        )
    axes.set_yticks(range(len(labels)), shorts(labels, 34), fontsize=size)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlim(0, float(start.max()) * 1.1 or 1)
    axes.set(xlabel="rows", ylabel="class")
    axes.legend(loc="lower right", fontsize=8)
    axes.set_title(f"Rows per class: {int(start.sum()):,} rows, {len(labels)} classes")
    return figure


def optimisation_history(scores: Sequence[float], states: Sequence[str], metric: str) -> Figure:
    """Each trial's score in turn, with the best so far.

    Args:
        scores: one per trial, higher is better; NaN where a trial has none.
        states: one per trial, out of `STATES`. Failed trials, and pruned ones without a score, are marked at the foot.
        metric: what the score is, for the axis.

    Raises:
        ValueError: an unknown state, or not as many states as scores.
    """
    if unknown := sorted(set(states) - set(STATES)):
        raise ValueError(f"expected trial states out of {STATES}, got {unknown}")
    if len(states) != len(scores):
        raise ValueError(f"expected a state for each of {len(scores)} trials, got {len(states)}")
    from matplotlib.ticker import MaxNLocator

    values, kinds = np.asarray(scores, dtype=float), np.asarray(states, dtype=object)
    number = np.arange(values.size)
    done = (kinds == "complete") & ~np.isnan(values)
    if not values.size:
        return note("The search ran no trial.", "Search history")
    figure, axes = blank(8.5, 5)
    if done.any():
        best = np.maximum.accumulate(np.where(done, values, -np.inf))
        seen = np.isfinite(best)
        size = 30 if values.size <= 200 else 8
        axes.scatter(number[done], values[done], color=BLUE, s=size, alpha=0.8, label=f"complete ({done.sum()})")
        text = f"best so far: {best[-1]:.4f}, trial {int(np.argmax(best == best[-1]))}"
        axes.step(number[seen], best[seen], where="post", color=ORANGE, linewidth=2, label=text)
    for state, marker, colour in (("pruned", "v", GREEN), ("failed", "x", "black")):
        at = kinds == state
        if not at.any():
            continue
        scored = at & ~np.isnan(values) & (state == "pruned")
        bare = at & ~scored
        axes.scatter(number[scored], values[scored], marker=marker, color=colour)
        # x in trials, y in the height of the axes: at the foot, whatever the scores are.
        foot = np.full(int(bare.sum()), 0.03)
        text = f"{state} ({at.sum()})"
        axes.scatter(number[bare], foot, marker=marker, color=colour, transform=axes.get_xaxis_transform(), label=text)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=PALE, alpha=0.3)
    axes.set(xlabel="trial", ylabel=f"{metric} (higher is better)")
    axes.legend(loc="best", fontsize=8)
    axes.set_title(f"Search history: {values.size} trials")
    return figure


def parameter_importances(importances: Mapping[str, float], metric: str = "the score", *, most: int = 30) -> Figure:
    """How much of the score's variation goes with each hyperparameter, the greatest first; at most `most` of them."""
    if not importances:
        return note("There are too few finished trials, or nothing to vary.", "Hyperparameter importances")
    ranked = sorted(importances.items(), key=lambda item: (-item[1], item[0]))[:most]
    values = [value for _, value in ranked]
    figure, axes = blank(8.5, 1.6 + 0.36 * len(ranked))
    bars = axes.barh(range(len(ranked)), values, color=BLUE)
    axes.bar_label(bars, [f"{value:.2f}" if value >= 0.01 else "<0.01" for value in values], padding=3, fontsize=8)
    axes.set_yticks(range(len(ranked)), shorts([name for name, _ in ranked], 40), fontsize=9)
    axes.set_xlim(0, max(values) * 1.12 or 1)
    axes.invert_yaxis()
    axes.set(xlabel=f"importance for {metric}", ylabel="hyperparameter")
    axes.set_title(f"Hyperparameter importances: {len(ranked)} of {len(importances)}")
    return figure
