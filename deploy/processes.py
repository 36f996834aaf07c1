"""Processes that are known again by number and start, and ports and addresses of this machine."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Process:
    """A process that we started: its number and when it began, since numbers are used again."""

    pid: int
    began: str

    @staticmethod
    def of(pid: int) -> Process:
        return Process(pid, _began(pid))

    @property
    def alive(self) -> bool:
        try:
            return _began(self.pid) == self.began and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def _began(pid: int) -> str:
    """Start of a process in the kernel's own count, which setting the clock does not move; elsewhere by the clock."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            return stat.read_text().rpartition(")")[2].split()[19]
        except (FileNotFoundError, ProcessLookupError) as error:
            raise psutil.NoSuchProcess(pid) from error
    return f"{psutil.Process(pid).create_time():.2f}"


def descendants(pid: int) -> list[Process]:
    """Its children, their children, and so on; none of a process that is gone."""
    with contextlib.suppress(psutil.Error):
        return [Process.of(child.pid) for child in psutil.Process(pid).children(recursive=True)]
    return []


def status_of(url: str, headers: Mapping[str, str] | None = None) -> int:
    """Status of a GET; 0 where nothing answers. No proxy stands before this machine's own address."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=dict(headers or {})), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_port(but: set[int]) -> int:
    """A free port, and none of these."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in but:
            return port
