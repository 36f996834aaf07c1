"""What `monitor` of a large file takes in time and memory; run by itself: `python -m benchmarks.monitor_memory`.

A model learns 4,000 rows of 584 numbers; then a process of its own looks at the file of as many rows as are asked for,
by day, with all that a look leaves (page, figures, metrics, novel rows). All texts are different, as the contract and
the count of repeats meet them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.embed_memory import PEAK
from benchmarks.vector_rows import DAYS, WIDTH, write_rows

REPOSITORY = Path(__file__).parents[1]
_LEARNED = 4_000
_STEP = (
    f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / 'entrypoints')!r}]\n"
    "import {0}\nassert {0}.main(sys.argv[1:]) == 0\n"
)
_PROMOTE = (
    "from mlflow import MlflowClient\n"
    "MlflowClient().set_registered_model_alias('pcc-intent-classifier', 'champion', '1')\n"
)


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monitor_memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--learned", type=int, default=_LEARNED)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Over a month up to today, those of learned ones before it.
        write_rows(folder / "learned.parquet", options.learned, 0, last=datetime.now(UTC) - timedelta(days=DAYS + 1))
        write_rows(folder / "rows.parquet", options.rows, 1)
        fixed = [
            "--search-method",
            "none",
            "--set",
            "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs",
        ]
        _process(_STEP.format("train"), folder, ["--data", str(folder / "learned.parquet"), *fixed])
        _process(_STEP.format("evaluate") + _PROMOTE, folder, [])
        monitored = ["--data", str(folder / "rows.parquet"), "--windows", "day"]
        said, seconds = _process(_STEP.format("monitor") + PEAK, folder, monitored)
    peak = int(said.splitlines()[-1])
    print(f"monitor, {options.rows:,} rows of {WIDTH} numbers, {DAYS} windows: {seconds:,.1f} s, {peak:,} MB at most")
    return 0


def _process(code: str, folder: Path, options: list[str]) -> tuple[str, float]:
    """What it prints, and seconds."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    begun = time.perf_counter()
    command = [sys.executable, "-c", code, *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout, time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
