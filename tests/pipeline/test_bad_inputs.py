"""What a user may get wrong: each mistake ends with exit code 1 and one message that says what to mend."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

# Stands in every text: no message may repeat a word of a customer.
MARK = "Zanzibarkowski"


def _frame(n_rows: int = 60, labels: Sequence[str] = ("data_deletion", "opt_out", "other")) -> pd.DataFrame:
    rows = np.random.default_rng(0).normal(size=(n_rows, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return pd.DataFrame(
        {
            "text": [f"{MARK} writes letter number {number} about matter {number * 7}" for number in range(n_rows)],
            "intent": [labels[number % len(labels)] for number in range(n_rows)],
            "embeddings": rows.tolist(),
        }
    )


def _file(frame: pd.DataFrame, name: str = "cases.parquet") -> list[str]:
    """Write a table into the working folder; returns the options that name it."""
    if name.endswith(".parquet"):
        frame.to_parquet(name, index=False)
    elif name.endswith(".csv"):
        frame.to_csv(name, index=False)
    else:
        frame.to_pickle(name)
    return ["--data", name]


def _good() -> list[str]:
    return _file(_frame())


def _set(*settings: str) -> list[str]:
    return [*_good(), "--set", " ".join(settings)]


def _written(name: str, content: bytes) -> list[str]:
    Path(name).write_bytes(content)
    return ["--data", name]


def _folder() -> list[str]:
    Path("cases.csv").mkdir()
    return ["--data", "cases.csv"]


def _vectors(change: Callable[[int, list[float]], list[float]]) -> list[str]:
    frame = _frame()
    frame["embeddings"] = [change(number, row) for number, row in enumerate(frame["embeddings"])]
    return _file(frame)


def _truncated_gzip() -> list[str]:
    whole = gzip.compress(_frame().to_csv(index=False).encode())
    return _written("cases.csv.gz", whole[: len(whole) // 2])


class _Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch owned",))


def _some_without_text(share: float) -> list[str]:
    frame = _frame()
    frame.loc[: int(share * len(frame)) - 1, "text"] = None
    return _file(frame)


def _params_file(content: str) -> list[str]:
    Path("mine.yaml").write_text(content)
    return [*_good(), "--params-file", "mine.yaml"]


def _file_in_the_way(setting: str) -> list[str]:
    Path("blocked").write_text("")
    return [*_good(), "--search-method", "none", "--set", setting]


def _changed_data() -> list[str]:
    return _file(_frame(50), "changed.parquet")


@dataclass(frozen=True)
class Bad:
    """A mistake.

    Attributes:
        options: makes the files in the working folder and returns the options.
        says: what the message must match, over lines.
        trained: whether the store holds a trained model.
    """

    options: Callable[[], list[str]]
    says: str
    entry: str = "train"
    trained: bool = False


BAD = {
    # Files
    "missing file": Bad(lambda: ["--data", "cases.csv"], r"does not exist.*cases\.csv"),
    "missing file, whole pipeline": Bad(lambda: ["--data", "cases.csv"], r"does not exist.*cases\.csv", "main"),
    "missing file, embed": Bad(lambda: ["--data", "cases.csv"], r"does not exist.*cases\.csv", "embed"),
    "missing test file": Bad(lambda: [*_good(), "--test-data", "t.csv"], r"does not exist.*t\.csv"),
    "folder": Bad(_folder, r"no data file here.*cases\.csv"),
    "empty file": Bad(lambda: _written("cases.csv", b""), "is empty"),
    "header only": Bad(lambda: _written("cases.csv", b"text,intent\n"), "columns and no rows"),
    "unsupported suffix": Bad(lambda: _written("cases.xlsx", b"PK"), r"kind is not known.*\.csv.*\.parquet"),
    "CSV not UTF-8": Bad(
        lambda: _written("cases.csv", f"text,intent\n{MARK} café,other\n".encode("cp1252")), "not UTF-8.*line 2"
    ),
    "CSV in UTF-16": Bad(lambda: _written("cases.csv", f"text,intent\n{MARK},a\n".encode("utf-16")), "UTF-16"),
    "ragged CSV": Bad(
        lambda: _written("cases.csv", f"text,intent\n{MARK}, comma,other\n".encode()), "line 2 has 3 fields"
    ),
    "not a parquet": Bad(lambda: _written("cases.parquet", MARK.encode() * 99), "not a readable parquet"),
    "truncated gz": Bad(_truncated_gzip, r"\.gz file is cut short"),
    "malicious pickle": Bad(lambda: _written("cases.pkl", pickle.dumps(_Malicious())), r"(posix|os).*system"),
    "bucket without credentials or network": Bad(
        lambda: ["--data", "gs://pcc-no-such-bucket/cases.csv"], r"(credentials|cannot read).*gs://pcc-no-such-bucket"
    ),
    "gs:// without a bucket": Bad(lambda: ["--data", "gs://"], "names no (file|bucket).*gs://bucket"),
    "gs:// without a file": Bad(lambda: ["--data", "gs://bucket"], "names no file.*gs://bucket"),
    # Columns and rows
    "wrong columns": Bad(
        lambda: _file(_frame().rename(columns={"text": "texts"}), "cases.csv"), "lacks.*text.*texts may be text"
    ),
    "label column missing": Bad(
        lambda: _file(_frame().rename(columns={"intent": "category"})), "lacks.*intent.*category.*--label "
    ),
    "label column misspelt": Bad(
        lambda: [*_file(_frame().rename(columns={"intent": "pcc_intent"})), "--label", "pcc_intnet"],
        "pcc_intent may be pcc_intnet",
    ),
    "labels in the text column": Bad(lambda: [*_good(), "--label", "text"], "text cannot hold the labels"),
    "demanded column missing": Bad(lambda: _set("data.schema=[case_id,confidence]"), "lacks.*case_id, confidence"),
    "group column missing": Bad(lambda: _set("data.group_column=customer"), "lacks.*customer"),
    "all rows rejected": Bad(lambda: _some_without_text(1.0), "60 of 60.*no good row.*60 x text: missing"),
    "too many rejected": Bad(lambda: _some_without_text(0.5), "30 of 60.*limit is 10.*30 x text: missing"),
    "NaN vectors": Bad(
        lambda: _vectors(lambda number, row: [float("nan"), *row[1:]]), "60 of 60.*embeddings.*not finite"
    ),
    "wrong width": Bad(lambda: _vectors(lambda number, row: row[:100]), "wrong width: 100 numbers"),
    "mixed widths": Bad(
        lambda: _vectors(lambda number, row: row if number % 2 else row + row[:200]), "wrong width: 384 numbers"
    ),
    "one class": Bad(lambda: _file(_frame(labels=("other",))), "same label.*at least 2 classes"),
    "three rows": Bad(lambda: _file(_frame(3)), "each of the 3 rows has a label of its own.*--label"),
    "one class, whole pipeline": Bad(lambda: _file(_frame(labels=("other",))), "same label", "main"),
    "folds more than texts": Bad(
        lambda: [*_file(_frame(12)), "--set", "model.cv_folds=40"], "40 folds cannot be made.*use from 2 to"
    ),
    "positive_label not a label": Bad(
        lambda: [*_file(_frame(labels=("no", "yes"))), "--set", "data.positive_label=maybe"],
        "positive_label 'maybe'.*no, yes",
    ),
    # Options
    "unknown key": Bad(lambda: _set("model.cv_fold=3"), r"model\.cv_fold.*no such option.*cv_folds"),
    "unknown section": Bad(lambda: _set("modell.cv_folds=3"), r"modell.*no such option.*model"),
    "key without a section": Bad(lambda: _set("cv_folds=3"), r"cv_folds.*dotted key.*model\.cv_folds"),
    "setting without a value": Bad(lambda: _set("model.cv_folds"), "not of the form section.option=value"),
    "unclosed quote": Bad(lambda: [*_good(), "--set", "model.type='SGD"], "set.*cannot be split"),
    "wrong type": Bad(lambda: _set("model.cv_folds=many"), r"model\.cv_folds.*'many'.*integer"),
    "wrong literal": Bad(lambda: _set("model.scoring=f2"), r"model\.scoring.*'f2'.*f1_weighted"),
    "wrong search method": Bad(lambda: [*_good(), "--search-method", "bayes"], "'bayes'.*random.*optuna"),
    "out of range": Bad(lambda: _set("data.test_size=1.5"), r"data\.test_size.*1\.5.*less than 1"),
    "n_iter=0": Bad(lambda: [*_good(), "--n-iter", "0"], r"model\.n_iter.*0.*greater than or equal to 1"),
    "n_jobs=0": Bad(lambda: _set("search.n_jobs=0"), "n_jobs 0 leaves nobody to work"),
    "no rows to train on": Bad(
        lambda: _set("data.test_size=0.9", "data.validation_size=0.2"), r"test_size 0\.9.*leave no rows to train on"
    ),
    "pruning without a search": Bad(
        lambda: _set("search.pruning=true", "model.search_method=none"), r"pruning.*search_method other than none"
    ),
    "study without optuna": Bad(lambda: _set("search.study_name=mine"), r"study_name.*search_method=optuna"),
    "unknown model type": Bad(lambda: [*_good(), "--model-type", "XGBoost"], "'XGBoost'.*LogisticRegression.*Stacking"),
    "unknown hyperparameter": Bad(
        lambda: _set("model.hyperparameters.c=1"), r"hyperparameters\.c.*no such.*C, penalty"
    ),
    "hyperparameter out of range": Bad(lambda: _set("model.hyperparameters.C=-1"), r"hyperparameters\.C.*-1"),
    "hyperparameters that clash": Bad(
        lambda: _set("model.hyperparameters.penalty=l1", "model.hyperparameters.solver=lbfgs"), "lbfgs.*l1|l1.*lbfgs"
    ),
    "class_weight with MLP": Bad(
        lambda: [*_set("preprocessing.balance_method=class_weight"), "--model-type", "MLP"],
        "class_weight does not work with MLP.*SMOTE",
    ),
    "unknown dimension of the space": Bad(
        lambda: _set("'model.search_space={gamma: [1, 2]}'"), r"search_space\.gamma.*no such.*C, penalty"
    ),
    "bounds the wrong way round": Bad(
        lambda: _set("'model.search_space={C: {low: 10, high: 1}}'"), r"search_space\.C.*10 is not below high 1"
    ),
    "empty choices": Bad(lambda: _set("'model.search_space={C: []}'"), r"search_space\.C.*choices is empty"),
    "grid without points": Bad(
        lambda: [*_set("'model.search_space={C: {low: 1, high: 10}}'"), "--search-method", "grid"],
        r"search_space\.C\.grid.*missing.*points",
    ),
    "several faults at once": Bad(
        lambda: _set("model.cv_folds=1", "data.test_sise=0.1", "model.hyperparameters.C=0", "logging.level=LOUD"),
        r"4 faults(?=.*cv_folds)(?=.*test_sise)(?=.*hyperparameters\.C)(?=.*LOUD)",
    ),
    "bad YAML": Bad(lambda: _params_file("model: {type: [\n"), r"not valid YAML.*mine\.yaml"),
    "parameters that are a list": Bad(lambda: _params_file("- model\n"), "expected sections.*found a list"),
    "missing parameter file": Bad(lambda: [*_good(), "--params-file", "no.yaml"], r"no such parameter file.*no\.yaml"),
    # Places
    "unknown embedding model": Bad(lambda: _set("preprocessing.embedding_model=bert"), "neither the bundled one.*bert"),
    "cache folder in the way": Bad(
        lambda: _file_in_the_way("preprocessing.cache_dir=blocked/cache") + _file(_frame().drop(columns="embeddings")),
        "embedding cache cannot be used.*blocked",
    ),
    "output folder in the way": Bad(
        lambda: _file_in_the_way("output.embedded_dir=blocked/embedded"), "cannot.*blocked", "embed"
    ),
    "predictions in the way": Bad(
        lambda: _file_in_the_way("output.predictions=blocked/p.parquet"), "cannot.*blocked", "main"
    ),
    # Models
    "model not registered": Bad(lambda: [], "no model is registered as pcc-intent-classifier.*train first", "evaluate"),
    "alias missing": Bad(
        lambda: ["--model", "models:/pcc-intent-classifier@champion"],
        r"no alias champion.*challenger \(version 1\)",
        "evaluate",
        trained=True,
    ),
    "version missing": Bad(
        lambda: ["--model", "models:/pcc-intent-classifier/7"], "no version 7.*versions 1", "evaluate", trained=True
    ),
    "bad model address": Bad(lambda: ["--model", "model.pkl"], "not the address of a model.*models:/", "evaluate"),
    "unknown run": Bad(lambda: ["--model", f"runs:/{'0' * 32}/model"], "no such run", "evaluate"),
    "changed training data": Bad(
        _changed_data, r"not the file that v\d+_\d+ was trained with", "evaluate", trained=True
    ),
    "evaluate without labels": Bad(
        lambda: ["--test-data", _file(_frame().drop(columns="intent"))[1]], "lacks.*intent", "evaluate", trained=True
    ),
}


@pytest.fixture(scope="module")
def trained(new_store, in_process) -> Path:
    """A folder whose MLflow holds one trained model."""
    folder: Path = new_store("trained").folder
    _frame().to_parquet(folder / "cases.parquet", index=False)
    options = ["--data", str(folder / "cases.parquet"), "--search-method", "none"]
    assert in_process(folder, "train", options) == 0
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_gives_one_clear_message(name, request, store, command, monkeypatch) -> None:
    """With exit code 1, without a traceback, and without a word of the data."""
    bad = BAD[name]
    if bad.trained:
        shutil.copyfile(request.getfixturevalue("trained") / "mlflow.db", store.folder / "mlflow.db")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.chdir(store.folder)
    done = command(bad.entry, *bad.options())
    assert done.code == 1, done.err
    assert done.err.count("error: ") == 1, done.err
    assert re.search(bad.says, done.err.partition("error: ")[2], re.DOTALL), done.err
    assert "Traceback" not in done.err
    assert MARK not in done.err + done.out
    assert not Path("owned").exists(), "the pickle's code ran"
    runs = store.runs()[1:] if bad.trained else store.runs()
    if bad.entry == "main" and runs:
        assert runs[0].info.status == "FAILED"
        runs = [run for run in runs if run.info.status != "FINISHED"]  # steps that had ended well
    assert {run.info.status for run in runs} <= {"FAILED"}
    for run in runs:
        assert re.search(bad.says, run.data.tags["pcc.error"], re.DOTALL)
        assert MARK not in run.data.tags["pcc.error"]
    assert not [path for path in store.folder.rglob("*") if path.name.startswith(".partial-")]


def _few_of_many() -> list[str]:
    return _file(_frame(600, [f"label {number:03d}" for number in range(150)]))


def _lone_classes() -> list[str]:
    frame = _frame(63)
    frame.loc[60:, "intent"] = ["alone", "pair", "pair"]
    return _file(frame)


def _long_text() -> list[str]:
    frame = _frame(60)
    frame.loc[0, "text"] = (MARK + " ") * 1000
    assert len(frame.loc[0, "text"]) > 10_000
    return _file(frame)


UNUSUAL = {
    "150 classes of four rows": (
        _few_of_many,
        [
            "--search-method",
            "none",
            "--set",
            "model.hyperparameters.penalty=l2",
            "--set",
            "model.hyperparameters.solver=lbfgs",
        ],
    ),
    "two rows per class": (lambda: _file(_frame(40, [f"c{number}" for number in range(20)])), []),
    "a class of one row": (_lone_classes, ["--search-method", "none"]),
    "a text of over 10,000 characters": (_long_text, ["--search-method", "none"]),
    "an old parameter file": (
        lambda: _params_file("model: {hyperparameters: {C: 1, penalty: l2}, search_method: none}\ndata:\n"),
        [],
    ),
}


@pytest.mark.pipeline
# scikit-learn takes labels of two rows each for a regression's numbers.
@pytest.mark.filterwarnings("ignore:The number of unique classes is greater than 50")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * name.startswith("150 classes")) for name in UNUSUAL]
)
def test_an_unusual_input_works(name, store, command, monkeypatch) -> None:
    make, options = UNUSUAL[name]
    monkeypatch.chdir(store.folder)
    space = "'model.search_space={C: [1, 10], penalty: [l2], solver: [lbfgs]}' model.cv_folds=2 search.n_jobs=1"
    searched = [] if "none" in options or "parameter file" in name else ["--set", space]
    done = command("train", *make(), *options, *searched)
    assert done.code == 0, done.err
    assert MARK not in done.err + done.out
    assert str(store.client.get_model_version_by_alias("pcc-intent-classifier", "challenger").version) == "1"
    rejected = pd.read_parquet(store.file(store.step("train"), "rejected.parquet"))
    assert list(rejected["reason"]) == (["longer than 10,000 characters"] if "10,000" in name else [])


def test_debug_shows_the_traceback(command) -> None:
    from pcc_pipeline.errors import DataError

    with pytest.raises(DataError, match="does not exist"):
        command("train", "--data", "cases.csv", "--debug")


@pytest.mark.pipeline
def test_a_tracking_server_that_is_not_there_is_told_at_once(store, outside, monkeypatch) -> None:
    """Not after minutes of silent attempts."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.chdir(store.folder)
    started = time.monotonic()
    root = Path(__file__).parents[2]
    options = [*_good(), "--params-file", str(root / "params.yaml")]
    process = outside(store.folder, "python", str(root / "entrypoints/train.py"), *options, MLFLOW_TRACKING_URI=address)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(r"error: no MLflow server answers.*127\.0\.0\.1.*MLFLOW_TRACKING_URI", err, re.DOTALL), err
    assert "Traceback" not in err
    assert "secret" not in err
    assert time.monotonic() - started < 25, "imports included"
