"""What a training of many rows learned from a sample of them, or did in another way, said on its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.quality.counts import class_counts
from pcc_pipeline.model.balance import rows_once_balanced
from pcc_pipeline.model.fitting import Recipe


@dataclass(frozen=True)
class Sampled:
    """Of a training of more rows than `model.in_memory_rows`, or of more than balancing could make of them.

    Attributes:
        rows, of: of the sample, and all rows that the model learns from.
        uses: what learned from the sample; empty where nothing did.
        balance: the balancing that was asked for, and what took its place; None where it was used.
        balanced: how many rows it would have made of them; 0 where it was used.
    """

    rows: int
    of: int
    uses: tuple[str, ...] = ()
    balance: tuple[str, str] | None = None
    balanced: int = 0

    @classmethod
    def of_training(
        cls,
        params: Params,
        labels: np.ndarray,
        learned: np.ndarray,
        recipe: Recipe,
        *,
        folds: int | None,
        lexical: bool,
    ) -> Sampled:
        """Of a training.

        Args:
            labels, learned: as of `recipe_of`.
            folds: the rows that folds were made of; None where there were no folds.
            lexical: whether TF-IDF and SVD were learned.
        """
        most, count = params.model.in_memory_rows, len(learned)
        method = params.preprocessing.balance_for(class_counts(list(labels)).imbalance)
        replaced = None if method == recipe.balance_method else (method, recipe.balance_method)
        balanced = rows_once_balanced(class_counts(list(learned)).counts.values()) if replaced else 0
        if count <= most:
            return cls(count, count, (), replaced, balanced)
        in_search = folds is not None and len(labels) > most
        uses = (
            *(["search and calibration"] if in_search else []),
            *(["lexical half"] if lexical else []),
            *(["choice of features"] if recipe.rankings else []),
        )
        return cls(folds if folds is not None and in_search else most, count, uses, replaced, balanced)

    def document(self) -> dict[str, Any]:
        """The part of metadata.json."""
        return {
            "rows": self.rows,
            "of": self.of,
            "uses": list(self.uses),
            "balance_replaced": None if self.balance is None else list(self.balance),
        }

    @property
    def tags(self) -> dict[str, str]:
        """By which runs are found that learned something from a sample."""
        return {"pcc.sampled_rows": f"{self.rows} of {self.of}: {', '.join(self.uses)}"} if self.uses else {}

    @property
    def line(self) -> tuple[str, ...]:
        """What the summary says."""
        if not self.uses:
            return ()
        return (f"{', '.join(self.uses)} by {self.rows:,} of {self.of:,} training rows (model.in_memory_rows)",)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was asked for and not done."""
        if self.balance is None:
            return ()
        method, instead = self.balance
        done = "classes are weighed instead (class_weight)" if instead == "class_weight" else "nothing is balanced"
        why = (
            f"makes no rows beside {self.of:,}, more than model.in_memory_rows"
            if self.rows < self.of
            else f"would make {self.balanced:,} rows of {self.of:,}, more than twice model.in_memory_rows"
        )
        return (f"preprocessing.balance_method: {method} {why}; {done}.",)
