"""Steps that are ended by signals at random moments leave everything as it should be; by hand, more of them:
`python -m benchmarks.interruptions --times 100`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.pipeline

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.timeout(1000)
def test_steps_that_are_interrupted_once_and_twice_leave_nothing_wrong(tmp_path: Path) -> None:
    """Run, aliases, locks, processes, files, exit code and terminal, after signals in the phases that are delicate."""
    phases = ("registering", "promoting", "searching", "closing")
    options = [option for phase in phases for option in ("--phase", phase)]
    command = [sys.executable, "-m", "benchmarks.interruptions", "--times", "2", *options, "--folder", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PCC_"))}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 faults\n"), done.stdout
