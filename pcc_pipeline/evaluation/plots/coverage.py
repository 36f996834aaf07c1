"""What a model may decide alone: accuracy of the rows that it is surest of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcc_pipeline.evaluation.answers import COVERAGES, Answers
from pcc_pipeline.evaluation.plots.style import BLUE, ORANGE, PALE, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def risk_coverage_curve(answers: Answers, n_rows: int, *, split: str = "test") -> Figure:
    """Accuracy against the share of rows that are decided, the surest first, with the point of the model's own rule."""
    curve = answers.curve
    figure, axes = blank(7.5, 5.5)
    # Of a handful of rows the accuracy jumps; the curve begins where it says something.
    shown = curve.coverage >= min(20 / n_rows, 1.0)
    axes.plot(curve.coverage[shown], curve.accuracy[shown], color=BLUE, linewidth=2, label="surest rows first")
    for share in COVERAGES:
        axes.plot(share, curve.at(share), color=BLUE, marker="o", markersize=4)
        axes.annotate(
            f"{curve.at(share):.3f}", (share, curve.at(share)), (0, 7), textcoords="offset points", fontsize=8
        )
    if answers.decided:
        share = answers.decided["share"]
        axes.axvline(share, color=PALE, linestyle=":", linewidth=1.2)
        if "accuracy" in answers.decided:
            accuracy, low, high = (answers.decided[name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
            axes.errorbar(
                share,
                accuracy,
                yerr=[[accuracy - low], [high - accuracy]],
                color=ORANGE,
                marker="D",
                capsize=4,
                linestyle="",
                label=f"the model's rule: decides {share:.1%}, right in {accuracy:.3f} (95 % {low:.3f} to {high:.3f})",
            )
    axes.set(xlabel="share of the rows that are decided", ylabel="accuracy of these", xlim=(0, 1.04))
    axes.set_title(f"What it may decide alone, mean error over shares {curve.area:.4f}\n{split}, {n_rows:,} rows")
    figure.legend(loc="outside lower center", fontsize=8)  # the curve may lie in any corner
    return figure
