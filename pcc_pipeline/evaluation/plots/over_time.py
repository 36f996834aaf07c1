"""What changes with time: a model's scores, and the messages themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pcc_pipeline.evaluation.plots.style import BLUE, GREEN, ORANGE, PALE, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def score_against_time(windows: Sequence[Mapping[str, Any]]) -> Figure:
    """The scores of a backtest's windows, in `Backtest.to_json`'s form, each at the middle of its time."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    figure, axes = blank(8.5, 5)
    ends = [[float(date2num(datetime.fromisoformat(each[name]))) for name in ("starts", "ends")] for each in windows]
    middles = [(start + end) / 2 for start, end in ends]
    scores = [each["f1_macro"] for each in windows]
    low, high = ([abs(each["f1_macro_interval"][end] - each["f1_macro"]) for each in windows] for end in (0, 1))
    axes.errorbar(
        middles,
        scores,
        yerr=[low, high],
        xerr=[(end - start) / 2 for start, end in ends],
        color=BLUE,
        marker="o",
        capsize=4,
        elinewidth=1,
        label="macro F1, trained on all before (95 % interval)",
    )
    axes.plot(
        middles, [each["accuracy"] for each in windows], color=GREEN, marker=".", ls=":", label="accuracy, the same"
    )
    if len(windows) > 1:
        once = [each["f1_macro_trained_once"] for each in windows]
        axes.plot(middles, once, color=ORANGE, marker="s", ls="--", label="macro F1, trained once, before the first")
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.grid(axis="y", color=PALE, alpha=0.3)
    axes.set(xlabel="time of the messages (UTC)", ylabel="score", ylim=(min(axes.get_ylim()[0], 0.9), 1.005))
    axes.legend(loc="lower left", fontsize=8)
    axes.set_title(f"Score against time: {len(windows)} windows, {sum(each['rows'] for each in windows):,} rows")
    return figure
