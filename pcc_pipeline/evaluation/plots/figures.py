"""The figures of one evaluated split: a new one has its place in `_TITLES` and in `figures`.

What needs more than labels and probabilities is drawn by its own module here and added by `steps/evaluate.py`. The page
chooses its figures in `evaluation/page/sections.py`; `docs/runs.md` lists all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pcc_pipeline.evaluation.metrics import check
from pcc_pipeline.evaluation.plots.classes import scores_by_class
from pcc_pipeline.evaluation.plots.confusion import confused_pairs, confusion_matrix
from pcc_pipeline.evaluation.plots.curves import calibration_curve, precision_recall_curve, roc_curve
from pcc_pipeline.evaluation.plots.style import note

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What each figure is called where there is nothing to draw.
_TITLES = (
    ("scores_by_class", "Scores by class"),
    ("confusion_matrix", "Confusion matrix"),
    ("confusion_matrix_normalised", "Confusion matrix, by true class"),
    ("confused_pairs", "Most confused pairs"),
    ("roc_curve", "ROC curve"),
    ("precision_recall_curve", "Precision-recall curve"),
    ("calibration_curve", "Calibration"),
)


def figures(
    y_true: ArrayLike, probabilities: ArrayLike, classes: Sequence[str], *, split: str = "test", positive: int = 1
) -> dict[str, Figure]:
    """Every figure of a split, by file stem.

    Args:
        y_true: class indices, shape (n,). Rows of labels unknown to the model (-1) have no place in these figures:
            they are left out, and the titles' row counts say so. Where no row is left, each figure says that.
        probabilities: shape (n, K).
        classes: K labels, in the order of the columns.
        positive: the class whose curves are drawn when K is 2.

    Returns:
        `scores_by_class`, `confusion_matrix`, `confusion_matrix_normalised`, `confused_pairs`, `roc_curve`,
        `precision_recall_curve` and `calibration_curve`.

    Raises:
        ValueError, DataError, ModelError: as `metrics.check`.
    """
    every = np.asarray(y_true)
    known = every >= 0
    _, proba = check(np.where(known, every, 0), probabilities)
    y, proba = every[known].astype(np.intp), proba[known]
    names = [str(label) for label in classes]
    if len(names) != proba.shape[1]:
        raise ValueError(f"expected a label for each of {proba.shape[1]} columns, got {len(names)}")
    left_out = int((~known).sum())
    what = f"{split}, {y.size:,} rows" + (f" ({left_out:,} of unknown label left out)" if left_out else "")
    if not y.size:
        return {stem: note("No row has a label that the model knows.", f"{title}\n{what}") for stem, title in _TITLES}
    predicted = proba.argmax(axis=1)
    return {
        "scores_by_class": scores_by_class(y, predicted, names, what),
        "confusion_matrix": confusion_matrix(y, predicted, names, what),
        "confusion_matrix_normalised": confusion_matrix(y, predicted, names, what, normalised=True),
        "confused_pairs": confused_pairs(y, predicted, names, what),
        "roc_curve": roc_curve(y, proba, names, what, positive=positive),
        "precision_recall_curve": precision_recall_curve(y, proba, names, what, positive=positive),
        "calibration_curve": calibration_curve(y, proba, names, what),
    }
