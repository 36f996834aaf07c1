"""`make` makes an environment that runs, mends one that does not, and installs what its target needs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "deploy" / "venv.sh"
TOOLS = ("find", "grep", "ls", "paste", "sed", "sh", "touch", "tr", "uname")
# Builds a package without dependencies from nothing, so that pip needs no network.
BACKEND = """
import zipfile
def get_requires_for_build_editable(config_settings=None): return []
def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def new_project(folder: Path) -> Path:
    """A project of nothing, and a folder of what stands on PATH: the script's tools and no Python."""
    for name, text in {
        "pyproject.toml": PROJECT,
        "constraints.txt": "",
        "backend.py": BACKEND,
        "mine.txt": "x",
    }.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (1, 1))
    (folder / "bin").mkdir()
    for tool in TOOLS:
        (folder / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return new_project(tmp_path)


def add_python(project: Path, name: str, description: str) -> Path:
    """A Python that says what it is, and that makes no environment but says that it was to."""
    path = project / "bin" / name
    path.write_text(
        f'#!/bin/sh\ncase $1 in -c) echo "{description}" ;; *) echo "$@" >>{project}/calls; exit 1 ;; esac\n'
    )
    path.chmod(0o755)
    return path


def run(project: Path, purpose: str = "to-run", folder: str = ".venv", python: object = "") -> tuple[int, str]:
    command = ["sh", str(SCRIPT), purpose, folder, str(python)]
    environment = {"PATH": str(project / "bin"), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose half-made environment was mended, and all installed."""
    project = new_project(tmp_path_factory.mktemp("installed"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True)
    status, text = run(project, "to-develop", python=sys.executable)
    assert status == 0, text
    assert "half made" in text
    assert "Successfully installed tiny-1" in text
    return project


def test_what_stands_and_is_new_is_used_as_it_is_by_all_targets(installed: Path) -> None:
    for purpose in ("to-develop", "to-run", "to-serve"):
        assert run(installed, purpose) == (0, "")
    assert run(installed, python=sys.executable) == (0, "")


def test_a_changed_list_of_packages_is_installed(installed: Path) -> None:
    (installed / "constraints.txt").touch()
    status, text = run(installed)
    assert (status, "installing what is new into .venv" in text) == (0, True), text
    assert run(installed) == (0, "")


@pytest.mark.parametrize("damage", ["half made", "its Python is gone", "copied from elsewhere", "of another Python"])
def test_a_broken_environment_is_made_anew_and_nothing_else_is_touched(
    damage: str, installed: Path, project: Path
) -> None:
    here, other = sys.version_info[1], 12 if sys.version_info[1] == 11 else 11
    python = add_python(project, "python3.14", "3.14")
    (project / ".venv").mkdir()
    if damage == "half made":
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True)
    elif damage == "its Python is gone":
        (project / ".venv/bin").mkdir()
        (project / ".venv/bin/python").symlink_to("/nowhere/python3.11")
        (project / ".venv/installed").touch()
    else:
        shutil.copytree(installed / ".venv", project / ".venv", symlinks=True, dirs_exist_ok=True)
    if damage == "of another Python":
        script = project / ".venv/bin/pip"
        script.write_text(script.read_text().replace(str(installed), str(project)))
        assert run(project) == (0, "")
        assert run(project, python=add_python(project, "same", f"3.{here}")) == (0, "")
        python = add_python(project, "other", f"3.{other}")
    status, text = run(project, python=python if damage == "of another Python" else "")
    assert status == 1
    assert ".venv is broken, half made or of another Python: making it anew" in text
    assert f"making .venv with {python if damage == 'of another Python' else python.name} (Python 3." in text
    assert (project / "calls").read_text() == "-m venv --clear .venv\n"
    assert (project / "mine.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("pythons", "chosen"),
    [
        ({"python3.13": "3.13", "python3.12": "3.12", "python3": "3.13"}, "python3.12"),
        ({"python3.11": "3.11 without venv", "python3": "3.14"}, "python3"),
        ({"python3.11": "", "python3": "3.13"}, "python3"),
    ],
)
def test_the_first_python_in_range_that_makes_environments_is_taken(
    project: Path, pythons: Mapping[str, str], chosen: str
) -> None:
    """An empty name stands for a program that does not run, such as pyenv's for a version that is not switched on."""
    for name, description in pythons.items():
        add_python(project, name, description)
    status, text = run(project)
    assert (status, text) == (1, f"making .venv with {chosen} (Python {pythons[chosen]})\n")


@pytest.mark.parametrize(
    ("pythons", "message"),
    [
        (
            {"python3": "3.13 without venv"},
            "python3 is Python 3.13 without venv\n  .*apt-get install python3.13-venv; ",
        ),
        ({"python3": "3.10"}, "python3 is Python 3.10\n  name another: make PYTHON=/path"),
        ({"python3": "3.15 without venv"}, "python3 is Python 3.15 without venv\n  name another"),
        ({"python3": "2.7"}, "python3 is Python 2.7"),
        ({}, "none is on PATH"),
    ],
)
def test_where_no_python_will_do_the_message_says_what_is_there_and_what_to_install(
    project: Path, pythons: Mapping[str, str], message: str
) -> None:
    for name, description in pythons.items():
        add_python(project, name, description)
    status, text = run(project)
    assert status == 1
    assert re.search(f"needs Python 3.11 to 3.14 with venv; {message}", text), text
    assert not (project / ".venv").exists()


def test_a_folder_that_is_no_environment_is_left_alone(project: Path) -> None:
    add_python(project, "python3", "3.11")
    status, text = run(project, folder="bin")
    assert (status, text.splitlines()[0]) == (1, "error: bin is no Python environment")
    assert (project / "bin/python3").exists()


@pytest.mark.parametrize(("system", "port"), [("Darwin", 5050), ("Linux", 5000)])
def test_the_port_is_one_that_the_system_leaves_free(tmp_path: Path, system: str, port: int) -> None:
    """On macOS AirPlay listens on 5000."""
    (tmp_path / "uname").write_text(f"#!/bin/sh\necho {system}\n")
    (tmp_path / "uname").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for options, expected in ([], port), (["PORT=5077"], 5077):
        command = ["make", "-n", "ui", *options]
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
        assert f"deploy/local_ui.py --port {expected} " in done.stdout


def test_the_ui_says_that_its_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        command = [sys.executable, str(REPOSITORY / "deploy/local_ui.py"), "--port", str(other.getsockname()[1])]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "name another port: make ui PORT=5050" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_ui_opens_the_store_of_an_address_that_stands_on_no_command_line(tmp_path: Path) -> None:
    """Everybody on the machine sees those, and an address may hold a password."""
    address = f"sqlite:///{tmp_path}/another.db"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(REPOSITORY / "deploy/local_ui.py"), "--port", str(port), "--experiment", "ours"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": address}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as ui:
        assert ui.stdout is not None
        try:
            assert any(line.startswith("the runs:") for line in ui.stdout)
            lines = [" ".join(each.cmdline()) for each in psutil.Process(ui.pid).children(recursive=True)]
        finally:
            ui.terminate()
    assert [line for line in lines if "mlflow ui" in line]
    assert [line for line in lines if address in line] == []
    assert {path.name for path in tmp_path.iterdir()} == {"another.db"}
