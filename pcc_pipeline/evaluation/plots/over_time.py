"""What changes with time: a model's scores, and the messages themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from pcc_pipeline.evaluation.over_time.volumes import WEEKDAYS
from pcc_pipeline.evaluation.plots.style import BLUE, COLOURS, GREEN, ORANGE, PALE, blank, short

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
    figure.legend(loc="outside lower center", fontsize=8)  # scores may lie in any corner
    axes.set_title(f"Score against time: {len(windows)} windows, {sum(each['rows'] for each in windows):,} rows")
    return figure


def volumes_over_time(document: Mapping[str, Any]) -> Figure:
    """Messages by day, up to six labels' shares by week, messages by weekday and hour; of `Volumes.to_json`."""
    from matplotlib.dates import date2num
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 7.5), layout="constrained")
    grid = figure.subplot_mosaic([["days", "days"], ["weeks", "weeks"], ["weekdays", "hours"]])
    first = np.datetime64(document["first_day"])
    counts = document["by_day"]
    grid["days"].plot(
        first + np.arange(len(counts)), counts, color=BLUE, linewidth=1, marker="." if len(counts) < 60 else ""
    )
    grid["days"].set(ylabel="messages a day", ylim=(0, None))
    grid["days"].set_title(f"Messages over time: {document['rows']:,} from {first} to {document['last_day']} (UTC)")
    of_week = np.asarray(document["by_week"])
    weeks = np.datetime64(document["first_week"]) + 7 * np.arange(len(of_week))
    seen = of_week > 0
    colours = {}
    for place, (label, rows) in enumerate(document["by_week_of_label"].items()):
        colours[label] = COLOURS[place % len(COLOURS)]
        share = np.asarray(rows)[seen] / of_week[seen]
        grid["weeks"].plot(weeks[seen], share, color=colours[label], marker=".", label=short(label, 34))
    grid["weeks"].set(ylabel="share of the week's messages", ylim=(0, 1.2 * grid["weeks"].get_ylim()[1]))
    grid["weeks"].legend(loc="upper left", fontsize=7, ncols=3)
    for each in document["findings"]:
        if each["kind"] == "break":
            axes = grid["days" if each["label"] is None else "weeks"]
            colour = ORANGE if each["label"] is None else colours.get(each["label"], PALE)
            axes.axvline(float(date2num(np.datetime64(each["when"]))), color=colour, linestyle="--", linewidth=1.2)
    grid["weekdays"].bar([name[:2] for name in WEEKDAYS], document["by_weekday"], color=BLUE)
    grid["weekdays"].set(ylabel="messages", xlabel="weekday")
    if document["by_hour"] is None:
        grid["hours"].set_axis_off()
        grid["hours"].text(0.5, 0.5, "The times are dates: no hours.", ha="center", va="center")
    else:
        grid["hours"].bar(range(24), document["by_hour"], color=BLUE)
        grid["hours"].set(xlabel="hour of the day (UTC)", xlim=(-0.7, 23.7))
    return figure
