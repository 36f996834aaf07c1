"""`import pcc_pipeline` as a user's program has it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pcc_pipeline as pcc
from pcc_pipeline import library

PROGRAM = Path(__file__).with_name("library_user.py")


@pytest.mark.pipeline
def test_a_program_trains_scores_and_predicts_with_the_few_names(store: Any, outside: Any, small_file: Path) -> None:
    """In a folder and a store of its own; what it is answered agrees with what it reads in files."""
    process = outside(store.folder, sys.executable, str(PROGRAM), str(small_file))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    said = json.loads(out.splitlines()[-1])
    assert said["registered"] == "1"
    assert len(set(said["version"])) == 1
    assert all(said["summaries"])
    rows = pd.read_parquet(small_file)
    assert said["scored"] == [len(rows)] * 2
    assert said["classes"] == sorted(set(rows["intent"]))
    assert said["predicted"] == said["scores"]
    table = pd.DataFrame(said["probabilities"])
    assert list(table.columns) == said["classes"]
    assert table.sum(axis=1).tolist() == pytest.approx([1.0] * 5)
    assert table.max(axis=1).tolist() == pytest.approx(said["confidence"])
    assert table.idxmax(axis=1).tolist() == said["predicted"]
    assert said["none"] == 0
    assert "it is blank" in said["refused"]
    assert "texts[1]" in said["refused"]
    assert {run.data.tags["pcc.step"] for run in store.runs()} == {"train", "score"}


def test_the_package_offers_the_names_of_its_library_and_no_others() -> None:
    assert set(pcc.__all__) == {*library.__all__, "__version__"}
    for name in library.__all__:
        assert getattr(pcc, name) is getattr(library, name)
        assert getattr(library, name).__doc__
        assert name in dir(pcc)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = pcc.trian  # type: ignore[attr-defined]


def test_a_configuration_takes_options_by_name_and_others_by_their_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They win over the environment, and that over the file."""
    path = tmp_path / "params.yaml"
    path.write_text("model: {cv_folds: 7, n_iter: 7, scoring: accuracy}", encoding="utf-8")
    monkeypatch.setenv("PCC_MODEL__CV_FOLDS", "6")
    monkeypatch.setenv("PCC_MODEL__N_ITER", "6")
    params = pcc.load_params(path, n_iter=5, label="topic", preprocessing__cache_dir=None, model__hyperparameters__C=2)
    assert (params.model.n_iter, params.model.cv_folds, params.model.scoring) == (5, 6, "accuracy")
    assert params.data.label_column == "topic"
    assert params.preprocessing.cache_dir is None
    assert params.model.hyperparameters == {"C": 2}
    assert pcc.load_params(model__cv_folds=5, n_iter=20) == pcc.Params()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"serch_method": "none"}, r"no option is called serch_method \(did you mean search_method\?\)"),
        ({"model__cv_fold": 3}, r"model\.cv_fold: no such option \(did you mean cv_folds\?\)"),
        ({"n_iter": 0, "model__cv_folds": 1}, r"2 faults"),
        ({"model_type": "LinearSVM"}, r"did you mean LinearSVC\?"),
    ],
)
def test_a_wrong_option_is_refused_with_what_may_be_meant(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(pcc.PccError, match=message):
        pcc.load_params(**overrides)
