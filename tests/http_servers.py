"""Small registered models and the servers around them, for tests that ask over HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np

from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.features.lexical import fit_lexical
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel, log_trained_model
from pcc_pipeline.tracking.registry import versions
from tests import process_state

NAME = "served"
PHRASES = {
    "data_deletion": ("delete {}", "erase {}", "please remove {} for good", "wipe {} from your systems", "destroy {}"),
    "opt_out": ("stop sending me {}", "unsubscribe me from {}", "no more {} please", "opt me out of {}", "end the {}"),
    "privacy_request": ("send me a copy of {}", "show me {}", "what do you hold on {}?", "let me see {}", "export {}"),
}
THINGS = {
    "data_deletion": ("my account", "all my data", "my address", "my order history"),
    "opt_out": ("newsletters", "calls", "advertising letters", "text messages"),
    "privacy_request": ("my personal data", "the file about me", "my stored records", "what you know of me"),
}
EXAMPLES = [(phrase.format(thing), label) for label in PHRASES for phrase in PHRASES[label] for thing in THINGS[label]]


@dataclass(frozen=True)
class Store:
    """An MLflow store in a folder, or a server's; `folder/empty` is a folder to start commands in."""

    folder: Path
    server: str | None = None

    @property
    def uri(self) -> str:
        return self.server or f"sqlite:///{self.folder}/mlflow.db"

    def add(self, version: str, alias: str | None = None, examples: Sequence[tuple[str, str]] = EXAMPLES) -> str:
        """Train a model, log it and register it as the next version of NAME; its number."""
        with process_state.mlflow_undone():
            mlflow.set_tracking_uri(self.uri)
            found = mlflow.get_experiment_by_name("serving")
            place = None if self.server else str(self.folder / "artifacts")
            experiment = found.experiment_id if found else mlflow.create_experiment("serving", place)
            with mlflow.start_run(experiment_id=experiment) as run:
                logged = log_trained_model(small_model(version, examples), None, {})
            number = versions.register(logged.model_uri, NAME, run.info.run_id, {"pcc.version": version})
            if alias:
                versions.set_alias(NAME, alias, number)
        return number

    def point(self, alias: str, number: str) -> None:
        """Move an alias, as a promotion does."""
        with process_state.mlflow_undone():
            mlflow.set_tracking_uri(self.uri)
            versions.set_alias(NAME, alias, number)


def new_store(folder: Path, server: str | None = None) -> Store:
    (folder / "empty").mkdir(parents=True)
    return Store(folder, server)


def small_model(version: str, examples: Sequence[tuple[str, str]] = EXAMPLES) -> TrainedModel:
    """A model for texts, with the real encoder."""
    texts, labels = [text for text, _ in examples], np.array([label for _, label in examples], dtype=object)
    encoder, lexical = SentenceEncoder(), fit_lexical(texts)
    classes = tuple(sorted(set(labels)))
    classifier = build_classifier("LogisticRegression", {}, Task(len(classes), 0))
    classifier.fit(full_vectors(encoder.encode(texts), lexical, texts), labels)
    return TrainedModel(classifier, lexical, classes, version, encoder.name, encoder.digest, 384, None)


@dataclass(frozen=True)
class Server:
    """A running server and its log."""

    address: str
    log: Path
    process: subprocess.Popen[bytes]
    seconds_to_answer: float


@contextlib.contextmanager
def mlflow_server(store: Store, uri: str = f"models:/{NAME}@challenger") -> Iterator[Server]:
    """`mlflow models serve` of a model."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    with running(store, command, f"http://127.0.0.1:{port}", "/ping") as server:
        yield server


@contextlib.contextmanager
def pcc_server(store: Store, *options: str, scheme: str = "http", wait: bool = True) -> Iterator[Server]:
    """`pcc serve` of what is registered as NAME."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "pcc"), "serve", "--port", str(port)]
    command += ["--set", f"registry.model_name={NAME}", *options]
    with running(store, command, f"{scheme}://127.0.0.1:{port}", "/readyz" if wait else None) as server:
        yield server


@contextlib.contextmanager
def running(store: Store, command: Sequence[str], address: str, path: str | None) -> Iterator[Server]:
    """A server's process, in a session of its own, so that its workers end with it; yields once `path` answers."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": store.uri,
    }
    log = store.folder / f"{time.monotonic_ns()}.log"
    started = time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=store.folder / "empty", env=environment, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        while path is not None and not answers(address, path):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - started < 180, log.read_text()
            time.sleep(0.1)
        yield Server(address, log, process, time.monotonic() - started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        finally:
            with contextlib.suppress(ProcessLookupError):  # all ended at SIGTERM
                os.killpg(process.pid, signal.SIGKILL)


def answers(address: str, path: str) -> bool:
    """Whether a GET of this path gives 200."""
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
