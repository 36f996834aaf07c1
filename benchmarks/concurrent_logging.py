"""Many processes log trials at the same time: seconds per trial, on the store of MLFLOW_TRACKING_URI and on SQLite.

    python -m benchmarks.concurrent_logging --processes 8 --trials 50

Run by hand, with the server of `deploy/local_server.py` or another. It makes an experiment of its own on the server.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping

PROGRAM = """
import sys, time
from pcc_pipeline.search.trials import Trial
from pcc_pipeline.tracking.runs import step_run
from pcc_pipeline.tracking.trial_runs import TrialRuns

trials = int(sys.argv[1])
with step_run("train") as run:
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    with TrialRuns(run, "f1_macro", lambda values: "scikit-learn/lbfgs") as logged:
        for number in range(trials):
            scores = tuple({"f1_macro": 0.5, "accuracy": 0.5} for _ in range(5))
            logged.log(Trial(number, {"C": number}, "complete", scores, 0.5, 0.0, 1.0, "", time.time()))
    print("SECONDS", time.perf_counter() - began, run.writer.kept or "", flush=True)
"""


def seconds(environment: Mapping[str, str], processes: int, trials: int) -> list[float]:
    """How long each process took for its trials; all begin at once, when all are ready."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PROGRAM, str(trials)]
        pipe = subprocess.PIPE
        started = [
            subprocess.Popen(command, cwd=folder, env=dict(environment), stdin=pipe, stdout=pipe, text=True)
            for _ in range(processes)
        ]
        for process in started:
            assert process.stdout is not None
            while process.stdout.readline() != "ready\n":
                assert process.poll() is None, "a process ended before it was ready"
        said = [process.communicate("go\n")[0] for process in started]
    lines = [line.split() for text in said for line in text.splitlines() if line.startswith("SECONDS")]
    assert len(lines) == processes, "a process did not log all its trials"
    assert all(len(line) == 2 for line in lines), "the store was away for some of it"
    return [float(line[1]) for line in lines]


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--trials", type=int, default=50, help="of each process")
    options = parser.parse_args()
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not server.startswith("http"):
        print("error: MLFLOW_TRACKING_URI names no server", file=sys.stderr)
        return 1
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    print(f"{'store':<12}{'processes':>10}{'trials':>8}{'s in all':>10}{'ms a trial':>12}{'of one process':>16}")
    with tempfile.TemporaryDirectory() as folder:
        stores = {"server": server, "SQLite": f"sqlite:///{folder}/mlflow.db"}
        for store, address in stores.items():
            environment = {**os.environ, "MLFLOW_TRACKING_URI": address, "MLFLOW_EXPERIMENT_NAME": name}
            # Tables and experiment are made before anybody is timed.
            seconds(environment, 1, 1)
            for processes in (1, options.processes):
                took = seconds(environment, processes, options.trials)
                whole = processes * options.trials
                each, own = 1000 * max(took) / whole, 1000 * sum(took) / whole
                print(f"{store:<12}{processes:>10}{whole:>8}{max(took):>10.1f}{each:>12.1f}{own:>16.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
