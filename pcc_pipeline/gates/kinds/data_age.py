"""`data_age`: the training data are not too old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from pcc_pipeline.gates.evidence import GateEvidence
from pcc_pipeline.gates.gate import Gate, Measured, NotComputableError, shown_number
from pcc_pipeline.plurals import counted

# Clocks and time zones disagree by less; newer data than that have a wrong date.
_AHEAD_AT_MOST = timedelta(days=1)


class DataAgeGate(Gate):
    """The training data are `days` old at most."""

    kind: Literal["data_age"] = "data_age"
    days: Annotated[int, Field(strict=True, gt=0)] = 365

    @property
    def in_words(self) -> str:
        """Whose age, and the bound."""
        return f"the messages that it learned from are {self.days} days old or less"

    @property
    def most_data_days(self) -> int:
        """The bound."""
        return self.days

    def required(self, evidence: GateEvidence) -> str:
        """The bound, in days."""
        return f"<= {counted(self.days, 'day')}"

    def measure(self, evidence: GateEvidence) -> Measured:
        """The age of the newest training row, in days."""
        # pandas' NaT is a datetime that equals nothing, itself included.
        if evidence.data_time is None or evidence.data_time != evidence.data_time:
            raise NotComputableError("neither a timestamp of the training data nor the time of training is known")
        age = _utc(evidence.now) - _utc(evidence.data_time)
        day = f"{_utc(evidence.data_time):%Y-%m-%d}"
        if age < -_AHEAD_AT_MOST:
            raise NotComputableError(f"the training data are dated {day}, in the future: a timestamp is wrong")
        days = shown_number(max(age / timedelta(days=1), 0.0), self.days, decimals=1)
        note = "" if evidence.dated else "the data have no times, so their age is counted from the training"
        return Measured(f"{days} days ({day})", age <= timedelta(days=self.days), note)


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
