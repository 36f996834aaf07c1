"""What a model goes by: the meaning of the sentence or its spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcc_pipeline.evaluation.explanations.halves_importance import HalvesImportance
from pcc_pipeline.evaluation.plots.style import BLUE, ORANGE, blank, note, shorts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HOW = {
    "contributions": "mean size of what each half adds to a class's score",
    "permutation": "rise of the log loss when a half is shuffled among the rows",
}


def feature_halves(importance: HalvesImportance) -> Figure:
    """The shares of both halves, class by class, the one that goes most by the lexical half on top."""
    shares = importance.lexical_shares
    known = np.flatnonzero(np.isfinite(shares))
    title = f"What the model goes by: sentence half against lexical half\n{_HOW[importance.method]}"
    if not len(known):
        return note("Neither half changes an answer.", title)
    order = known[np.argsort(-shares[known], kind="stable")]
    names = shorts(list(importance.classes), 34)
    many = len(order) > 20
    figure, axes = blank(8.5, 1.7 + (0.16 if many else 0.36) * len(order))
    heights = np.arange(len(order))
    axes.barh(heights, 1 - shares[order], color=BLUE, height=0.8, label="sentence half (384)")
    axes.barh(heights, shares[order], left=1 - shares[order], color=ORANGE, height=0.8, label="lexical half (200)")
    axes.set_yticks(heights, [names[place] for place in order], fontsize=6.5 if many else 9.0)
    axes.set(xlim=(0, 1), xlabel=f"share; of all classes together {importance.lexical_share:.2f} lexical")
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_title(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure
