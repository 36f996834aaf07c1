"""A Redis of a test's own, on a socket in a folder; where none is installed, the test is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis


class RedisServer:
    """It begins with `start`, and keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._password: str | None = None

    @property
    def address(self) -> str:
        return f"unix://{self._socket}"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self._socket), password=self._password)

    def start(self, **options: str) -> None:
        self._password = options.get("requirepass")
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        program = shutil.which("redis-server")
        if program is None:
            if os.environ.get("PCC_DEMAND_SERVER_TESTS") == "1":
                pytest.fail("PCC_DEMAND_SERVER_TESTS=1, but there is no redis-server")
            pytest.skip("there is no redis-server")
        command = [program, "--port", "0", "--unixsocket", str(self._socket), "--save", "", *words]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self._socket.parent)
        until = time.monotonic() + 30
        while not self._socket.exists():
            assert self._process.poll() is None, "redis-server did not start"
            assert time.monotonic() < until
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)


@contextmanager
def redis_server(**options: str) -> Iterator[RedisServer]:
    """One that runs; a socket's path must be short, and pytest's folders are not."""
    with tempfile.TemporaryDirectory(prefix="pcc-redis-") as folder:
        server = RedisServer(Path(folder))
        server.start(**options)
        try:
            yield server
        finally:
            server.kill()
