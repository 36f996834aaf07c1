"""What `train` takes in memory and time on many rows of 584 numbers: `python -m benchmarks.large_training`.

The training is a process of its own. It, and what it starts, is looked at ten times a second:

- resident: pages that are in memory, of all processes, each shared page once (PSS). Those of a mapped file are counted,
  though the system takes them back as soon as anything else needs them.
- anonymous: what the system cannot take back, of all processes.

`peak` is the kernel's own figure of the training process alone (VmHWM), which no look can miss. The phases are what
stands between two lines of the log.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.vector_rows import WIDTH, write_rows

REPOSITORY = Path(__file__).parents[1]
_SECONDS_BETWEEN_LOOKS = 0.1
_MB = 1_000_000
# The peak is told on the way out, so that a training that fails tells it too.
_TRAIN = f"""
import atexit, sys
sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / "entrypoints")!r}]
def told():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    print("peak", int(line.split()[1]) * 1024, file=sys.stderr, flush=True)
atexit.register(told)
import train
sys.exit(train.main(sys.argv[1:]))
"""


@dataclass
class Phase:
    """The time from one line of the log to the next: bytes at most."""

    name: str
    begun: float
    resident: int = 0
    anonymous: int = 0


@dataclass
class Watch:
    """What the looks at a process and those it started have seen."""

    pid: int
    phases: list[Phase] = field(default_factory=lambda: [Phase("start", time.perf_counter())])

    def look(self) -> None:
        resident = anonymous = 0
        try:
            processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        except psutil.Error:
            return
        for process in processes:
            try:
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            except OSError:  # it has ended
                continue
            sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", rollup, re.MULTILINE))
            resident += 1024 * int(sizes.get("Pss", 0))
            anonymous += 1024 * int(sizes.get("Anonymous", 0))
        phase = self.phases[-1]
        phase.resident, phase.anonymous = max(phase.resident, resident), max(phase.anonymous, anonymous)

    @contextmanager
    def looking(self) -> Iterator[None]:
        done = threading.Event()

        def go_on() -> None:
            while not done.wait(_SECONDS_BETWEEN_LOOKS):
                self.look()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_training", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--file", type=Path, help="the rows: made there where it is not, and kept (default: made anew)")
    parser.add_argument("--search", default="none", choices=["none", "grid", "random", "optuna"])
    parser.add_argument("--set", default="", help="further options of the training, as its own --set takes them")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = options.file.absolute() if options.file else folder / "rows.parquet"
        if not file.exists():
            write_rows(file, options.rows, 0, apart=0.2)
        words = ["--data", str(file), "--search-method", options.search]
        return _measured(folder, options.rows, [*words, *(["--set", options.set] if options.set else [])])


def _measured(folder: Path, rows: int, options: list[str]) -> int:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    begun = time.perf_counter()
    command = [sys.executable, "-c", _TRAIN, *options]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watch, peak, said = Watch(process.pid), 0, []
        assert process.stdout is not None
        with watch.looking():
            for line in process.stdout:
                said.append(line.rstrip())
                if match := re.match(r"peak (\d+)$", line):
                    peak = int(match[1])
                else:
                    watch.phases.append(Phase(line.strip()[:90], time.perf_counter()))
                    watch.look()
    seconds = time.perf_counter() - begun
    if process.returncode:
        print("\n".join(said), file=sys.stderr)
        return process.returncode
    ends = [phase.begun for phase in watch.phases[1:]] + [begun + seconds]
    print("resident MB  anonymous MB  seconds  after")
    for phase, end in zip(watch.phases, ends, strict=True):
        if phase.resident:
            took = end - phase.begun
            print(f"{phase.resident / _MB:>11,.0f}{phase.anonymous / _MB:>14,.0f}{took:>9.1f}  {phase.name}")
    matrix = 4 * rows * WIDTH
    resident, anonymous = (
        max(getattr(phase, name) for phase in watch.phases) / _MB for name in ("resident", "anonymous")
    )
    print(
        f"train, {rows:,} rows of {WIDTH} numbers ({matrix / _MB:,.0f} MB): {seconds:,.1f} s, "
        f"peak {peak / _MB:,.0f} MB ({peak / matrix:.2f} times the matrix); all processes {resident:,.0f} MB resident, "
        f"{anonymous:,.0f} MB anonymous"
    )
    print(next((line.strip() for line in said if "validation macro F1" in line), ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
