"""`ab_test`: in the field, by its newest `ab_test` run against the champion, the version is better, or no worse."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pcc_pipeline.config.gate_settings import Number, ShareOfOne
from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.gate import ROUNDING, Gate, Measured, NotComputableError, shown_number
from pcc_pipeline.plurals import counted


class AbTestGate(Gate):
    """The verdict on the messages of these days: `better`, or worse in accuracy by no more than the margin.

    Both hold with the confidence of the test, however often it was looked at. A test older than `days` says nothing.
    """

    kind: Literal["ab_test"] = "ab_test"
    demand: Literal["better", "no_worse"] = "better"
    margin: ShareOfOne = 0.03
    days: Annotated[Number, Field(gt=0)] = 30.0

    @property
    def name(self) -> str:
        """Its kind and what it demands."""
        return f"{self.kind} {self.demand}"

    @property
    def in_words(self) -> str:
        """What both were tried on, and how it must have ended."""
        better = "better than" if self.demand == "better" else f"no more than {self.margin:.10g} worse than"
        return f"tried on messages of the last {self.days:g} days, it was {better} the model in use (ab_test)"

    @property
    def takes_field_test(self) -> bool:
        """That is what it judges by."""
        return True

    def required(self, evidence: GateEvidence) -> str:
        """The verdict, or the least difference in accuracy."""
        what = "challenger better" if self.demand == "better" else f"accuracy difference >= {-self.margin:.10g}"
        return f"{what}, at most {self.days:g} days ago"

    def waits(self, evidence: GateEvidence) -> bool:
        """While the test was not looked up."""
        return evidence.champion_version is not None and evidence.field_test is None

    def measure(self, evidence: GateEvidence) -> Measured:
        """The verdict and the lower end of the difference. Without a champion there is nothing to be compared with."""
        if evidence.champion_version is None:
            return Measured("no champion", True, "there is no champion yet that the version could be compared with")
        test = evidence.field_test
        if test is None:
            raise NotComputableError(
                f"no ab_test of this version against {evidence.champion_version} is on record: score with "
                "challenger_share or shadow, then pcc ab-test"
            )
        age = (evidence.now - test.when).total_seconds() / 86400
        if age > self.days:
            raise NotComputableError(f"the newest ab_test is {counted(round(age), 'day')} old: {test.run_id}")
        if self.demand == "better":
            return Measured(
                test.verdict, test.verdict == "challenger better", f"on {test.rows:,} labels, {test.run_id}"
            )
        least = shown_number(test.low, -self.margin, signed=True)
        passed = test.low >= -self.margin - ROUNDING and test.verdict != "shares do not match"
        return Measured(f"at least {least} ({test.verdict})", passed, f"on {test.rows:,} labels, {test.run_id}")
