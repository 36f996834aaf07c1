"""A PostgreSQL of a test's own, on a socket in a folder; where none is installed, the test is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
from postgresql import ServerError, plain, postgres_user, programs, succeed  # in the folder named above


class PostgresServer:
    """It begins with `start`; what is in it is gone with its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._data = folder, folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"postgresql://owner@/postgres?host={self.folder}"

    def execute(self, query: str, *values: Any) -> list[Any]:
        """Rows that it gives, if any."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            cursor = connection.execute(query, values, binary=True)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        try:
            found, user = programs(), postgres_user()
        except ServerError as error:
            if os.environ.get("PCC_DEMAND_SERVER_TESTS") == "1":
                pytest.fail(f"PCC_DEMAND_SERVER_TESTS=1, but {error}")
            pytest.skip(str(error))
        environment = plain(os.environ)
        if user:
            os.chown(self.folder, user["user"], user["group"])
        if not self._data.exists():
            make = [found["initdb"], "-D", str(self._data), "-E", "UTF8", "--locale=C", "-U", "owner", "-A", "trust"]
            succeed("initdb", [*make, "--no-sync"], environment, user)
        command = [found["postgres"], "-D", str(self._data), "-h", "", "-k", str(self.folder), "-F"]
        silent = subprocess.DEVNULL
        self._process = subprocess.Popen(command, env=environment, stdout=silent, stderr=silent, cwd="/", **user)
        until = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, "PostgreSQL did not start"
                assert time.monotonic() < until
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: at once, and its processes with it
            self._process.wait(timeout=30)
            self._process = None

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Within, it is there and answers nobody, as on a machine or a disk that hangs."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def contents(self) -> bytes:
        """All bytes of its tables, as they lie on the disk."""
        self.execute("CHECKPOINT")
        return b"".join(path.read_bytes() for path in sorted((self._data / "base").rglob("*")) if path.is_file())


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """One that runs; a socket's path must be short, and pytest's folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="pcc-postgres-"))
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
