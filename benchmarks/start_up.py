"""`mlflow run -e train` on 1,000 embedded rows without a search, and `mlflow run` of a project that does nothing.

"Peer" is 1.5 times the empty project and 3 seconds, the most that train may take.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pcc_pipeline.data.sample import sample

Pair = Callable[[], tuple[float, float, str]]
_PROJECT = Path(__file__).resolve().parents[1]
_ROWS = 1_000


def pairs() -> Iterator[tuple[str, Pair]]:
    """1,000 rows of the sample with vectors."""
    yield f"mlflow run -e train, {_ROWS:,} embedded rows, no search", _pair


def _pair() -> tuple[float, float, str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vectors = np.random.default_rng(0).normal(size=(_ROWS, 384)).astype(np.float32)
        sample(_ROWS).assign(embeddings=list(vectors)).to_parquet(folder / "rows.parquet")
        (folder / "empty").mkdir()
        command = "name: empty\nentry_points:\n  main:\n    command: python -c pass\n"
        (folder / "empty" / "MLproject").write_text(command, encoding="utf-8")
        _run(folder, "empty")  # makes the database
        begun = time.perf_counter()
        _run(folder, "empty")
        between = time.perf_counter()
        settings = f"output.embedded_dir={folder}/embedded output.rejected={folder}/rejected.parquet"
        given = [f"data={folder}/rows.parquet", "search_method=none", f"set={settings}"]
        _run(folder, str(_PROJECT), "-e", "train", *(word for one in given for word in ("-P", one)))
        ended = time.perf_counter()
    empty, train = between - begun, ended - between
    return train, 1.5 * empty + 3, f"empty {empty:.1f} s"


def _run(folder: Path, project: str, *arguments: str) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    command = ["mlflow", "run", project, "--env-manager", "local", "--experiment-name", "start-up", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
