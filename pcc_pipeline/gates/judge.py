"""Whether a version may become the champion: each gate of `registry.gates` against what is known of the version."""

from __future__ import annotations

from collections.abc import Sequence

from pcc_pipeline.config.gate_settings import GateSettings
from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.gate import Gate
from pcc_pipeline.gates.verdicts import GateVerdict


def judge(gates: Sequence[GateSettings], evidence: GateEvidence) -> tuple[GateVerdict, ...]:
    """One verdict for each gate, in their order. A gate that cannot be computed has failed.

    Raises:
        TypeError: what cannot judge.
    """
    return tuple(_able(gate).verdict(evidence) for gate in gates)


def _able(gate: GateSettings) -> Gate:
    if not isinstance(gate, Gate):
        raise TypeError(f"cannot judge a {type(gate).__name__}")
    return gate
