"""Which GPU a process encodes on: of a machine with several, each process takes one for itself while there is one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

from pcc_pipeline.files import private_file, private_folder

# Held until the process ends, however it ends: the system lets go of them.
_held: list[IO[bytes]] = []


@cache
def own_gpu() -> int:
    """Torch's number of the GPU that this process encodes on, the same as long as it lives.

    Those that CUDA_VISIBLE_DEVICES leaves are looked at; the workers of an engine, shards, servers and whoever else of
    this login encodes spread over them by themselves.
    """
    import torch

    count = torch.cuda.device_count()
    if count <= 1:
        return 0
    names = [str(torch.cuda.get_device_properties(number).uuid) for number in range(count)]
    return first_free(names, Path("~/.cache/pcc_pipeline/gpus").expanduser())


def first_free(names: Sequence[str], folder: Path) -> int:
    """The first of `names` that no living process has taken, taken for this one; where all are, one by process id.

    Args:
        names: of the devices, the same in every process of the machine.
        folder: where the marks stand; where none can be written, the process id decides, too.
    """
    for number, name in enumerate(names):
        try:
            private_folder(folder)
            mark = private_file(folder / name).open("ab")
        except OSError:
            break
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            mark.close()
            continue
        _held.append(mark)
        return number
    return os.getpid() % len(names)
