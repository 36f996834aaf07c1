"""Runs the benchmarks, prints one table, and writes it to benchmarks/RESULTS.md: ours, peer, how many times faster,
and what shows that the work is the same.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import csv_vectors, embedding, l1_solver, random_search, start_up, trial_logging

_RESULTS = Path(__file__).with_name("RESULTS.md")
# What stands between these lines is written anew by each run; the rest of the file is written by hand.
_BEGIN, _END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
_SUITES = {
    "solver": l1_solver,
    "search": random_search,
    "embedding": embedding,
    "reading": csv_vectors,
    "logging": trial_logging,
    "start-up": start_up,
}
_PACKAGES = ("scikit-learn", "imbalanced-learn", "sentence-transformers", "torch", "openvino", "mlflow", "pandas")


@dataclass(frozen=True)
class Row:
    """One comparison: median seconds over the runs, and the spread of the ratio."""

    name: str
    ours: float
    peer: float
    lowest: float
    highest: float
    check: str

    @property
    def cells(self) -> tuple[str, ...]:
        spread = f"{self.lowest:.1f} to {self.highest:.1f}"
        return self.name, f"{self.ours:.2f}", f"{self.peer:.2f}", f"{self.peer / self.ours:.1f}", spread, self.check


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
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(_SUITES)}; default: all")
    parser.add_argument("--runs", type=int, default=3, help="runs of each pair; the median is shown (default 3)")
    given = parser.parse_args()
    if unknown := set(given.suites) - set(_SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    rows = []
    print(f"{'benchmark':<62}{'ours s':>9}{'peer s':>9}{'ratio':>7}  {'lowest to highest':<20}check")
    for suite in given.suites or _SUITES:
        for name, pair in _SUITES[suite].pairs():
            rows.append(compare(name, pair, given.runs))
            name, ours, peer, ratio, spread, check = rows[-1].cells
            print(f"{name:<62}{ours:>9}{peer:>9}{ratio:>7}  {spread:<20}{check}", flush=True)
    if not given.suites:
        _write(rows, given.runs)
        print(f"written to {_RESULTS.relative_to(Path.cwd()) if _RESULTS.is_relative_to(Path.cwd()) else _RESULTS}")
    return 0


def _write(rows: list[Row], runs: int) -> None:
    head = ("benchmark", "ours s", "peer s", "ratio", "lowest to highest", "check")
    table = "\n".join(
        f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *(row.cells for row in rows))
    )
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    told = (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{packages}. Medians of {runs} runs, ours and peer in turn."
    )
    text = _RESULTS.read_text(encoding="utf-8") if _RESULTS.is_file() else f"{_BEGIN}\n{_END}\n"
    made = f"{_BEGIN}\n{told}\n\n{table}\n{_END}"
    _RESULTS.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: made, text, flags=re.DOTALL), encoding="utf-8")


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
