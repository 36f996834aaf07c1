"""`auto_pipeline.py --every`, as a process that is ended in its work and in its wait."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytestmark = [pytest.mark.pipeline, pytest.mark.long, pytest.mark.timeout(1200)]

REPOSITORY = Path(__file__).parents[2]


def test_it_goes_round_until_it_is_ended_and_begins_where_it_was_cut_off(
    outside: Callable[..., Any], store: Any, small_frame: pd.DataFrame
) -> None:
    (store.folder / "arriving").mkdir()
    small_frame[:160].to_parquet(store.folder / "arriving" / "cases_20260101.parquet", index=False)
    small_frame[160:].to_parquet(store.folder / "scored.parquet", index=False)
    command = [
        *(sys.executable, str(REPOSITORY / "entrypoints" / "auto_pipeline.py"), "--every", "24h"),
        *("--params-file", str(REPOSITORY / "params.yaml"), "--watch", "arriving", "--search-method", "none"),
        *("--monitor", "scored.parquet", "--set", "registry.gates=[] retrain.settle_seconds=0 logging.level=INFO"),
        # A reference profile takes more than the few rows that would validate.
        *("--set", "data.validation_size=0.3"),
    ]

    def until(process: Any, text: str, stream: Any) -> str:
        said, deadline = "", time.monotonic() + 300
        while text not in said:
            line = stream.readline()
            said += line
            assert line, f"it ended: {process.wait()}\n{said}{process.stderr.read()}"
            assert time.monotonic() < deadline, said
        return said

    # In a round: as a step is ended. What was not done is done by the next process.
    process = outside(store.folder, *command)
    until(process, "fitting LogisticRegression", process.stderr)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, out + err
    assert "ended from outside (SIGTERM)" in err
    assert {run.info.status for run in store.runs()} == {"FINISHED", "KILLED"}

    process = outside(store.folder, *command)
    said = until(process, "next round", process.stdout)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert time.monotonic() - began < 20
    assert re.search(r"retrained  version 1 \(v\d+_\d+\) learned 160 rows, and was promoted", said)
    assert "monitored  80 rows of scored.parquet" in said, err
    assert re.search(r"next round \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", said)
    assert "ended      by SIGTERM, between two rounds" in out
