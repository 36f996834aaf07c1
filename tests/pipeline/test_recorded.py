"""A run records the configuration that it used and no more: whose model it measures, with its settings."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.config.section import Section
from pcc_pipeline.persons.keys import add_key
from pcc_pipeline.steps import ab_test, embed, erase, evaluate, monitor, promote, retrain, score, train
from pcc_pipeline.steps.parameters import resolve
from pcc_pipeline.steps.records.used_options import used

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
FOREST = ("--search-method", "none", "--model-type", "RandomForest", "--set", "model.hyperparameters.n_estimators=20")


def _params(store: Any, name: str) -> dict[str, str]:
    return {key: value for key, value in store.step(name).data.params.items() if "." in key}


@pytest.mark.long
def test_runs_that_measure_a_model_record_its_settings_and_not_the_callers(command, store, small_file) -> None:
    assert command("train", "--data", str(small_file), *FOREST, "--set", "data.random_state=7").code == 0
    assert command("evaluate", "--set", "model.cv_folds=9 output.metrics=measured.json").code == 0
    assert command("promote", "--set", "registry.gates=[]", "--set", "output.model_dir=models").code == 0
    for step in ("evaluate", "promote"):
        found = _params(store, step)
        assert found["model.type"] == "RandomForest"
        assert found["model.hyperparameters.n_estimators"] == "20"
        assert found["model.search_method"] == "none"
        assert found["model.cv_folds"] == "5"
        assert found["data.path"] == str(small_file)
        assert found["data.random_state"] == "7"
    assert _params(store, "evaluate")["output.metrics"] == "measured.json"
    assert _params(store, "promote")["registry.gates"] == "[]"
    # Its report says what these gates, the caller's, will say.
    assert "test/f1_macro" in _params(store, "evaluate")["registry.gates"]

    assert command("evaluate", "--test-data", str(small_file), "--set", "data.max_rejected_fraction=0.3").code == 0
    found = _params(store, "evaluate")
    assert (found["data.test_path"], found["data.max_rejected_fraction"]) == (str(small_file), "0.3")
    assert (found["data.path"], found["model.type"]) == (str(small_file), "RandomForest")


@pytest.mark.long
def test_what_uses_no_model_settings_records_none(command, store, small_file) -> None:
    assert command("main", "--data", str(small_file), *FOREST).code == 0
    assert command("score", "--data", str(small_file), "--model", f"models:/{NAME}@challenger").code == 0
    for step in ("embed", "score"):
        found = _params(store, step)
        assert found["data.path"] == str(small_file)
        assert not [key for key in found if key.startswith(("model.", "search.", "data.test_size", "registry.gates"))]
    root = _params(store, "pipeline")
    assert root["model.type"] == "RandomForest"
    assert not [key for key in root if key.startswith(("registry.publish", "output.scores"))], "nothing was promoted"


def test_every_option_that_a_step_reads_is_in_its_record(in_process, store, small_file, monkeypatch) -> None:
    """Whoever reads a new option in a step is told here to name it in `recorded.USED`."""
    with_key = ["--set", "lineage.key_file=lineage.key"]
    add_key(store.folder / "lineage.key")
    data, one = ["--data", str(small_file)], ["--model", f"models:/{NAME}/1"]
    assert in_process(store.folder, "train", [*data, "--search-method", "none", *with_key]) == 0
    store.client.set_registered_model_alias(NAME, "champion", "1")
    (store.folder / "cases.txt").write_text(f"{pd.read_parquet(small_file)['case_id'][0]}\n")
    steps: dict[str, tuple[ModuleType, list[str]]] = {
        "embed": (embed, data),
        "train": (train, [*data, "--search-method", "none"]),
        "evaluate": (evaluate, [*data, *one]),
        "promote": (promote, [*data, *one]),
        "score": (score, [*data, *one, "--shadow", "true"]),
        "monitor": (monitor, data),
        "retrain": (retrain, ["--watch", str(small_file)]),
        "ab_test": (ab_test, ["--data", str(store.folder / "outputs/scores.parquet"), "--labels", str(small_file)]),
        "erase": (erase, ["--cases", "cases.txt", *with_key]),
    }
    missing: dict[str, list[str]] = {}
    for name, (module, arguments) in steps.items():
        keys: set[str] = set()
        run = module.run

        def watched(params: Params, *rest: Any, _run: Any = run, _keys: set[str] = keys, **more: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(Section, "__getattribute__", _noting(params, _keys))
                return _run(params, *rest, **more)

        monkeypatch.setattr(module, "run", watched)
        assert in_process(store.folder, name, arguments) in (0, 1)
        known = set(used(resolve(None), name)) | {"data.test_path"}
        assert keys, name
        missing |= {name: sorted(keys - known)} if keys - known else {}
    assert missing == {}


def _noting(params: Params, keys: set[str]) -> Any:
    """Attribute access that notes which options of these very parameters are read."""
    places = {id(params): ""}
    original = Section.__getattribute__

    def get(self: Section, name: str) -> Any:
        value = original(self, name)
        place = places.get(id(self))
        fields = type(self).model_fields
        if place is not None and name in fields:
            key = f"{place}{fields[name].alias or name}"
            if isinstance(value, Section):
                places[id(value)] = f"{key}."
            else:
                keys.add(key)
        return value

    return get
