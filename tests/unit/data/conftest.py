"""Real data where it is there, and small frames that keep the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

_REAL_DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def real_data() -> Callable[[str], pd.DataFrame]:
    """Returns a reader of a set's training rows, e.g. `real_data("banking77")`."""

    def read(name: str, side: str = "train") -> pd.DataFrame:
        path = _REAL_DATA / name / f"{side}.parquet"
        if not path.exists():
            pytest.skip(f"the real data set {name} is not at ../shared/data of the repository")
        return pd.read_parquet(path)

    return read


@pytest.fixture
def cases() -> pd.DataFrame:
    """Four good rows with every column but embeddings."""
    return pd.DataFrame(
        {
            "case_id": ["a", "b", "c", "d"],
            "text": ["Delete my account", "Stop the emails", "What do you know about me?", "Where is my parcel"],
            "intent": ["data_deletion", "opt_out", "privacy_request", "other"],
            "confidence": [0.9, 1.0, 0.0, np.nan],
            "timestamp": ["2025-01-06T08:00:00Z", "2025-01-06", "2025-01-06T08:00:00+02:00", None],
            "has_personal_info": ["true", "No", "1", None],
        }
    )
