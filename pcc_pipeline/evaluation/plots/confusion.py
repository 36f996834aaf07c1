"""The two figures about confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pcc_pipeline.evaluation.metrics import MOST_CONFUSED, confusion_counts, most_confused
from pcc_pipeline.evaluation.plots.style import ORANGE, blank, note, short, shorts
from pcc_pipeline.evaluation.ranking import IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Above this many classes a number no longer fits its cell.
_MOST_NUMBERED = 20


def confusion_matrix(
    y_true: IntArray, predicted: IntArray, classes: Sequence[str], what: str, *, normalised: bool = False
) -> Figure:
    """True class by predicted class, in rows or, normalised, as the share of the true class's rows.

    With more than 20 classes the cells carry no numbers, and their colour goes by the square root, so that a single
    confused row can still be seen beside a full diagonal. A class without rows leaves its normalised line empty.
    """
    from matplotlib.colors import PowerNorm

    n_classes = len(classes)
    counts = confusion_counts(y_true, predicted, n_classes)
    total = counts.sum(axis=1, keepdims=True)
    values = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0) if normalised else counts
    numbered = n_classes <= _MOST_NUMBERED
    size = 9.0 if n_classes <= 10 else 8.0 if numbered else 6.5 if n_classes <= 100 else 6.0
    names = shorts(list(classes), 28)
    figure, axes, beside = _square(n_classes, 0.85 if n_classes <= 10 else 0.6 if numbered else 0.13, names, size)
    top = 1.0 if normalised else max(1, int(counts.max()))
    norm = PowerNorm(1.0 if numbered else 0.5, vmin=0, vmax=top)
    image = axes.imshow(values, cmap="Blues", norm=norm, aspect="auto", interpolation="nearest")
    unit = "share of the true class" if normalised else "rows"
    figure.colorbar(image, cax=beside, label=unit if numbered else f"{unit}, colour by square root")
    axes.set_xticks(range(n_classes), names, rotation=90, fontsize=size)
    axes.set_yticks(range(n_classes), names, fontsize=size)
    if numbered:
        for (row, column), value in np.ndenumerate(values):
            text = "" if np.isnan(value) else f"{value:.2f}" if normalised else f"{value:,}"
            shade = "white" if value > 0.55 * top else "black"
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=size - (n_classes > 10))
    else:
        # A light grid leads the eye from a far cell to its two names.
        between, ends = np.arange(0.5, n_classes - 1), (-0.5, n_classes - 0.5)
        axes.hlines(between, *ends, color="#E6EAEE", linewidth=0.35)
        axes.vlines(between, *ends, color="#E6EAEE", linewidth=0.35)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"Confusion matrix{', by true class' if normalised else ''}\n{what}")
    return figure


def _square(n_classes: int, cell: float, names: Sequence[str], size: float) -> tuple[Figure, Axes, Axes]:
    """A figure with a square of cells `cell` inches wide, room for the names on both sides, and axes for a colour bar.

    The room is reckoned (a wide letter is 0.68 of the font's size wide), since matplotlib's own layout cuts titles
    off where both ticks and squares are given.
    """
    from matplotlib.figure import Figure

    side = max(3.0, cell * n_classes)
    room = 0.6 + 0.68 * size * max(map(len, names)) / 72
    width, height = room + side + 1.3, room + side + 0.7
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((room / width, room / height, side / width, side / height))
    tall = min(side, 6.0)
    bar = ((room + side + 0.2) / width, (room + (side - tall) / 2) / height, 0.2 / width, tall / height)
    return figure, axes, figure.add_axes(bar)


def confused_pairs(
    y_true: IntArray, predicted: IntArray, classes: Sequence[str], what: str, *, most: int = MOST_CONFUSED
) -> Figure:
    """The pairs "true → predicted" that are confused most often: their rows, and share of the true class's rows."""
    from matplotlib.ticker import MaxNLocator

    counts = confusion_counts(y_true, predicted, len(classes))
    total = counts.sum(axis=1)
    pairs = most_confused(counts, most)
    if not pairs:
        return note("No row was given a wrong class.", f"Most confused pairs\n{what}")
    wrong = int(counts.sum() - np.trace(counts))
    figure, axes = blank(10, 1.8 + 0.3 * len(pairs))
    rows = [count for _, _, count in pairs]
    bars = axes.barh(range(len(pairs)), rows, color=ORANGE)
    axes.set_yticks(range(len(pairs)), [f"{short(classes[a])} → {short(classes[b])}" for a, b, _ in pairs], fontsize=8)
    share = [f"{count:,} of {total[a]:,} ({count / total[a]:.0%})" for a, _, count in pairs]
    axes.bar_label(bars, share, padding=3, fontsize=8)
    axes.set_xlim(0, max(rows) * 1.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.set(xlabel="confused rows", ylabel="true class → predicted class")
    axes.set_title(f"The {len(pairs)} most confused pairs: {sum(rows):,} of {wrong:,} wrong rows\n{what}")
    return figure
