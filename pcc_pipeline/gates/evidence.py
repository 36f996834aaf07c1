"""What is known of a version and of the champion, gathered before judging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FieldTest:
    """The newest `ab_test` run of the version against the champion.

    Attributes:
        low: what its accuracy is more than the champion's at least.
        rows: labelled cases of both.
        when: with its time zone.
    """

    run_id: str
    verdict: str
    low: float
    rows: int
    when: datetime


@dataclass(frozen=True)
class GateEvidence:
    """All that any gate may ask for.

    Attributes:
        metrics: the version's metrics under their names in MLflow (`test/f1_macro`, `test/class/<label>/recall`).
        labels: true labels of the test rows, shape (rows,).
        predicted: the version's labels for these rows, shape (rows,).
        champion_predicted: the champion's labels for the same rows, or for those that `compared` marks; None without a
            champion, or if it has none.
        data_time: the newest timestamp of the training data, else the time of training. Naive times are UTC.
        dated: whether that is a timestamp of the data.
        now: the time to reckon age from.
        encoder_digest: of the encoder that the version was trained with.
        serving_digest: of the encoder that serves: the champion's, or the one installed here.
        champion_version: None while there is no champion.
        test_fault, champion_fault: why there are no test rows, or no predictions of the champion; empty if there are.
        compared: the test rows that the champion has not learned, booleans of shape (rows,); None for all.
        champion_note: what to know of the comparison; may be empty.
        field_test: None where there is none, or no gate asks for it.
    """

    metrics: Mapping[str, float]
    labels: NDArray[Any]
    predicted: NDArray[Any]
    champion_predicted: NDArray[Any] | None
    data_time: datetime | None
    now: datetime
    encoder_digest: str
    serving_digest: str | None
    champion_version: str | None
    test_fault: str = ""
    champion_fault: str = ""
    compared: NDArray[np.bool_] | None = None
    champion_note: str = ""
    dated: bool = True
    field_test: FieldTest | None = None
