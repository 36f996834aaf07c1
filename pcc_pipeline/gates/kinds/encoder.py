"""`encoder`: the version was trained with the sentence encoder that serves."""

from __future__ import annotations

from typing import Literal

from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.gate import Gate, Measured, NotComputableError

_DIGITS_OF_DIGEST = 12


class EncoderGate(Gate):
    """The version was trained with the sentence encoder that serves."""

    kind: Literal["encoder"] = "encoder"

    @property
    def in_words(self) -> str:
        """What an encoder does."""
        return "it was made with the encoder (what turns messages into numbers) that is in use"

    def required(self, evidence: GateEvidence) -> str:
        """The digest of the encoder that serves."""
        return (evidence.serving_digest or "")[:_DIGITS_OF_DIGEST] or "the serving encoder"

    def waits(self, evidence: GateEvidence) -> bool:
        """While the champion's encoder was not looked up."""
        return evidence.champion_version is not None and not evidence.serving_digest

    def measure(self, evidence: GateEvidence) -> Measured:
        """The digest of the encoder that the version was trained with."""
        if not evidence.encoder_digest:
            raise NotComputableError("the version does not say which encoder it was trained with")
        if not evidence.serving_digest:
            raise NotComputableError("the digest of the serving encoder is not known")
        same = evidence.encoder_digest == evidence.serving_digest
        note = "" if same else "vectors of another encoder mean nothing to the model: train it with the one that serves"
        return Measured(evidence.encoder_digest[:_DIGITS_OF_DIGEST], same, note)
