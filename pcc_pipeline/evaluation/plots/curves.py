"""ROC, precision-recall and calibration curves, for two classes or a hundred and fifty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pcc_pipeline.evaluation.metrics import confidence_bins, expected_calibration_error
from pcc_pipeline.evaluation.plots.style import BLUE, ORANGE, PALE, blank, line_style, note, short
from pcc_pipeline.evaluation.ranking import FloatArray, IntArray, mean_of_measured, one_vs_rest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Up to this many classes each curve has its own colour and a line in the legend; beyond it only the worst ones have.
_MOST_NAMED = 10
_WORST_NAMED = 5
# Up to this many classes the calibration of each is drawn beside the top label's.
_MOST_CALIBRATED = 4
# Finer where a logarithmic axis shows more.
_GRID = np.union1d(np.linspace(0, 1, 501), np.geomspace(1e-4, 1, 201))
# A share of so few rows says little: a bin with fewer is not drawn.
_FEWEST_IN_BIN = 10
# Where the axis of the false positive rate begins with many classes, whose curves all turn near its left end.
_SMALLEST_RATE = 1e-3


def roc_curve(
    y_true: IntArray, probabilities: NDArray[Any], classes: Sequence[str], what: str, *, positive: int = 1
) -> Figure:
    """False against true positive rate: the positive class of two, or every class against the rest with their mean.

    The mean curve is the mean true positive rate at each false positive rate (Fawcett, 2006, "vertical averaging"); the
    number beside it is the mean of the classes' areas, `roc_auc` of the metrics.
    """
    from sklearn.metrics import roc_curve as points

    areas = one_vs_rest(y_true, probabilities).roc_auc
    drawn = _drawn(areas, positive)
    if not drawn:
        return note("No class has rows on both sides.", f"ROC curve\n{what}")
    curves = {label: points(y_true == label, probabilities[:, label])[:2] for label in drawn}
    mean = np.mean([np.interp(_GRID, x, y) for x, y in curves.values()], axis=0)
    # np.interp takes the last of several points at one place, but the mean curve starts where all curves do.
    mean[0] = 0.0
    figure, axes = blank(7.5, 6.5)
    chance = np.geomspace(_SMALLEST_RATE, 1, 200)
    axes.plot(chance, chance, color=PALE, linestyle=":", linewidth=1)
    _draw(axes, curves, (_GRID, mean), areas, classes, "area", "default")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    if len(drawn) > _MOST_NAMED:
        axes.set_xscale("log")
        axes.set(xlabel="false positive rate, logarithmic", xlim=(_SMALLEST_RATE, 1.02))
    axes.set_title(f"ROC curve{_whose(drawn, classes)}\n{what}")
    axes.legend(loc="lower right", fontsize=8, title="area under the curve", title_fontsize=8)
    return figure


def precision_recall_curve(
    y_true: IntArray, probabilities: NDArray[Any], classes: Sequence[str], what: str, *, positive: int = 1
) -> Figure:
    """Recall against precision, in steps: the positive class of two, or every class against the rest with their mean.

    The steps are those whose area is average precision (no line between points, which would promise too much: Davis and
    Goadrich, 2006). The number beside the mean curve is the mean of the classes' areas, `pr_auc` of the metrics.
    """
    from sklearn.metrics import precision_recall_curve as points

    areas = one_vs_rest(y_true, probabilities).pr_auc
    drawn = _drawn(areas, positive)
    if not drawn:
        return note("No class has rows on both sides.", f"Precision-recall curve\n{what}")
    curves: dict[int, tuple[FloatArray, FloatArray]] = {}
    for label in drawn:
        precision, recall, _ = points(y_true == label, probabilities[:, label])
        curves[label] = recall[::-1], precision[::-1]
    # Up to a recall holds the precision of the first threshold that reaches it.
    mean = np.mean([y[np.searchsorted(x, _GRID[1:] - 1e-12)] for x, y in curves.values()], axis=0)
    figure, axes = blank(7.5, 7.5)
    prevalence = float(np.mean([np.mean(y_true == label) for label in drawn]))
    shown = f"{prevalence:.3f}  labels given by chance: {'prevalence' if len(drawn) == 1 else 'mean prevalence'}"
    axes.axhline(prevalence, color=PALE, linestyle=":", linewidth=1.5, label=shown)
    _draw(axes, curves, (_GRID[1:], mean), areas, classes, "average precision", "steps-pre")
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.set_title(f"Precision-recall curve{_whose(drawn, classes)}\n{what}")
    # No corner of this plot is free of curves for good and bad models alike, so the legend stands below it.
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, title="average precision", title_fontsize=8)
    return figure


def _drawn(areas: FloatArray, positive: int) -> list[int]:
    """The classes that get a curve: the positive one of two, else all that can be measured."""
    labels = [positive] if areas.size == 2 else range(areas.size)
    return [label for label in labels if not np.isnan(areas[label])]


def _whose(drawn: list[int], classes: Sequence[str]) -> str:
    if len(classes) == 2:
        return f" of {short(classes[drawn[0]], 40)}"
    return f", {len(drawn)} of {len(classes)} classes, each against the rest"


def _draw(
    axes: Axes,
    curves: dict[int, tuple[FloatArray, FloatArray]],
    mean: tuple[FloatArray, FloatArray],
    areas: FloatArray,
    classes: Sequence[str],
    area: str,
    drawstyle: str,
) -> None:
    """Draw every class's curve, worst area named first, and over them the mean in bold."""
    worst_first = sorted(curves, key=lambda label: (areas[label], label))
    named = worst_first if len(curves) <= _MOST_NAMED else worst_first[:_WORST_NAMED]
    for label in curves.keys() - set(named):
        axes.plot(*curves[label], color=PALE, linewidth=0.5, alpha=0.5, drawstyle=drawstyle, zorder=1)
    if len(curves) > 1:
        text = f"{mean_of_measured(areas):.3f}  mean of {len(curves)} classes"
        axes.plot(*mean, color="black", linewidth=2.6, drawstyle=drawstyle, zorder=4, label=text)
    if len(curves) > len(named):
        axes.plot([], [], color=PALE, linewidth=1, label=f"each of the other {len(curves) - len(named)}")
        axes.plot([], [], color="none", label=f"the {len(named)} worst by {area}:")
    for place, label in enumerate(named):
        # The number first: a legend leaves out what starts with an underscore, and labels may.
        colour, dash = line_style(place)
        text = f"{areas[label]:.3f}  {short(classes[label], 34)}"
        axes.plot(
            *curves[label], color=colour, linestyle=dash, linewidth=1.4, drawstyle=drawstyle, zorder=3, label=text
        )


def calibration_curve(
    y_true: IntArray, probabilities: NDArray[Any], classes: Sequence[str], what: str, *, bins: int = 15
) -> Figure:
    """How often the prediction is right where the model is so sure, and below it how many rows are that sure.

    The bins are those of `metrics.expected_calibration_error`, drawn at their mean confidence; those of under ten rows
    leave a gap. Up to 4 classes, each class's own probability is drawn as well. Above the diagonal the model is too
    modest, below it too sure.
    """
    from matplotlib.figure import Figure

    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == y_true
    figure = Figure(figsize=(7.5, 7.5), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1, label="perfect calibration")
    if len(classes) <= _MOST_CALIBRATED:
        for place, label in enumerate(classes, start=1):
            own = probabilities[:, place - 1].astype(np.float64)
            x, y = _reliability(own, y_true == place - 1, bins)
            colour, _ = line_style(place)
            axes.plot(x, y, color=colour, linestyle="--", marker=".", linewidth=1, label=f"class {short(label, 34)}")
    x, y = _reliability(confidence, right, bins)
    axes.plot(x, y, color=BLUE, marker="o", linewidth=2, label="predicted class")
    below.hist(confidence, bins=np.linspace(0, 1, bins + 1).tolist(), color=BLUE, edgecolor="white")
    below.axvline(confidence.mean(), color="black", linewidth=1.2, label=f"mean confidence {confidence.mean():.3f}")
    below.axvline(right.mean(), color=ORANGE, linewidth=1.2, linestyle="--", label=f"accuracy {right.mean():.3f}")
    below.legend(loc="upper left", fontsize=8)
    below.set(xlabel="probability given by the model", ylabel="rows")
    axes.set(ylabel="share of those rows that have the class", xlim=(-0.01, 1.01), ylim=(-0.02, 1.02))
    axes.legend(loc="best", fontsize=8)
    error = expected_calibration_error(y_true, probabilities, bins)
    fewest = f"bins of under {_FEWEST_IN_BIN} rows not drawn"
    axes.set_title(f"Calibration, expected error {error:.3f} in {bins} bins; {fewest}\n{what}")
    return figure


def _reliability(proba: FloatArray, true: NDArray[np.bool_], bins: int) -> tuple[FloatArray, FloatArray]:
    """Mean probability and share of true rows in each bin; NaN where it has too few rows for a share."""
    place = confidence_bins(proba, bins)
    rows = np.bincount(place, minlength=bins)
    # What is not a number interrupts a line.
    enough = np.where(rows >= _FEWEST_IN_BIN, rows, np.nan)
    mean = np.bincount(place, weights=proba, minlength=bins) / enough
    return mean, np.bincount(place, weights=true, minlength=bins) / enough
