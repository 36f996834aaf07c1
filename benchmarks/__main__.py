"""Runs the benchmarks and prints one table: ours, peer, how many times faster, and what shows the work is the same."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import csv_vectors, l1_solver, random_search


@dataclass(frozen=True)
class Row:
    """One comparison: median seconds over the runs, and the spread of the ratio."""

    name: str
    ours: float
    peer: float
    lowest: float
    highest: float
    check: str


def compare(name: str, pair: Callable[[], tuple[float, float, str]], runs: int) -> Row:
    """Run a pair several times, ours and peer in turn."""
    found = [pair() for _ in range(runs)]
    ratios = [peer / ours for ours, peer, _ in found]
    return Row(
        name,
        statistics.median(ours for ours, _, _ in found),
        statistics.median(peer for _, peer, _ in found),
        min(ratios),
        max(ratios),
        found[-1][2],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each pair; the median is shown (default 3)")
    runs = parser.parse_args().runs
    pairs = [*l1_solver.pairs(), *csv_vectors.pairs(), *random_search.pairs()]
    print(f"{'benchmark':<58}{'ours s':>9}{'peer s':>9}{'ratio':>8}  {'lowest to highest':<20}check")
    for name, pair in pairs:
        row = compare(name, pair, runs)
        spread = f"{row.lowest:.1f} to {row.highest:.1f}"
        print(f"{row.name:<58}{row.ours:>9.2f}{row.peer:>9.2f}{row.peer / row.ours:>8.1f}  {spread:<20}{row.check}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
