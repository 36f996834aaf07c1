"""What stands around a step: the options that `mlflow run` hands on, the terminal's letters, the user's name."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.projects.utils import load_project

from pcc_pipeline.command_line.commands import step_commands
from pcc_pipeline.command_line.commands.step_commands import STEPS

REPOSITORY = Path(__file__).parents[2]
ENTRIES = ("main", "embed", "train", "evaluate", "score", "promote")
PRINTS = (
    "import sys; from pcc_pipeline.command_line import running as c; c.any_text_prints(); "
    "sys.exit(c.exit_code(lambda: 'é… done', debug=False, {}))"
)


def in_python(code: str, stdout: int = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY / "entrypoints",
        env={**os.environ, **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_project_file_names_the_options_that_an_entry_point_uses(entry: str) -> None:
    """And hands them on: also a value that begins with a dash is a value."""
    project = load_project(str(REPOSITORY)).get_entry_point(entry)
    (step,) = [step for step in STEPS if step.entry == entry]
    assert list(project.parameters)[:1] == ["params_file"]
    assert sorted(project.parameters) == sorted(["params_file", "set", *(option.name for option in step.options)])
    values = {name: f"-{name} of 'Anna'" for name in project.parameters}
    program, script, *arguments = shlex.split(project.compute_command(dict(values), None))
    assert (program, script) == ("python", f"entrypoints/{entry}.py")
    options = vars(step.parser(script).parse_args(arguments))
    assert {name: options[name] for name in values} == {**values, "set": [values["set"]]}


def test_help_shows_the_options_that_a_step_uses_and_no_others() -> None:
    by_name = {step.name: step.parser(step.name).format_help() for step in STEPS}
    search = ("--search-method", "--n-iter", "--model-type")
    tested = ("run", "embed", "train", "evaluate", "promote")
    for name, shown in by_name.items():
        assert all((option in shown) is (name in ("run", "train", "retrain")) for option in search), name
        assert ("--test-data" in shown) is (name in tested), name
        assert ("--label " in shown) is (name not in ("score", "erase")), name
        assert all(option in shown for option in ("--params-file", "--set", "--verbose", "--debug")), name
        assert ("--data " in shown) is (name not in ("retrain", "erase")), name  # they find their files themselves
        assert "--n_iter" not in shown, name


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_summary_prints_in_any_encoding(encoding: str) -> None:
    done = in_python(PRINTS.format("unprinted=0"), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"\\xe9" if encoding == "ascii" else b"\xe9") + b"\\u2026 done\n"


@pytest.mark.parametrize("script", [*ENTRIES, "manage_models"])
def test_help_prints_in_any_encoding(script: str) -> None:
    done = in_python(f"import {script}; {script}.main(['--help'])", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"usage: ")


@pytest.mark.parametrize("unprinted", [0, 1])
def test_a_text_that_cannot_be_written_is_told_and_a_summary_fails_no_work(unprinted: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = in_python(PRINTS.format(f"unprinted={unprinted}"), full, PYTHONIOENCODING="utf-8")
    finally:
        os.close(full)
    assert done.returncode == unprinted
    told = done.stderr.decode()
    assert "the answer cannot be written: No space left on device" in told
    assert ("é… done" in told) is (unprinted == 0)
    assert "Traceback" not in told


STRANGER = """
import mlflow
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.runs import step_run
with step_run("promote") as opened:
    print(account(), mlflow.get_run(opened.run_id).data.tags["mlflow.user"])
"""


def others_may_enter(place: Path) -> bool:
    """Whether another user may pass all folders that lead to a place, as not where the project lies in root's home."""
    return all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents))


OTHERS_MAY_ENTER = others_may_enter(REPOSITORY) and others_may_enter(Path(sys.prefix))


@pytest.mark.skipif(not OTHERS_MAY_ENTER, reason="another user may not enter the project's folder")
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root may become a user that the system does not know, by setpriv",
)
@pytest.mark.long
def test_a_user_id_without_an_entry_makes_runs_and_promotes() -> None:
    # It still reads the files of root, where Python may lie.
    stranger = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    stranger += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # pytest's own folders are root's alone
        Path(folder).chmod(0o777)
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "TMPDIR": folder}
        done = subprocess.run(
            [*stranger, sys.executable, "-c", STRANGER],
            cwd=folder,
            env={**environment, **store, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "uid-54321 uid-54321"


@pytest.mark.skipif(not OTHERS_MAY_ENTER, reason="another user may not enter the project's folder")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user that may not enter a folder")
def test_a_store_in_a_folder_that_may_not_be_entered_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    code = (
        "import os, manage_models; from pcc_pipeline.manage import queries; os.setgid(54321); os.setuid(54321); "
        "raise SystemExit(manage_models.main(['list']))"
    )
    done = in_python(code, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    assert done.returncode == 1
    assert b"MLflow's database cannot be opened: unable to open database file" in done.stderr


def test_a_server_that_went_away_once_the_work_was_done_does_not_hold_the_summary_back(mlflow_of_its_own: None) -> None:
    """MLflow's client would ask it for minutes, and the summary is printed after that."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    mlflow.set_tracking_uri(address)
    began = time.monotonic()
    assert step_commands._where_runs_are() == [f"look at the runs: {address}"]
    assert time.monotonic() - began < 20
