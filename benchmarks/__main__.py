"""Runs the benchmarks, prints a table, and writes it to benchmarks/RESULTS.md.

A line of it is ours, the peer, how many times faster, and what shows that the work is the same.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import csv_texts, csv_vectors, embedding, l1_solver, random_search, start_up, trial_logging
from benchmarks.comparison import Comparison

_RESULTS = Path(__file__).with_name("RESULTS.md")
# What stands between these lines is written anew by each run; the rest of the file is written by hand.
_BEGIN, _END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
_SUITES = {
    "solver": l1_solver,
    "search": random_search,
    "embedding": embedding,
    "reading": csv_vectors,
    "texts": csv_texts,
    "logging": trial_logging,
    "start-up": start_up,
}
_PACKAGES = ("scikit-learn", "imbalanced-learn", "sentence-transformers", "torch", "openvino", "mlflow", "pandas")


@dataclass(frozen=True)
class Row:
    """One comparison: median seconds over the runs, and the spread of the ratio."""

    comparison: Comparison
    runs: int
    ours: float
    peer: float | None
    ratios: tuple[float, ...]
    check: str

    @property
    def name(self) -> str:
        return f"{self.comparison.title} {self.comparison.size}".strip()

    @property
    def ratio(self) -> str:
        return "" if self.peer is None else _times(self.peer / self.ours)

    @property
    def cells(self) -> tuple[str, ...]:
        spread = f"{_times(min(self.ratios))} to {_times(max(self.ratios))}" if len(self.ratios) > 1 else ""
        goal = "" if self.comparison.goal is None else f"{self.comparison.goal:g}"
        peer = "" if self.peer is None else f"{self.peer:.2f}"
        return self.name, str(self.runs), f"{self.ours:.2f}", peer, self.ratio, spread, goal, self.check


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 2 else f"{ratio:.1f}"


_HEAD = ("benchmark", "runs", "ours s", "peer s", "ratio", "lowest to highest", "goal", "check")


def compare(comparison: Comparison, runs: int) -> Row:
    """Run a pair several times, ours and peer in turn."""
    runs = min(runs, comparison.most_runs or runs)
    results = [comparison.pair() for _ in range(runs)]
    peers = [peer for _, peer, _ in results if peer is not None]
    return Row(
        comparison,
        runs,
        statistics.median(ours for ours, _, _ in results),
        statistics.median(peers) if peers else None,
        tuple(peer / ours for ours, peer, _ in results if peer is not None),
        results[-1][2],
    )


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(_SUITES)}; default: all")
    parser.add_argument("--runs", type=int, default=3, help="runs of each pair, fewer of long ones (default 3)")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(_SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    begun, rows = time.perf_counter(), []
    print(_line(_HEAD))
    for suite in options.suites or _SUITES:
        for comparison in _SUITES[suite].comparisons():
            rows.append(compare(comparison, options.runs))
            print(_line(rows[-1].cells), flush=True)
    minutes = (time.perf_counter() - begun) / 60
    print(f"{minutes:.1f} minutes")
    if not options.suites:
        _write(rows, minutes)
        print(f"written to {_RESULTS.relative_to(Path.cwd()) if _RESULTS.is_relative_to(Path.cwd()) else _RESULTS}")
    return 0


def _line(cells: Sequence[str]) -> str:
    name, runs, ours, peer, ratio, spread, goal, check = cells
    return f"{name:<58}{runs:>5}{ours:>8}{peer:>8}{ratio:>7}  {spread:<18}{goal:>5}  {check}"


def _write(rows: list[Row], minutes: float) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    circumstances = (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{packages}. The whole took {minutes:.0f} minutes. Medians, ours and peer in turn."
    )
    parts = [
        circumstances,
        _table(_HEAD, [row.cells for row in rows]),
        "Growth with size, ours in seconds and the ratio:",
    ]
    parts.append(_table(("benchmark", "1x", "4x", "16x"), list(_growth(rows))))
    text = _RESULTS.read_text(encoding="utf-8") if _RESULTS.is_file() else f"{_BEGIN}\n{_END}\n"
    made = "\n".join([_BEGIN, "\n\n".join(parts), _END])
    _RESULTS.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: made, text, flags=re.DOTALL), encoding="utf-8")


def _growth(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    for title in dict.fromkeys(row.comparison.title for row in rows if row.comparison.size):
        sizes = {row.comparison.size: row for row in rows if row.comparison.title == title}
        cells = [
            f"{row.ours:.2f}{f', {row.ratio} times' if row.ratio else ''}" if (row := sizes.get(size)) else ""
            for size in ("1x", "4x", "16x")
        ]
        yield title, *cells


def _table(head: Sequence[str], lines: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *lines))


def _processor() -> str:
    try:
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
