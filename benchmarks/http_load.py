"""A load on an HTTP server, out of a process of its own: clients that ask again as soon as they have their answers.

`benchmarks.serving` calls it. It reads the texts to ask about, as a JSON list, and writes one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import numpy as np


@dataclass(frozen=True)
class Load:
    """What so many clients saw.

    Attributes:
        per_second: requests answered with 200, a second.
        p50, p95, p99: milliseconds, of those.
        statuses: how many answers of each; 0 is a connection that broke.
        versions: model version -> answers by it.
        cpu_seconds: of this process.
    """

    clients: int
    per_second: float
    p50: float
    p95: float
    p99: float
    statuses: dict[str, int]
    versions: dict[str, int]
    requests: int
    cpu_seconds: float


class _Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, run: _Run, place: int) -> None:
        self._run, self._place = run, place
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # asyncio names the kind of all transports; of a connection it is this one
        self._ask()

    def _ask(self) -> None:
        if self._run.over or self._transport is None:
            self._run.ended(self)
            return
        self._place = (self._place + self._run.clients) % len(self._run.requests)
        self._buffer, self._sent = b"", time.perf_counter()
        self._transport.write(self._run.requests[self._place])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, gap, body = self._buffer.partition(b"\r\n\r\n")
        if not gap:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._run.answered(int(head[9:12]), time.perf_counter() - self._sent, body)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._run.over and self._transport is not None:
            self._transport = None
            self._run.broke(self._place)

    def close(self) -> None:
        if self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()


class _Run:
    def __init__(self, host: str, port: int, clients: int, requests: list[bytes], most: int) -> None:
        self._host, self._port = host, port
        self.clients, self.requests = clients, requests
        self._most = most
        self.over = False
        self._seconds: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._versions: Counter[str] = Counter()
        self._done = asyncio.Event()

    async def load(self, seconds: float) -> Load:
        began = time.perf_counter()
        await asyncio.gather(*(self._connect(place) for place in range(self.clients)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), seconds)
        took = time.perf_counter() - began
        self.over = True
        good = np.array(self._seconds) * 1000
        p50, p95, p99 = np.percentile(good, [50, 95, 99]).tolist() if len(good) else (0.0, 0.0, 0.0)
        return Load(
            self.clients,
            len(good) / took,
            p50,
            p95,
            p99,
            {str(status): count for status, count in sorted(self._statuses.items())},
            dict(self._versions),
            sum(self._statuses.values()),
            time.process_time(),
        )

    async def _connect(self, place: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Client(self, place), self._host, self._port)
        except OSError:
            self.broke(place)

    def answered(self, status: int, seconds: float, body: bytes) -> None:
        self._statuses[status] += 1
        if status == 200:
            self._seconds.append(seconds)
            name = body.partition(b'"model_version":')[2].partition(b'"')[2].partition(b'"')[0].decode()
            self._versions[name] += 1
        if self._statuses.total() >= self._most:
            self.over = True
            self._done.set()

    def broke(self, place: int) -> None:
        self._statuses[0] += 1
        if not self.over:
            asyncio.get_running_loop().call_later(0.05, self._again, place)

    def _again(self, place: int) -> None:
        if not self.over:
            self._task = asyncio.ensure_future(self._connect(place))

    def ended(self, client: _Client) -> None:
        client.close()


def request(address: str, body: object) -> bytes:
    """The bytes of a POST."""
    parts = urlsplit(address)
    data = json.dumps(body).encode()
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def main() -> None:
    """Ask, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="with the path")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--most", type=int, default=sys.maxsize, help="end after so many requests")
    options = parser.parse_args()
    texts: list[str] = json.load(sys.stdin)
    parts = urlsplit(options.address)
    own = parts.path != "/invocations"
    requests = [request(options.address, {"text": text} if own else {"inputs": [{"text": text}]}) for text in texts]

    async def run() -> Load:
        return await _Run(str(parts.hostname), int(parts.port or 80), options.clients, requests, options.most).load(
            options.seconds
        )

    try:
        import uvloop
    except ImportError:
        load = asyncio.run(run())
    else:
        load = uvloop.run(run())
    print(json.dumps(asdict(load)))


if __name__ == "__main__":
    main()
