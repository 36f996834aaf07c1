"""How the steps grow with their rows, and what 10^8 and 10^9 messages take: `python -m benchmarks.growth`.

Each step runs as a process of its own on 1, 2, 4 and 16 times as many rows. A line, `seconds = start + rows / rate`, is
fitted to the sizes 1, 4 and 16; the size 2 is held out, and the table says how far the line misses it. Memory is the
process's own peak (VmHWM).

From the line follow machine-hours for any number of rows in files of a million, and a plain simulation follows how long
a cluster takes: machines take the next file when they are free; a file takes its mean time, a lognormal spread and,
seldom, several times as long; machines fail at random, lose what they had under way, and come back. Its parameters are
printed with its results, and are options.
"""

from __future__ import annotations

import argparse
import heapq
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.vector_rows import write_rows
from pcc_pipeline.data.sample.messages import sample

REPOSITORY = Path(__file__).parents[1]
_TIMES, _FITTED, _HELD_OUT = (1, 2, 4, 16), (1, 4, 16), 2
_ROWS_A_FILE = 1_000_000
_RUN = f"""
import atexit, sys
sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / "entrypoints")!r}]
def told():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    print("peak", int(line.split()[1]), file=sys.stderr, flush=True)
atexit.register(told)
from pcc_pipeline.command_line import pcc
sys.exit(pcc.main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Line:
    """Seconds by rows."""

    start: float
    per_row: float

    @classmethod
    def fitted(cls, rows: Sequence[int], seconds: Sequence[float]) -> Line:
        """By least squares of relative errors, so that the smallest size counts as much as the largest."""
        table = np.column_stack([np.ones(len(rows)), rows]) / np.asarray(seconds)[:, None]
        start, per_row = np.linalg.lstsq(table, np.ones(len(rows)), rcond=None)[0]
        return cls(max(float(start), 0.0), float(per_row))

    def at(self, rows: float) -> float:
        """Seconds."""
        return self.start + self.per_row * rows


@dataclass(frozen=True)
class Cluster:
    """What its machines are like.

    Attributes:
        spread: sigma of the lognormal factor of a file's time, whose mean is 1.
        stragglers, slower: the share of files that take so many times as long.
        hours_between_failures: of one machine, exponential; `back_after` seconds later it is there again.
    """

    spread: float
    stragglers: float
    slower: float
    hours_between_failures: float
    back_after: float


def makespan(files: int, seconds: float, machines: int, cluster: Cluster, seed: int = 0) -> tuple[float, int]:
    """Seconds until all files are done, and how many were begun again.

    Args:
        seconds: that a file takes, in the mean.
    """
    draws = np.random.default_rng(seed)
    factors = draws.lognormal(-(cluster.spread**2) / 2, cluster.spread, files)
    factors[draws.random(files) < cluster.stragglers] *= cluster.slower
    left, again, ended = list(range(files)), 0, 0.0
    free = [(0.0, machine) for machine in range(machines)]
    heapq.heapify(free)
    failing = draws.exponential(3600 * cluster.hours_between_failures, machines)
    while left:
        now, machine = heapq.heappop(free)
        file = left.pop()
        until = now + seconds * factors[file]
        if failing[machine] < until:
            # What it had under way is lost, and somebody's next.
            left.append(file)
            again += 1
            back = failing[machine] + cluster.back_after
            failing[machine] = back + draws.exponential(3600 * cluster.hours_between_failures)
            heapq.heappush(free, (back, machine))
            continue
        ended = max(ended, until)
        heapq.heappush(free, (until, machine))
    return ended, again


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vectors", type=int, default=10_000, help="rows with vectors, once")
    parser.add_argument("--texts", type=int, default=2_000, help="texts for the encoder, once")
    parser.add_argument("--machines", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--dollars", type=float, default=0.10, help="an hour of a machine such as this one")
    parser.add_argument("--spread", type=float, default=0.1)
    parser.add_argument("--stragglers", type=float, default=0.01)
    parser.add_argument("--slower", type=float, default=4.0)
    parser.add_argument("--hours-between-failures", type=float, default=200.0)
    parser.add_argument("--back-after", type=float, default=300.0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        lines = _measured(Path(name), options.vectors, options.texts)
    cluster = Cluster(
        options.spread, options.stragglers, options.slower, options.hours_between_failures, options.back_after
    )
    print(f"\nfiles of {_ROWS_A_FILE:,} rows; {asdict(cluster)}; {options.dollars} dollars an hour")
    print("step                          rows  machine-hours  dollars  objects  hours by machines")
    for step, line in lines.items():
        if step.startswith(("train", "monitor")):
            continue
        for rows in (10**8, 10**9):
            files = rows // _ROWS_A_FILE
            hours = files * line.at(_ROWS_A_FILE) / 3600
            by = {machines: makespan(files, line.at(_ROWS_A_FILE), machines, cluster) for machines in options.machines}
            by_machines = ", ".join(
                f"{machines}: {ended / 3600:.1f} ({again} again)" for machines, (ended, again) in by.items()
            )
            # Each part is looked for, read and written once, and listed and looked into at the end.
            print(f"{step:26}{rows:>8.0e}{hours:>15,.0f}{hours * options.dollars:>9,.0f}{5 * files:>9,}  {by_machines}")
    return 0


def _measured(folder: Path, vectors: int, texts: int) -> dict[str, Line]:
    write_rows(folder / "learned.parquet", 4_000, 0)
    _timed(folder, ["train", "--data", "learned.parquet", "--search-method", "none"])
    model = ["--model", "models:/pcc-intent-classifier@challenger"]
    sizes = {"vectors": vectors, "texts": texts}
    for times in _TIMES:
        write_rows(folder / f"vectors{times}.parquet", vectors * times, times)
        messages = pd.concat([sample()] * (texts * times // 900 + 1), ignore_index=True)[: texts * times]
        messages["text"] = [f"{text} ({number})" for number, text in enumerate(messages["text"])]
        messages[["text"]].to_csv(folder / f"texts{times}.csv", index=False)
    steps: dict[str, tuple[str, Callable[[int], list[str]]]] = {
        "embed texts": (
            "texts",
            lambda times: ["embed", "--data", f"texts{times}.csv", "--parts", f"embedded{times}/"],
        ),
        "score vectors": (
            "vectors",
            lambda times: ["score", "--data", f"vectors{times}.parquet", "--output", f"scores{times}/", *model],
        ),
        "monitor vectors": ("vectors", lambda times: ["monitor", "--data", f"vectors{times}.parquet", *model]),
        "train vectors, no search": (
            "vectors",
            lambda times: ["train", "--data", f"vectors{times}.parquet", "--search-method", "none"],
        ),
    }
    lines = {}
    print("step                      rows at 1, 2, 4, 16      seconds                       peak MB              line")
    for step, (kind, words) in steps.items():
        rows = [sizes[kind] * times for times in _TIMES]
        runs = [_timed(folder, words(times)) for times in _TIMES]
        seconds = dict(zip(_TIMES, (took for took, _ in runs), strict=True))
        line = Line.fitted([sizes[kind] * times for times in _FITTED], [seconds[times] for times in _FITTED])
        lines[step] = line
        miss = line.at(sizes[kind] * _HELD_OUT) / seconds[_HELD_OUT] - 1
        shown = ", ".join(f"{seconds[times]:.1f}" for times in _TIMES)
        peaks = ", ".join(f"{peak:,.0f}" for _, peak in runs)
        print(
            f"{step:26}{rows[0]:>7,} … {rows[-1]:>9,}   {shown:28}  {peaks:24} {line.start:.1f} s + rows / "
            f"{1 / line.per_row:,.0f} a second; misses the held-out size by {miss:+.0%}",
            flush=True,
        )
    return lines


def _timed(folder: Path, words: Sequence[str]) -> tuple[float, float]:
    """Seconds, and the peak in MB."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PCC_PREPROCESSING__CACHE_DIR": "null",
    }
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(done.stderr)
    (peak,) = re.findall(r"^peak (\d+)$", done.stderr, re.MULTILINE)
    return seconds, int(peak) / 1000


if __name__ == "__main__":
    sys.exit(main())
