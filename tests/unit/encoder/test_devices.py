"""Each process of a machine with several GPUs takes one for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pcc_pipeline.encoder.devices import first_free

NAMES = ["GPU-aa", "GPU-bb"]


def _process(folder: Path) -> subprocess.Popen[str]:
    """One that takes a GPU, says which, and keeps it until its input ends."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom pcc_pipeline.encoder.devices import first_free\n"
        f"print(first_free({NAMES}, Path({str(folder)!r})), flush=True)\nsys.stdin.read()\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _number(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_processes_spread_over_the_gpus_and_a_killed_one_lets_its_own_go(tmp_path: Path) -> None:
    processes = [_process(tmp_path), _process(tmp_path)]
    try:
        taken = [_number(process) for process in processes]
        assert sorted(taken) == [0, 1]
        processes.append(_process(tmp_path))
        assert _number(processes[2]) == processes[2].pid % 2  # all are taken, so it shares one
        processes[1].kill()
        processes[1].wait()
        processes.append(_process(tmp_path))
        assert _number(processes[3]) == taken[1]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_where_no_mark_can_be_written_the_process_id_decides(tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_text("")
    assert first_free(NAMES, file / "gpus") == os.getpid() % 2
