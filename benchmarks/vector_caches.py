"""What the caches of vectors give and take in a second, beside the encoder: `python -m benchmarks.vector_caches`.

The folder is in the temporary folder; the Redis and the PostgreSQL (with its defaults, and without waiting for the
disk) are on this machine, which the benchmark starts and ends, so that a network between them is not in these figures.
Bytes are those of the file, and what the servers say that its names, or the table, take.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.caches.entries import CachePlace, text_key
from pcc_pipeline.encoder.caches.in_postgresql import PostgresCaches
from pcc_pipeline.encoder.caches.in_redis import RedisCaches
from pcc_pipeline.encoder.caches.on_disk import FolderCaches
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from tests.postgres_server import postgres_server

_AT_ONCE = 1000


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vector_caches", description=__doc__)
    parser.add_argument("--vectors", type=int, default=50_000)
    parser.add_argument("--texts", type=int, default=2_000, help="for the encoder")
    options = parser.parse_args(arguments)
    vectors = np.random.default_rng(0).normal(size=(options.vectors, SENTENCE_WIDTH)).astype(np.float32)
    keys = [text_key(f"text {number}") for number in range(options.vectors)]
    print("where           put a second   get a second   bytes a vector")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put, get = _rates(FolderCaches(folder), keys, vectors)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{'folder':12}{put:>16,.0f}{get:>15,.0f}{size / len(keys):>17,.0f}")
    with _redis() as address:
        redis = RedisCaches(address, address)
        put, get = _rates(redis, keys, vectors)
        (every,) = redis.aged(date.max)
        print(f"{'redis':12}{put:>16,.0f}{get:>15,.0f}{every.size / len(keys):>17,.0f}")
    with postgres_server() as server:
        put, get = _rates(PostgresCaches(server.address, "postgresql://here"), keys, vectors)
        ((size,),) = server.execute("SELECT pg_total_relation_size('pcc_vectors')")
        print(f"{'postgresql':12}{put:>16,.0f}{get:>15,.0f}{size / len(keys):>17,.0f}")
    texts = [f"{text} ({number})" for number, text in enumerate(sample()["text"].sample(options.texts, replace=True))]
    encoder = SentenceEncoder(backend="auto")
    encoder.encode(texts[:64])
    begun = time.perf_counter()
    encoder.encode(texts)
    print(f"encoder ({encoder.backend}): {len(texts) / (time.perf_counter() - begun):,.0f} texts a second")
    return 0


def _rates(place: CachePlace, keys: list[bytes], vectors: np.ndarray) -> tuple[float, float]:
    with place.open("benchmark", SENTENCE_WIDTH, sealed=False) as cache:
        begun = time.perf_counter()
        for start in range(0, len(keys), _AT_ONCE):
            cache.put(keys[start : start + _AT_ONCE], vectors[start : start + _AT_ONCE])
        put = len(keys) / (time.perf_counter() - begun)
        begun = time.perf_counter()
        there = sum(len(cache.get(keys[start : start + _AT_ONCE])) for start in range(0, len(keys), _AT_ONCE))
        get = len(keys) / (time.perf_counter() - begun)
    if there != len(keys):
        raise SystemExit(f"{there} of {len(keys)} came back")
    return put, get


@contextmanager
def _redis() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("there is no redis-server")
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "redis.sock"
        command = [program, "--port", "0", "--unixsocket", str(socket), "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not socket.exists():
                time.sleep(0.02)
            yield f"unix://{socket}"
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
