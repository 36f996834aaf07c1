"""Processes: known again by machine, namespace, number and start; the cores for one, and whose it is.

Importing this takes the standard library alone, as deploy/accounts.py runs where no packages are.
"""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path


def available_cores() -> int:
    """The cores this process may use: affinity and a container's quota count."""
    import loky  # what only asks whether a process lives need not wait for it

    return int(loky.cpu_count())


def user() -> str:
    """The system's user; by number where the system has no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


def login_here() -> str:
    """The name in the system and the machine: `root@host`."""
    return f"{user()}@{socket.gethostname()}"


def process_mark() -> str:
    """This process, told apart from every other of the world: machine since its boot, namespace, id and start.

    Empty where the system does not tell (no /proc): only the heartbeat counts there.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        # Two containers of one machine have processes of the same ids, which only this tells apart.
        space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
        own = Path("/proc/self").readlink().name
        return f"{boot}/{space}/{own}/{_started(int(own))}"
    except OSError:
        return ""


def process_lives(mark: str) -> bool | None:
    """Whether the process of a `process_mark` lives; None for one of another machine or container."""
    own = process_mark()
    if not own or mark.split("/")[:2] != own.split("/")[:2]:
        return None
    _, _, number, started = mark.split("/")
    try:
        return _started(int(number)) == started
    except OSError:
        return False


def _started(number: int) -> str:
    """When a process started, in the kernel's ticks since boot: ids are used again."""
    # The second field is the program's name in brackets, and may hold brackets and spaces itself.
    fields = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError  # ended, and its parent has not asked yet
    return fields[19]
