"""`mlflow run -e train` on 1,000 embedded rows without a search, and `mlflow run` of a project that does nothing.

"Peer" is 1.5 times the empty project and 3 seconds, the most that train may take.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.comparison import Comparison
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder

_PROJECT = Path(__file__).resolve().parents[1]
_ROWS = 1_000


def comparisons() -> Iterator[Comparison]:
    """1,000 rows of the sample with their vectors."""
    yield Comparison(f"mlflow run -e train, {_ROWS:,} embedded rows, no search", _pair, 1)


def _pair() -> tuple[float, float, str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = sample(_ROWS)
        vectors = SentenceEncoder(backend="auto").encode(list(rows["text"]))
        rows.assign(embeddings=list(vectors)).to_parquet(folder / "rows.parquet")
        (folder / "empty").mkdir()
        command = "name: empty\nentry_points:\n  main:\n    command: python -c pass\n"
        (folder / "empty" / "MLproject").write_text(command, encoding="utf-8")
        _run(folder, "empty")  # makes the database
        begun = time.perf_counter()
        _run(folder, "empty")
        between = time.perf_counter()
        settings = f"output.embedded_dir={folder}/embedded output.rejected={folder}/rejected.parquet"
        parameters = [f"data={folder}/rows.parquet", "search_method=none", f"set={settings}"]
        _run(folder, str(_PROJECT), "-e", "train", *(word for one in parameters for word in ("-P", one)))
        ended = time.perf_counter()
    empty, train = between - begun, ended - between
    return train, 1.5 * empty + 3, f"empty {empty:.1f} s"


def _run(folder: Path, project: str, *arguments: str) -> None:
    # Another benchmark of this process may have left its experiment there, which `mlflow run` would take for an option.
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_EXPERIMENT")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    command = ["mlflow", "run", project, "--env-manager", "local", "--experiment-name", "start-up", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
