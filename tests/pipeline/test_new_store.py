"""A local store that does not exist yet: made once, whole, while others wait; MLflow's own way of making it races."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcc_pipeline.data.sample.messages import sample

pytestmark = pytest.mark.pipeline
REPOSITORY = Path(__file__).parents[2]


def _several(outside, folder: Path, *commands: list[str], **environment: str) -> list[tuple[int, str]]:
    """How commands ended that were started at once, and what they said."""
    processes = [outside(folder, *command, **environment) for command in commands]
    said = ["".join(process.communicate(timeout=500)) for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sample(60).to_csv(tmp_path / "cases.csv", index=False)
    return tmp_path


@pytest.mark.long
def test_mlflow_itself_still_races(outside, folder: Path) -> None:
    """MLflow 3.17: its store does not take its own lock, and of processes that start together on no store some fail.

    Once this finds none in ten tries, `tracking/local_store.py` is no longer needed for that.
    """
    code = "from mlflow import MlflowClient; MlflowClient().search_experiments()"
    for attempt in range(10):
        place = folder / str(attempt)
        place.mkdir()
        store = f"sqlite:///{place}/mlflow.db"
        done = _several(outside, place, *[[sys.executable, "-c", code]] * 4, MLFLOW_TRACKING_URI=store)
        if any(code for code, _ in done):
            return
    pytest.fail("MLflow no longer races when it makes a store")


@pytest.mark.long
def test_runs_that_start_together_on_no_store_all_succeed(outside, folder: Path) -> None:
    """As `make run` and the README's plain commands start them, and beside them the scripts by themselves."""
    script = str(REPOSITORY / "entrypoints")
    options = ["--params-file", str(REPOSITORY / "params.yaml"), "--data", "cases.csv"]
    outputs = f"PCC_OUTPUT__EMBEDDED_DIR={folder}/outputs/$$ PCC_OUTPUT__REJECTED={folder}/outputs/$$.parquet"
    by_mlflow = (
        f"python {script}/manage_models.py init && {outputs} mlflow run {REPOSITORY} --env-manager local -e embed "
        f"--experiment-name pcc-intent -P data={folder}/cases.csv"
    )
    by_script = ["python", f"{script}/embed.py", *options, "--set", "output.embedded_dir=outputs/own"]
    done = _several(outside, folder, *[["sh", "-c", by_mlflow]] * 3, by_script)
    assert [code for code, _ in done] == [0, 0, 0, 0], "\n\n".join(said for _, said in done)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store:
        assert store.execute("SELECT status, count(*) FROM runs GROUP BY status").fetchall() == [("FINISHED", 4)]
    assert (folder / "mlflow.db").stat().st_mode & 0o777 == 0o600
    assert (folder / "mlruns").stat().st_mode & 0o777 == 0o700
    assert not list(folder.glob(".partial-*"))


@pytest.mark.long
def test_a_store_that_was_not_made_to_its_end_is_in_nobodys_way(outside, folder: Path) -> None:
    command = ["python", str(REPOSITORY / "entrypoints/manage_models.py"), "init"]
    process = outside(folder, *command)
    deadline = time.monotonic() + 200
    while not list(folder.glob(".partial-*.db")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / "mlflow.db").exists()
    ((code, said),) = _several(outside, folder, command)
    assert code == 0, said
    assert (folder / "mlflow.db").is_file()


def test_a_folder_that_cannot_be_written_is_told_at_once(outside, tmp_path: Path) -> None:
    """Not after MLflow's ten tries and `tracking.patience`."""
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.geteuid() == 0:
        mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", str(folder)]
        if subprocess.run(mount, capture_output=True, timeout=20).returncode:
            pytest.skip("no read-only disk can be mounted here")
    else:
        folder.chmod(0o500)
    started = time.monotonic()
    command = ["python", str(REPOSITORY / "entrypoints/embed.py"), "--params-file", str(REPOSITORY / "params.yaml")]
    try:
        ((code, said),) = _several(outside, folder, command)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(folder)], check=True, timeout=20)
    assert code == 1
    assert "local store cannot be made or written" in said
    assert str(folder) in said
    assert "Traceback" not in said
    assert time.monotonic() - started < 100
