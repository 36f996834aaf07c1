"""Several processes tell as one, and of a dead one only what it counted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from types import SimpleNamespace as Some
from pcc_pipeline.serving.metrics import Metrics
metrics = Metrics()
version = Some(name=sys.argv[1])
metrics.duty(Some(duty=Some(champion=version, challenger=None), switches=0, refused=[], away=None))
metrics.queued(int(sys.argv[2]))
metrics.rows_refused(1)
print(metrics.text()[0].decode())
"""


def told(folder: Path, *words: str) -> list[str]:
    """The lines that a process of the group tells."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def test_the_queue_and_the_duty_of_a_dead_worker_are_no_more(tmp_path: Path) -> None:
    told(tmp_path, "v1", "7")
    lines = told(tmp_path, "v2", "2")
    assert [line for line in lines if line.startswith("pcc_version_info")] == [
        'pcc_version_info{model_version="v2",role="champion"} 1.0'
    ]
    assert "pcc_queue_texts 2.0" in lines
    assert "pcc_rows_refused_total 2.0" in lines, "what it counted stays counted"
