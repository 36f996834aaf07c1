"""What every kind of gate has: its options, what it requires in words, and its verdict on the evidence."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from pcc_pipeline.config.gate_settings import GateSettings
from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.verdicts import GateVerdict

# A mean of exact fractions may miss a bound that it meets by the rounding of floats.
ROUNDING = 1e-12


class NotComputableError(Exception):
    """Why a gate has no answer."""


@dataclass(frozen=True)
class Measured:
    """What the evidence shows, for people to read, whether it passes, and what to know beside it.

    Attributes:
        beside: version and champion on the very same rows; empty of a gate that compares no two.
    """

    shown: str
    passed: bool
    note: str = ""
    beside: str = ""


class Gate(GateSettings):
    """One entry of `registry.gates` that can judge. A subclass has the options of its kind, and is pure."""

    @property
    def name(self) -> str:
        """The first column of the table."""
        return self.kind

    @property
    def in_words(self) -> str:
        """What it asks for, for who has never seen a gate."""
        return self.name

    @abstractmethod
    def required(self, evidence: GateEvidence) -> str:
        """What the gate asks for, in words."""

    @abstractmethod
    def measure(self, evidence: GateEvidence) -> Measured:
        """What the evidence shows of it.

        Raises:
            NotComputableError: the evidence does not tell.
        """

    def waits(self, evidence: GateEvidence) -> bool:
        """Whether it takes what only a promotion looks up: something of the champion."""
        return False

    @property
    def takes_field_test(self) -> bool:
        """Whether the newest `ab_test` of version and champion is to be looked up for it."""
        return False

    @property
    def most_data_days(self) -> int | None:
        """How old training data may be; None where it does not mind. A file is looked at with it before a training."""
        return None

    def verdict(self, evidence: GateEvidence) -> GateVerdict:
        """The line of the table. A gate that cannot be computed has failed, and the note says why."""
        try:
            measured = self.measure(evidence)
        except NotComputableError as reason:
            measured = Measured("not computed", False, str(reason))
        return GateVerdict(
            self.name, self.required(evidence), measured.shown, measured.passed, measured.note, measured.beside
        )


def shown_number(value: float, bound: float, *, decimals: int = 4, signed: bool = False) -> str:
    """With so many decimals, or as many more as show on which side of the bound the value lies."""
    for places in range(decimals, 13):
        shown = f"{value:{'+' if signed else ''}.{places}f}"
        if abs(value - bound) <= ROUNDING or float(shown) != bound:
            break
    return shown
