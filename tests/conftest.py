"""What every test may use, and the watch over runs that a test leaves open."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests import process_state

REPOSITORY = Path(__file__).parents[1]
BUCKET = "pcc-test"
# Names the home folder of the tests, for the processes that they start.
_HOME = "TESTS_OWN_HOME"


def _own_home() -> None:
    """Give the tests, and whatever they start, an empty home folder.

    By its defaults a command reads `~/.config/pcc_pipeline`: a key or a list of erased persons of who runs the tests
    would be in their way, and they in its. Caches and settings of other programs, which cost time alone, stay.
    """
    if _HOME in os.environ:  # a process that the tests' first one started
        return
    before, made_in = Path.home(), os.getpid()
    home = tempfile.mkdtemp(prefix="pcc-tests-home-")
    for name, place in (
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_CONFIG_HOME", ".config"),
        ("GIT_CONFIG_GLOBAL", ".gitconfig"),
    ):
        if (before / place).exists():
            os.environ.setdefault(name, str(before / place))
    os.environ["HOME"] = os.environ[_HOME] = home

    def removed() -> None:
        if os.getpid() == made_in:  # no process that was forked
            shutil.rmtree(home, ignore_errors=True)

    atexit.register(removed)


# Set before any library reads them: a forked tokenizer warns of its threads, and a bar for each small file is noise.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
_own_home()
# An outer shell's MLflow, or the run that `mlflow run` made for the tests' own process, is no test's affair.
process_state.forgotten()
# A shell that starts the tests in the background has them ignore Ctrl-C, and the programs that they start as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """A test that leaves MLflow set to its own experiment, or our log at its own volume, fails: later tests inherit it.

    What a fixture of the whole file sets ends with the file.
    """
    yield
    if nextitem is not None and nextitem.path == item.path:
        return
    if left := process_state.forgotten():
        pytest.fail(f"a test of {item.path.name} left {', '.join(left)}: process_state.py undoes it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A test that leaves an MLflow run active fails: the next one would log into it."""
    yield
    mlflow = sys.modules.get("mlflow")
    if mlflow is None:
        return
    left = []
    while (run := mlflow.active_run()) is not None:
        left.append(run.info.run_id)
        mlflow.end_run("KILLED")
    if left:
        pytest.fail(f"the test left {len(left)} active MLflow run(s): {', '.join(left)}")


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: making one takes seconds, copying one does not."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    before = Path.cwd()
    os.chdir(folder)  # the artifacts of its experiment 0 would otherwise lie in the repository
    try:
        MlflowClient(f"sqlite:///{folder}/empty.db").search_experiments()
    finally:
        os.chdir(before)
    return folder / "empty.db"


@pytest.fixture
def mlflow_of_its_own() -> Iterator[None]:
    """What the test sets in MLflow (its server, experiment and run) is forgotten at its end, the environment too."""
    with process_state.mlflow_undone():
        yield


@pytest.fixture
def mlflow_store(
    mlflow_of_its_own: None, empty_mlflow_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An MLflow of this test's own: SQLite and artifacts under tmp_path, which is also the working folder.

    Returns the folder that holds both.
    """
    import mlflow

    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_mlflow_database, tmp_path / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`disk("size=256k")`, `disk("ro,size=64k")`: the folder of a file system of its own, by mount's options."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running gcp-storage-emulator with one bucket."""
    folder = tmp_path_factory.mktemp("emulator")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    address = f"http://127.0.0.1:{port}"
    program = Path(sys.executable).with_name("gcp-storage-emulator")
    command = [str(program), "-d", str(folder / "data"), "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--default-bucket", BUCKET], stdout=log, stderr=log)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{address}/storage/v1/b/{BUCKET}", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        else:
            pytest.fail(f"the emulator does not answer: {(folder / 'log').read_text()}")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture
def bucket(emulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a fresh prefix in the emulator's bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    return f"gs://{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def sample_rows() -> pd.DataFrame:
    """The generated sample set: 900 messages of four intents."""
    from pcc_pipeline.data.sample.messages import sample

    return sample()


def _real_set(name: str) -> Path:
    folder = REPOSITORY.parent / "shared" / "data" / name
    if not (folder / "train.parquet").is_file():
        pytest.skip(f"the real data set {name} is not at ../shared/data of the repository")
    return folder


@pytest.fixture(scope="session")
def banking77() -> Path:
    """Folder with train.parquet and test.parquet: 77 intents of bank customers."""
    return _real_set("banking77")


@pytest.fixture(scope="session")
def bitext() -> Path:
    """Folder with train.parquet and test.parquet: customer-service messages with a column pcc_intent."""
    return _real_set("pcc_bitext")


@pytest.fixture(scope="session")
def sage() -> Path:
    """Folder with train.parquet and test.parquet: privacy reviews."""
    return _real_set("sage_privacy_reviews")
