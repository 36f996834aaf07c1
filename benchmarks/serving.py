"""`pcc serve` beside `mlflow models serve`: the same model (banking77's 77 labels) and the same texts.

    python -m benchmarks.serving                 throughput and latency by clients, beside the peer with 1 and 2 workers
    python -m benchmarks.serving --part switch   32 clients while promotions, rollbacks and a bad version come
    python -m benchmarks.serving --part memory   after 1,000 and after 100,000 requests
    python -m benchmarks.serving --part overload ten times as many clients as there is room for

It needs banking77 beside the checkout. The texts are those of its test file; the load comes from a second process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from mlflow import MlflowClient

from benchmarks.real_data import FOLDER

_NAME = "pcc-intent-classifier"
_TRAIN, _TEST = FOLDER / "banking77" / "train.parquet", FOLDER / "banking77" / "test.parquet"
_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class _Server:
    address: str
    process: subprocess.Popen[bytes]
    start_seconds: float

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}{path}", timeout=10) as answer:
            return json.load(answer)

    @property
    def megabytes(self) -> float:
        """Resident memory of all of its processes; pages that they share are counted in each."""
        whole = psutil.Process(self.process.pid)
        return float(sum(one.memory_info().rss for one in [whole, *whole.children(recursive=True)]) / 2**20)

    @property
    def cpu_seconds(self) -> float:
        whole = psutil.Process(self.process.pid)
        return float(sum(sum(one.cpu_times()[:2]) for one in [whole, *whole.children(recursive=True)]))


def main() -> None:
    """Measure a part and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=sorted(_PARTS), default="load")
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement; of switch in all: --minutes")
    parser.add_argument("--minutes", type=float, default=5, help="of switch")
    options = parser.parse_args()
    if not _TRAIN.is_file():
        sys.exit(f"banking77 is not there: {_TRAIN}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _train(folder)
        _PARTS[options.part](folder, options)


def _load(folder: Path, options: argparse.Namespace) -> None:
    together, alone = _encode(folder, 512), _encode(folder, 32)
    print(f"encode, in this machine's fastest backend: {together:.0f} texts/s of batches of 512, {alone:.0f} of 32")
    print("| server | clients | requests/s | p50 ms | p95 ms | p99 ms | not 200 | processor ms/request |")
    print("|---|---|---|---|---|---|---|---|")
    with _pcc(folder) as server:
        print(f"<!-- pcc serve: first answer after {server.start_seconds:.1f} s, {server.megabytes:.0f} MB -->")
        _rows("pcc serve", server, "/v1/classify", (1, 8, 32, 128), options.seconds)
    for workers in (1, 2):
        with _mlflow(folder, workers) as server:
            print(f"<!-- mlflow: first answer after {server.start_seconds:.1f} s, {server.megabytes:.0f} MB -->")
            label = f"mlflow models serve, {workers} worker{'s' * (workers > 1)}"
            _rows(label, server, "/invocations", (1, 8, 32, 128), options.seconds)


def _rows(name: str, server: _Server, path: str, clients: Sequence[int], seconds: float) -> None:
    _ask(server, path, 4, 3)  # warm
    for count in clients:
        before = server.cpu_seconds
        seen = _ask(server, path, count, seconds)
        cpu = 1000 * (server.cpu_seconds - before) / max(seen["requests"], 1)
        bad = sum(number for status, number in seen["statuses"].items() if status != "200")
        print(
            f"| {name} | {count} | {seen['per_second']:.1f} | {seen['p50']:.1f} | {seen['p95']:.1f} "
            f"| {seen['p99']:.1f} | {bad} | {cpu:.2f} |",
            flush=True,
        )


def _switch(folder: Path, options: argparse.Namespace) -> None:
    _train(folder, "--set", "data.random_state=7")
    _train(folder, "--set", "data.random_state=8")
    client = MlflowClient(_store(folder))
    names = {str(one.version): one.tags["pcc.version"] for one in client.search_model_versions(f"name='{_NAME}'")}
    newest = max((folder / "mlruns").rglob("classifier.skops"), key=lambda file: file.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with _pcc(folder, "--set", "serving.follow_seconds=1") as server:
        client.set_registered_model_alias(_NAME, "champion", "1")
        load = _begin(server, "/v1/classify", 32, options.minutes * 60)
        switches, late, taken, refusals = 0, 0, [], 0
        end = time.monotonic() + options.minutes * 60 - 10
        while time.monotonic() < end:
            for number in ("2", "3", "1", "2", "1"):
                client.set_registered_model_alias(_NAME, "champion", number)
                switches += 1
                began = time.monotonic()
                if number == "3":
                    while "refused" not in server.get("/readyz"):
                        time.sleep(0.1)
                    refusals += 1
                    continue
                while server.get("/readyz")["champion"] != names[number]:
                    time.sleep(0.1)
                taken.append(time.monotonic() - began)
                for _ in range(20):
                    late += _version(server) != names[number]
                time.sleep(2)
        output, _ = load.communicate()
    seen = json.loads(output)
    print(
        f"{switches} moves of the champion in {options.minutes:g} minutes, "
        f"{refusals} of them to a bad version (refused)"
    )
    print(f"taken up after {max(taken):.1f} s at most; {late} answers by another version after a switch")
    print(f"{seen['requests']} requests of 32 clients: {seen['statuses']}, by version {seen['versions']}")
    print(f"p50 {seen['p50']:.1f} ms, p99 {seen['p99']:.1f} ms")


def _version(server: _Server) -> str:
    body = json.dumps({"text": "where is my card?"}).encode()
    request = urllib.request.Request(f"{server.address}/v1/classify", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        name: str = json.load(answer)["predictions"][0]["model_version"]
        return name


def _memory(folder: Path, options: argparse.Namespace) -> None:
    with _pcc(folder) as server:
        _ask(server, "/v1/classify", 32, 600, most=1_000)
        early = server.megabytes
        print(f"after   1,000 requests: {early:.0f} MB", flush=True)
        for done in range(20_000, 100_001, 20_000):
            _ask(server, "/v1/classify", 32, 3600, most=20_000)
            print(f"after {done:7,} more: {server.megabytes:.0f} MB ({server.megabytes / early - 1:+.1%})", flush=True)


def _overload(folder: Path, options: argparse.Namespace) -> None:
    room = 32
    with _pcc(folder, *_set(queue_texts=room, request_texts=room)) as server:
        _rows("room for 32, 32 clients", server, "/v1/classify", (room,), options.seconds)
        before = server.megabytes
        seen = _ask(server, "/v1/classify", 10 * room, options.seconds)
        print(
            f"320 clients: {seen['statuses']}, of those taken p50 {seen['p50']:.1f} ms, p99 {seen['p99']:.1f} ms, "
            f"{seen['per_second']:.1f}/s; memory {before:.0f} MB before, {server.megabytes:.0f} MB after"
        )


_PARTS = {"load": _load, "switch": _switch, "memory": _memory, "overload": _overload}


def _set(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"serving.{name}={value}")]


def _ask(server: _Server, path: str, clients: int, seconds: float, most: int = sys.maxsize) -> dict[str, Any]:
    output, _ = _begin(server, path, clients, seconds, most).communicate()
    seen: dict[str, Any] = json.loads(output)
    return seen


def _begin(
    server: _Server, path: str, clients: int, seconds: float, most: int = sys.maxsize
) -> subprocess.Popen[bytes]:
    texts = pd.read_parquet(_TEST)["text"].astype(str).tolist()
    command = [sys.executable, "-m", "benchmarks.http_load", f"{server.address}{path}"]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--most", str(most)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None, "it was asked for"
    process.stdin.write(json.dumps(texts).encode())
    process.stdin.close()
    process.stdin = None
    return process


def _encode(folder: Path, size: int) -> float:
    """Texts a second of the encoder alone, in a process of its own."""
    code = (
        "import sys, time, pandas as pd\n"
        "from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder\n"
        f"texts = pd.read_parquet({str(_TEST)!r})['text'].astype(str).tolist()[:2048]\n"
        "encoder = SentenceEncoder(backend='auto')\n"
        "encoder.encode(texts)\n"
        "began = time.perf_counter()\n"
        f"for start in range(0, len(texts), {size}):\n"
        f"    encoder.encode(texts[start:start + {size}])\n"
        "print(len(texts) / (time.perf_counter() - began))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return float(done.stdout)


def _store(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}", "MLFLOW_TRACKING_URI": _store(folder)}


def _train(folder: Path, *options: str) -> None:
    (folder / "params.yaml").touch()
    command = [str(_BIN / "pcc"), "train", "--data", str(_TRAIN), "--search-method", "none", *options]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    client = MlflowClient(_store(folder))
    if "champion" not in client.get_registered_model(_NAME).aliases:
        client.set_registered_model_alias(_NAME, "champion", "1")


@contextlib.contextmanager
def _pcc(folder: Path, *options: str) -> Iterator[_Server]:
    port = _port()
    command = [str(_BIN / "pcc"), "serve", "--port", str(port), *options]
    with _running(folder, command, port, "/readyz") as server:
        yield server


@contextlib.contextmanager
def _mlflow(folder: Path, workers: int) -> Iterator[_Server]:
    port = _port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{_NAME}@champion"]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port), "--workers", str(workers)]
    with _running(folder, command, port, "/ping") as server:
        yield server


@contextlib.contextmanager
def _running(folder: Path, command: Sequence[str], port: int, path: str) -> Iterator[_Server]:
    address, began = f"http://127.0.0.1:{port}", time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _answers(f"{address}{path}"):
            if process.poll() is not None or time.monotonic() - began > 180:
                raise RuntimeError(f"{command[0]} does not answer")
            time.sleep(0.1)
        yield _Server(address, process, time.monotonic() - began)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
            os.killpg(process.pid, signal.SIGKILL)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    main()
