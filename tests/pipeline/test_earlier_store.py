"""An MLflow store that an earlier release wrote goes on: its versions are read, measured, moved and scored with.

`earlier_store/store.tar.xz` was made by the release before the package's modules moved (commit f09507a): 240 rows of
the sample with vectors of their own, one training without a search and one with a grid, the first promoted, then the
second, then rolled back, then the second refused, and the rows scored. It stood in /srv/pcc/project.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.pipeline

ARCHIVE = Path(__file__).parent / "earlier_store" / "store.tar.xz"
FORMER = "/srv/pcc/project"
FIRST, SECOND = "v20261126_011422", "v20261126_011438"
EASY = "registry.gates='[{kind: minimum, metric: test/f1_macro, threshold: 0.5}]'"


@pytest.fixture
def earlier(store: Any, move_store: Any) -> Any:
    """The store, in the test's folder."""
    with tarfile.open(ARCHIVE) as archive:
        # Python has the filter since 3.11.4; the archive is ours.
        archive.extractall(store.folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    move_store(store.folder / "mlflow.db", FORMER, str(store.folder))
    return store


@pytest.fixture
def manage(earlier: Any, in_process: Any, capfd: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> Any:
        capfd.readouterr()
        assert in_process(earlier.folder, "manage_models", [*arguments, "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    return call


def test_its_runs_and_versions_are_listed_compared_and_exported(manage: Any) -> None:
    assert [run["step"] for run in manage("list")][:3] == ["score", "promote", "promote"]
    assert manage("latest")["version"] == SECOND
    assert manage("get", "--version", FIRST)["aliases"] == ["champion"]
    compared = manage("compare", FIRST, SECOND)
    assert {row["name"] for row in compared["metrics"]} >= {"test/f1_macro", "test/accuracy"}


def test_its_champion_stands_with_its_day_and_says_that_it_was_never_watched(manage: Any) -> None:
    said = manage("status")
    assert (said["champion"]["version"], said["champion"]["number"]) == (FIRST, "1")
    assert said["champion"]["since"].startswith("2026-11-26T01:")
    assert set(said["champion"]["test"]) <= {"macro_f1", "accuracy"}
    assert (said["watched"], said["alerts"], said["wrong"]) == (None, [], False)
    assert said["next"] == ["look at its messages: pcc monitor --data FILE"]


def test_a_version_of_it_is_measured_as_it_was(earlier: Any, command: Any) -> None:
    done = command("evaluate", "--data", "cases.parquet", "--model", "models:/pcc-intent-classifier/1")
    assert done.code == 0, done.err
    measured = earlier.step("evaluate").data.metrics
    first = next(run for run in earlier.runs() if run.data.tags.get("pcc.step") == "evaluate")
    assert measured["test/f1_macro"] == pytest.approx(first.data.metrics["test/f1_macro"], abs=1e-12)
    assert measured["test/rows"] == 48


def test_a_version_of_it_becomes_the_champion_and_goes_again(earlier: Any, command: Any) -> None:
    published = f"registry.publish.target={earlier.folder}/published"
    done = command("promote", "--data", "cases.parquet", "--reason", "later", "--set", EASY, "--set", published)
    assert done.code == 0, done.err
    assert "champion is version 2 now, before it version 1" in done.out
    assert "move 4 of this model" in done.out
    done = command("promote", "--rollback", "true", "--reason", "back", "--set", published)
    assert done.code == 0, done.err
    assert "move 5 of this model" in done.out
    folder = max((earlier.folder / "published").iterdir())
    assert json.loads((folder / "metadata.json").read_text())["model_version"] == FIRST
    assert len(list((earlier.folder / "published").iterdir())) == 5


def test_messages_are_scored_by_its_champion_as_they_were(earlier: Any, command: Any) -> None:
    done = command("score", "--data", "cases.parquet")
    assert done.code == 0, done.err
    scored = pd.read_parquet(earlier.folder / "outputs/scores.parquet")
    assert set(scored["model_version"]) == {FIRST}
    folder = earlier.folder / "published" / FIRST
    model, features = joblib.load(folder / "model.joblib"), joblib.load(folder / "features.joblib")
    rows = pd.read_parquet(earlier.folder / "cases.parquet")
    vectors = np.hstack([np.stack(rows["embeddings"].to_list()), features.transform(rows["text"])])
    assert scored["predicted_label"].tolist() == model.predict(vectors).tolist()
