"""A version's windows in order: how far messages have moved, and how right it is, estimated and observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pcc_pipeline.evaluation.plots.style import BLUE, GREEN, ORANGE, PALE, blank
from pcc_pipeline.monitoring.health import WatchedWindow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# So many windows have their names below the axis.
_MOST_NAMES = 15


def drift_by_window(watched: Sequence[WatchedWindow], rate: float) -> Figure:
    """The verdict's p-value by window, on a logarithmic axis, and the share of novel rows."""
    figure, axes = blank(8.5, 4.5)
    at = np.arange(len(watched))
    axes.plot(
        at, [one.health.drift.p_value for one in watched], color=BLUE, marker="o", label="chance of such a change"
    )
    axes.axhline(rate, color=ORANGE, ls="--", label=f"alarm at {rate:g}")
    axes.set(yscale="log", ylabel="p-value of the verdict", ylim=(None, 1.3))
    shares = [one.health.novel_share for one in watched if one.health.novel_share is not None]
    if len(shares) == len(watched):
        beside = axes.twinx()
        beside.plot(at, shares, color=GREEN, marker=".", ls=":", label="novel rows")
        beside.set(ylabel="share of novel rows", ylim=(0, None))
    _named(axes, watched)
    _explained(figure)
    axes.set_title("Whether messages have changed, by window")
    return figure


def accuracy_by_window(watched: Sequence[WatchedWindow]) -> Figure:
    """Estimated accuracy by window with its interval or as an upper bound, the reference's, and what labels show."""
    figure, axes = blank(8.5, 4.5)
    at = np.arange(len(watched))
    estimates = [one.health.estimate for one in watched]
    values = np.array([each.value for each in estimates])
    low, high = (np.array([getattr(each, end) for each in estimates]) for end in ("low", "high"))
    bound = np.array([each.upper_bound for each in estimates])
    axes.plot(at, np.where(bound, high, values), color=BLUE, lw=1)
    if not bound.all():
        reach = [np.maximum(values - low, 0)[~bound], np.maximum(high - values, 0)[~bound]]
        axes.errorbar(
            *(at[~bound], values[~bound]),
            yerr=reach,
            color=BLUE,
            marker="o",
            ls="",
            capsize=4,
            elinewidth=1,
            label="estimated (95 %)",
        )
    if bound.any():
        axes.plot(at[bound], high[bound], color=BLUE, marker="v", ls="", label="estimated, at most")
    axes.axhline(estimates[0].reference, color=ORANGE, ls="--", label="of the reference")
    seen = [(place, one.observed) for place, one in enumerate(watched) if one.observed is not None]
    if seen:
        accuracy = np.array([each.accuracy for _, each in seen])
        reach = [accuracy - [each.low for _, each in seen], [each.high for _, each in seen] - accuracy]
        places = [place + 0.08 for place, _ in seen]
        axes.errorbar(places, accuracy, yerr=reach, color=GREEN, marker="s", ls=":", capsize=4, label="observed (95 %)")
    axes.set(ylabel="accuracy", ylim=(min(axes.get_ylim()[0], 0.8), 1.005))
    _named(axes, watched)
    _explained(figure)
    axes.set_title("Accuracy by window")
    return figure


def _explained(figure: Figure) -> None:
    """Below the axes: no corner of such a plot is free of points for good and bad windows alike."""
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)


def _named(axes: Axes, watched: Sequence[WatchedWindow]) -> None:
    step = -(-len(watched) // _MOST_NAMES)
    places = range(0, len(watched), step)
    axes.set_xticks(list(places), [watched[place].name for place in places], rotation=30, ha="right", fontsize=8)
    axes.grid(axis="y", color=PALE, alpha=0.3)
