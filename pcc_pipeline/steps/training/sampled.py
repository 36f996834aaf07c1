"""What a training of many rows learned from a sample of them, or did in another way, said on its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.data.quality.counts import class_counts
from pcc_pipeline.features.full_vectors import needs_lexical
from pcc_pipeline.model.fitting import Recipe, Rows


@dataclass(frozen=True)
class Sampled:
    """Of a training of more rows than `model.in_memory_rows`.

    Attributes:
        rows, of: of the sample, and all training rows.
        uses: what learned from the sample; empty where nothing did.
        balance: the balancing that was asked for, and what took its place; None where it was used.
    """

    rows: int
    of: int
    uses: tuple[str, ...] = ()
    balance: tuple[str, str] | None = None

    @classmethod
    def of_training(cls, params: Params, train: Rows, recipe: Recipe, searched_rows: int | None) -> Sampled:
        """Of these training rows; `searched_rows`: those that folds were made of, None where there were no folds."""
        most, count = params.model.in_memory_rows, len(train.texts)
        if count <= most:
            return cls(count, count)
        uses = (
            *(["search and calibration"] if searched_rows is not None else []),
            *(["lexical half"] if needs_lexical(train.vectors) else []),
            *(["choice of features"] if recipe.rankings else []),
        )
        method = params.preprocessing.balance_for(class_counts(list(train.labels)).imbalance)
        replaced = None if method == recipe.balance_method else (method, recipe.balance_method)
        return cls(most if searched_rows is None else searched_rows, count, uses, replaced)

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
        return (
            f"preprocessing.balance_method: {method} makes no rows beside {self.of:,}, more than model.in_memory_rows; "
            f"{done}.",
        )
