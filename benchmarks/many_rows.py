"""Reading, profiling, splitting and keeping on record who stood in the rows of one file: time and memory by its rows.

    python -m benchmarks.many_rows --rows 625000 2500000 10000000

Each step is a process of its own: `read` loads the labelled rows as a training does (contract, fingerprint, ids), and
`split` splits them after that, no text on two sides, and makes the record of the split and the manifest of persons.
`profile` is `pcc profile`, which keeps no rows. All texts differ; a tenth of the rows is of subjects who wrote before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.embed_memory import REPOSITORY
from pcc_pipeline.data.sample.messages import sample

_BLOCK = 100_000
_READ = """
from pcc_pipeline.config import load_params
from pcc_pipeline.steps.inputs.datasets import load_dataset
params = load_params(None, {"data.path": path, "data.subject_column": "subject"}, (), os.environ)
begun = time.perf_counter()
dataset = load_dataset(path, params)
said["rows"] = len(dataset.frame)
"""
_SPLIT = """
from pcc_pipeline.steps.inputs.split import assign
from pcc_pipeline.steps.records.persons import training_manifest
begun = time.perf_counter()
split = assign(dataset, params, None)
content = training_manifest(params, dataset, split, None).to_bytes()
said["manifest"] = len(content)
"""
_PROFILE = """
from pcc_pipeline.config import load_params
from pcc_pipeline.steps import profile
params = load_params(None, {"data.path": path, "data.subject_column": "subject"}, (), os.environ)
begun = time.perf_counter()
said["rows"] = profile.run(params, labelled=True).profile.rows
"""
_STEPS = {"profile": _PROFILE, "read": _READ, "split": _READ + _SPLIT}
_BEFORE = "import json, os, sys, time\npath, said = sys.argv[1], {}\n"
# Of this program alone, as in benchmarks.embed_memory.
_AFTER = """
said["seconds"] = time.perf_counter() - begun
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
said["MB"] = int(peak.split()[1]) // 1024
print(json.dumps(said))
"""


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[625_000, 2_500_000])
    parser.add_argument("--kind", choices=["parquet", "csv"], default="parquet")
    parser.add_argument("--step", choices=tuple(_STEPS), action="append", help="default: all; repeatable")
    options = parser.parse_args()
    print(f"{'rows':>12} {'file MB':>8}  {'step':<8}{'seconds':>9}{'rows/s':>10}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "key").write_text("ab" * 32, encoding="ascii")
        (folder / "key").chmod(0o600)
        for n_rows in options.rows:
            file = folder / f"rows.{options.kind}"
            _write(file, n_rows)
            for step in options.step or _STEPS:
                said = _said(_STEPS[step], folder, file)
                if said["rows"] != n_rows:
                    raise SystemExit(f"{said['rows']:,} rows of {n_rows:,} were read")
                print(
                    f"{n_rows:>12,} {file.stat().st_size // 2**20:>8,}  {step:<8}{said['seconds']:>9.1f}"
                    f"{n_rows / said['seconds']:>10,.0f}{said['MB']:>9,}",
                    flush=True,
                )
    return 0


def _write(path: Path, n_rows: int) -> None:
    with pq.ParquetWriter(path, _SCHEMA) if path.suffix == ".parquet" else pyarrow.csv.CSVWriter(path, _SCHEMA) as file:
        for block in _blocks(n_rows):
            file.write_table(block)


_SCHEMA = pa.schema([(name, pa.string()) for name in ("case_id", "text", "intent", "subject")])


def _blocks(n_rows: int) -> Iterator[pa.Table]:
    messages, generator = sample(2_000), np.random.default_rng(0)
    texts, labels = list(messages["text"]), list(messages["intent"])
    for start in range(0, n_rows, _BLOCK):
        numbers = np.arange(start, min(start + _BLOCK, n_rows))
        subjects = np.where(generator.random(len(numbers)) < 0.1, numbers // 2, numbers)
        yield pa.table(
            {
                "case_id": [f"case-{number}" for number in numbers],
                "text": [f"{texts[number % 2_000]} ({number})" for number in numbers],
                "intent": [labels[number % 2_000] for number in numbers],
                "subject": [f"person-{number}" for number in subjects],
            },
            schema=_SCHEMA,
        )


def _said(code: str, folder: Path, file: Path) -> dict[str, float]:
    environment = {
        **os.environ,
        "PCC_LINEAGE__KEY_FILE": str(folder / "key"),
        "PCC_LINEAGE__SUPPRESSION_FILE": str(folder / "erased"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    command = [sys.executable, "-c", _BEFORE + code + _AFTER, str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


if __name__ == "__main__":
    sys.exit(main())
