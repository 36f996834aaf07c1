"""`no_worse_than_champion`: on the same test rows, with a stated confidence, by no more than a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from pcc_pipeline.config.gate_settings import Number, ShareOfOne
from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.gate import ROUNDING, Gate, Measured, NotComputableError, shown_number
from pcc_pipeline.plurals import counted

if TYPE_CHECKING:
    from pcc_pipeline.gates.noninferiority import Difference


class NoWorseThanChampionGate(Gate):
    """With this confidence (one-sided), challenger minus champion on the same test rows is `-margin` or more.

    The default margin is one that a few hundred test rows can show: where 5 % of the rows are labelled differently, a
    version that is just as good passes in 4 of 5 cases with 3,316 rows at a margin of 0.01, 884 at 0.02, 422 at 0.03
    and 174 at 0.05 (`noninferiority.Difference.rows_needed`, accuracy).
    """

    kind: Literal["no_worse_than_champion"] = "no_worse_than_champion"
    metric: Literal["f1_macro", "accuracy", "f1_weighted"] = "f1_macro"
    margin: ShareOfOne = 0.03
    confidence: Annotated[Number, Field(ge=0.5, le=0.995)] = 0.95

    @property
    def name(self) -> str:
        """Its kind and its metric."""
        return f"{self.kind} {self.metric}"

    @property
    def in_words(self) -> str:
        """The metric and the margin."""
        return f"its {self.metric} is not lower than that of the model in use by more than {self.margin:.10g}"

    def required(self, evidence: GateEvidence) -> str:
        """The least difference, and how surely."""
        return f"difference >= {-self.margin:.10g} ({100 * self.confidence:.10g}% sure)"

    def waits(self, evidence: GateEvidence) -> bool:
        """While nobody let the champion answer for these rows."""
        return evidence.champion_version is not None and evidence.champion_predicted is None

    def measure(self, evidence: GateEvidence) -> Measured:
        """The lower confidence bound of the difference. Without a champion there is nothing to be worse than."""
        # Here, so that reading a configuration does not wait for SciPy.
        from pcc_pipeline.gates.noninferiority import paired_difference

        if evidence.champion_version is None and evidence.champion_predicted is None:
            return Measured("no champion", True, "there is no champion yet that the version could be worse than")
        champion = f"champion {evidence.champion_version}" if evidence.champion_version else "the champion"
        if fault := evidence.test_fault or evidence.champion_fault:
            raise NotComputableError(fault)
        if evidence.champion_predicted is None:
            raise NotComputableError(f"{champion} has no predictions for these test rows")
        labels, predicted = evidence.labels, evidence.predicted
        if evidence.compared is not None:
            labels, predicted = labels[evidence.compared], predicted[evidence.compared]
        shapes = [np.shape(column) for column in (labels, predicted, evidence.champion_predicted)]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1 or shapes[0][0] == 0:
            rows = ", ".join("x".join(map(str, shape)) for shape in shapes)
            raise NotComputableError(
                f"labels, version and {champion} must have the same test rows, and some; got {rows}"
            )
        difference = paired_difference(
            labels, predicted, evidence.champion_predicted, self.metric, confidence=self.confidence
        )
        passed = difference.low >= -self.margin - ROUNDING
        beside = f"{self.metric} {difference.challenger:.4f}, {champion} {difference.champion:.4f}, on "
        beside += (
            f"{counted(difference.rows, 'test row')} of which {difference.differing_rows:,} are labelled differently"
        )
        notes = [beside]
        if difference.unmeasured and self.metric != "accuracy":
            notes.append(f"{difference.unmeasured:,} labels that were given have no test rows and are left out")
        if evidence.champion_note:
            notes.append(evidence.champion_note)
        if not passed:
            notes.append(_more_rows(difference, self.margin))
        least = shown_number(difference.low, -self.margin, signed=True)
        return Measured(f"at least {least} (measured {difference.value:+.4f})", passed, "; ".join(notes), beside)


def _more_rows(difference: Difference, margin: float) -> str:
    """Whether these rows could have shown what the gate asks, and how many could."""
    needed = difference.rows_needed(margin)
    otherwise = "raise the gate's margin in registry.gates, or use force with a reason"
    if needed is None:
        return f"no number of rows shows a version that is just as good to be within {margin:.10g}: {otherwise}"
    if needed <= difference.rows:
        return "these rows are enough to show that a version just as good is no worse: this one is not shown to be"
    return (
        f"too few rows to judge: about {needed:,} such test rows show a version that is just as good to be within "
        f"{margin:.10g} in 4 of 5 cases; give more with test_data, {otherwise}"
    )
