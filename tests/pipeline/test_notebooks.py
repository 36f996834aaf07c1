"""What a reader copies and runs, run: the notebooks in a real kernel, and the README's Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from pcc_pipeline.data.sample.messages import sample

pytestmark = pytest.mark.pipeline
REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
README = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.fixture(scope="module")
def tiny_store(new_store: Callable[[str], Any], in_process: Callable[[Path, str, Sequence[str]], int]) -> Any:
    """The MLflow store of one `main` run on 200 rows, without a search."""
    store = new_store("tiny")
    sample(200).to_parquet(store.folder / "small.parquet", index=False)
    assert in_process(store.folder, "main", ["--data", "small.parquet", "--search-method", "none"]) == 0
    return store


@pytest.fixture
def environment(tiny_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store by its address, and nothing of this user's Jupyter or Python settings."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PCC_", "PYTHON"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tiny_store.uri)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    """Outputs of real data would put customers' words, or scores nobody can check, into the repository."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert [(cell.execution_count, cell.outputs) for cell in cells] == [(None, [])] * len(cells)


@pytest.mark.long
@pytest.mark.usefixtures("environment")
def test_compare_runs_shows_scores_chart_and_predictions(tmp_path: Path) -> None:
    notebook = nbformat.read(REPOSITORY / "notebooks" / "compare_runs.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    texts = [data.get("text/plain", "") for data in shown]
    assert any("test macro F1" in text and "LogisticRegression" in text and "none" in text for text in texts)
    assert any("support" in text and "data_deletion" in text for text in texts)
    assert [data for data in shown if "image/png" in data], "no bar chart"
    assert any("predicted_label" in text and "Stop sending me your newsletter." in text for text in texts)


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL))
@pytest.mark.usefixtures("environment")
def test_the_readmes_python_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "predicted_label" in done.stdout


def test_the_artifacts_that_the_readme_lists_are_those_of_a_run(tiny_store: Any) -> None:
    """The figures of a search are not here: this run had none."""
    rows = re.findall(r"^\| `(embed|train|evaluate)` \| (.*) \|$", README, flags=re.MULTILINE)
    listed = {step: set(re.findall(r"`([\w./]+)`", cell)) for step, cell in rows if "." in cell}
    assert listed.keys() == {"embed", "train", "evaluate"}
    # The sample has times.
    (of_times,) = re.findall(
        r"^\| `train`, if the data has times \| `(\S+)`; `evaluate` then has `(\S+)` \|$", README, re.M
    )
    listed["train"].add(of_times[0])
    listed["evaluate"].add(of_times[1])
    for step, files in listed.items():
        assert tiny_store.files(tiny_store.step(step)) == files, step
