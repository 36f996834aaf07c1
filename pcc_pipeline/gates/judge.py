"""Whether a version may become the champion: each gate of `registry.gates` against what is known of the version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pcc_pipeline.config.gate_settings import GateSettings
from pcc_pipeline.evaluation.page.facts import GateOutlook
from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.gate import Gate
from pcc_pipeline.gates.verdicts import GateVerdict


def judge(gates: Sequence[GateSettings], evidence: GateEvidence) -> tuple[GateVerdict, ...]:
    """One verdict for each gate, in their order. A gate that cannot be computed has failed.

    Raises:
        TypeError: what cannot judge.
    """
    return tuple(_able(gate).verdict(evidence) for gate in gates)


def outlook(gates: Sequence[GateSettings], evidence: GateEvidence) -> tuple[GateOutlook, ...]:
    """What each gate will say of what an evaluation tells, in their order; those that wait for a promotion say nothing.

    Raises:
        TypeError: what cannot judge.
    """
    return tuple(_outlook(_able(gate), evidence) for gate in gates)


def in_words(gates: Sequence[GateSettings]) -> list[str]:
    """What each gate asks for, in their order, for who has never seen one.

    Raises:
        TypeError: what cannot judge.
    """
    return [_able(gate).in_words for gate in gates]


def take_field_test(gates: Sequence[GateSettings]) -> bool:
    """Whether any gate judges by the newest `ab_test`.

    Raises:
        TypeError: what cannot judge.
    """
    return any(_able(gate).takes_field_test for gate in gates)


class DataAgeLimit(NamedTuple):
    """How old training data may be, in days, and the name of the gate that says so."""

    days: int
    gate: str


def data_age_limit(gates: Sequence[GateSettings]) -> DataAgeLimit | None:
    """The strictest one; None where no gate minds.

    Raises:
        TypeError: what cannot judge.
    """
    able = [_able(gate) for gate in gates]
    limits = [DataAgeLimit(days, gate.name) for gate in able if (days := gate.most_data_days) is not None]
    return min(limits, default=None)


def _outlook(gate: Gate, evidence: GateEvidence) -> GateOutlook:
    if gate.waits(evidence):
        return GateOutlook(gate.name, gate.required(evidence), None)
    verdict = gate.verdict(evidence)
    return GateOutlook(verdict.gate, verdict.required, verdict.passed, verdict.measured, verdict.note)


def _able(gate: GateSettings) -> Gate:
    if not isinstance(gate, Gate):
        raise TypeError(f"cannot judge a {type(gate).__name__}")
    return gate
