"""Runs, serving and the UI look up no name and call nobody but this machine: every Python process is watched."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from pcc_pipeline.data.sample.messages import sample

pytestmark = pytest.mark.pipeline

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
README = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
# Python runs a module of this name, if it finds one, before anything else. Code that is not Python's is not seen by it.
WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        note(event, arguments[0])
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        note(event, arguments[1][0])

def note(*words):
    with open(os.environ["PCC_TEST_WATCH"], "a", encoding="utf-8") as log:
        log.write(" ".join(str(word) for word in (*words, "|", *sys.orig_argv[:4])) + "\\n")

note("start")
sys.addaudithook(watch)
"""
THIS_MACHINE = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "None", socket.gethostname()}
# By these MLflow thinks that it is being tested, and reports nothing.
TESTING = ("PYTEST_", "GITHUB_ACTIONS", "CI", "GITLAB_CI", "JENKINS_URL", "BUILDKITE", "TF_BUILD")
SILENCERS = ("MLFLOW_", "PCC_", "DO_NOT_TRACK", "HF_", "TRANSFORMERS_", "PYTHON")


class Watch:
    """The environment of a user's shell in which every Python process is watched, and what they did."""

    def __init__(self, folder: Path, cache: Path) -> None:
        place = folder / "watch"
        place.mkdir()
        (place / "sitecustomize.py").write_text(WATCH)
        self.folder, self._log = folder, place / "log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith((*TESTING, *SILENCERS))}
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(place),
            "PCC_TEST_WATCH": str(self._log),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "PCC_PREPROCESSING__CACHE_DIR": str(cache),
        }

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8").splitlines()

    def foreign(self) -> list[str]:
        """What was looked up or called beyond this machine."""
        return [line for line in self.lines() if line.split()[0] != "start" and line.split()[1] not in THIS_MACHINE]

    def started(self, program: str) -> int:
        return sum(line.startswith("start") and program in line for line in self.lines())


@pytest.fixture
def watch(tmp_path: Path, embedding_cache: Path) -> Watch:
    return Watch(tmp_path, embedding_cache)


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    """What the README's plain commands put into the shell."""
    (line,) = re.findall(r"^export ((?:\w+=true ?)+)$", README, flags=re.MULTILINE)
    return dict(pair.split("=") for pair in line.split())


@pytest.fixture(scope="module")
def after_make_run(tmp_path_factory: pytest.TempPathFactory, embedding_cache: Path) -> Watch:
    """A whole `make run` with a search in two workers, in a shell that sets nothing."""
    watch = Watch(tmp_path_factory.mktemp("make-run"), embedding_cache)
    sample(200).to_csv(watch.folder / "cases.csv", index=False)
    options = f"-P data={watch.folder}/cases.csv -P n_iter=2"
    options += " -P set='search.n_jobs=2 model.cv_folds=2 registry.gates=[]' -P promote=auto"
    outputs = {"EMBEDDED_DIR": "embedded", "PREDICTIONS": "predictions.parquet", "METRICS": "metrics.json"}
    outputs |= {"REJECTED": "rejected.parquet", "STUDIES_DIR": "studies", "MODEL_DIR": "models"}
    outputs |= {"LABEL_ISSUES": "issues.parquet"}
    places = {f"PCC_OUTPUT__{name}": str(watch.folder / "outputs" / place) for name, place in outputs.items()}
    # This test's own environment stands for .venv, which is taken as installed.
    prefix = str(Path(sys.prefix))
    watch.run("make", "-C", str(REPOSITORY), "-o", "to-run", "run", f"VENV={prefix}", f"ARGS={options}", **places)
    return watch


@pytest.mark.long
def test_the_watch_sees_what_it_should(watch: Watch) -> None:
    """Without the variables, MLflow 3.17 looks a host up with the first thing that it does: else nothing below would
    prove anything, and the variables were no longer needed.
    """
    watch.run(sys.executable, "-c", "import mlflow, time; mlflow.create_experiment('one'); time.sleep(3)")
    assert any("mlflow-telemetry" in line for line in watch.foreign()), watch.lines()


@pytest.mark.long
def test_a_whole_make_run_looks_no_name_up(after_make_run: Watch) -> None:
    assert after_make_run.started("mlflow run .") == 1
    assert after_make_run.started("entrypoints/main.py") == 1
    assert after_make_run.foreign() == []


@pytest.mark.long
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_an_entry_point_by_itself_looks_no_name_up(watch: Watch, backend: str) -> None:
    """In a shell that sets nothing, and with each library that can run the encoder."""
    sample(60).to_csv(watch.folder / "cases.csv", index=False)
    command = ["python", str(REPOSITORY / "entrypoints/embed.py"), "--params-file", str(REPOSITORY / "params.yaml")]
    watch.run(*command, "--data", "cases.csv", "--set", f"preprocessing.backend={backend} preprocessing.cache_dir=null")
    watch.run("python", str(REPOSITORY / "entrypoints/manage_models.py"), "list")
    assert watch.started("entrypoints/embed.py") == 1
    assert watch.foreign() == []


@pytest.mark.long
def test_the_readmes_plain_commands_look_no_name_up(
    after_make_run: Watch, watch: Watch, variables: dict[str, str]
) -> None:
    """`mlflow run`, `mlflow models serve` and `mlflow ui`, in a shell with the README's variables."""
    watch.environment |= {"MLFLOW_TRACKING_URI": after_make_run.environment["MLFLOW_TRACKING_URI"]} | variables
    command = ["mlflow", "run", str(REPOSITORY), "--env-manager", "local", "--experiment-name", "plain", "-e", "score"]
    sample(40).to_csv(watch.folder / "cases.csv", index=False)
    outputs = {"PCC_OUTPUT__REJECTED": "rejected.parquet", "PCC_OUTPUT__MONITORING_LOG": "log.jsonl"}
    watch.run(
        *command, "-P", f"data={watch.folder}/cases.csv", "-P", f"output={watch.folder}/scores.csv",
        **{name: str(watch.folder / place) for name, place in outputs.items()},
    )  # fmt: skip
    model = "models:/pcc-intent-classifier@champion"
    with Serving(watch, "/ping", "models", "serve", "-m", model, "--env-manager", "local") as address:
        body = b'{"dataframe_records": [{"text": "Please delete my account."}]}'
        request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert b"predicted_label" in answer.read()
    with Serving(watch, "/health", "ui", "--workers", "1") as address:
        # What the page asks before it reports anything itself.
        asked = f"{address}/ajax-api/3.0/mlflow/ui-telemetry"
        assert json.load(urllib.request.urlopen(asked, timeout=60))["disable_ui_telemetry"] is True
    assert watch.started("mlflow") >= 3
    assert watch.foreign() == []


@pytest.mark.long
def test_notebooks_look_no_name_up(after_make_run: Watch, watch: Watch, tmp_path: Path) -> None:
    watch.environment["MLFLOW_TRACKING_URI"] = after_make_run.environment["MLFLOW_TRACKING_URI"]
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        watch.environment[name] = str(tmp_path / name.lower())
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        # As far as its first look at the store: the rest is tested elsewhere.
        code = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        notebook.cells = notebook.cells[: code[2] + 1]
        client = NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(watch.folder)}}
        )
        client.execute(env=watch.environment)
    assert watch.started("ipykernel") >= 1
    assert watch.foreign() == []


class Serving:
    """`mlflow <words>` on a free port while the block runs; its address, once it answers."""

    def __init__(self, watch: Watch, path: str, *words: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._watch, self._path = watch, path
        self._command = ["mlflow", *words, "--host", "127.0.0.1", "--port", str(self._port)]

    def __enter__(self) -> str:
        address = f"http://127.0.0.1:{self._port}"
        self._process = subprocess.Popen(
            self._command, cwd=self._watch.folder, env=self._watch.environment, start_new_session=True
        )
        until = time.monotonic() + 240
        while not self._answers(address):
            assert self._process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.3)
        return address

    def _answers(self, address: str) -> bool:
        try:
            with urllib.request.urlopen(f"{address}{self._path}", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def __exit__(self, *error: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
