"""Promotion publishes: what the downstream system takes up is the champion, after a rollback too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import pytest

from pcc_pipeline.encoder.sentence_encoder import file_sha256
from pcc_pipeline.publishing.publish import fetch_published, greatest_version
from pcc_pipeline.steps import train
from pcc_pipeline.storage.objects import open_store
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel, load_trained_model
from tests import process_state

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
NO_GATES = "registry.gates=[]"

# What the downstream system does, with scikit-learn, joblib and numpy and nothing else of this environment.
DOWNSTREAM = """
import json, sys, pathlib
import joblib, numpy as np
prefix = pathlib.Path(sys.argv[1])
folder = max(path for path in prefix.iterdir() if path.name.startswith("v"))
model, rows = joblib.load(folder / "model.joblib"), np.load(sys.argv[2]).astype(np.float64)
labels = [model.predict(row[None, :])[0] for row in rows]
assert all(isinstance(label, str) for label in labels), type(labels[0])
assert all(abs(model.predict_proba(row[None, :]).sum() - 1) < 1e-9 for row in rows)
others = sorted({name.partition(".")[0] for name in sys.modules} & {"pcc_pipeline", "mlflow", "pandas", "imblearn"})
described = json.loads((folder / "metadata.json").read_text())
print(json.dumps({"folder": folder.name, "labels": [str(label) for label in labels], "others": others,
                  "described": {name: described[name] for name in
                                ("model_version", "embedding_model", "trained_on", "classifier")}}))
"""


@pytest.fixture
def bare_python(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A Python that sees scikit-learn, joblib, NumPy and what these need of this environment, and nothing else."""
    here = Path(np.__file__).parents[1]
    there = tmp_path / "bare"
    there.mkdir()
    for name in ("sklearn", "scikit_learn.libs", "joblib", "numpy", "numpy.libs", "scipy", "scipy.libs",
                 "threadpoolctl.py", "narwhals", "cloudpickle", "loky"):  # fmt: skip
        if (here / name).exists():
            (there / name).symlink_to(here / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return sys.executable, {**kept, "PYTHONPATH": str(there)}


def downstream(bare: tuple[str, dict[str, str]], target: Path, vectors: Path) -> dict[str, Any]:
    python, environment = bare
    done = subprocess.run(
        [python, "-S", "-c", DOWNSTREAM, str(target), str(vectors)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def model_at(store: Any, alias: str) -> TrainedModel:
    with process_state.mlflow_undone():
        mlflow.set_tracking_uri(store.uri)
        return load_trained_model(f"models:/{NAME}@{alias}").model


def promote(command: Any, target: str, *more: str) -> Any:
    done = command("promote", "--set", NO_GATES, "--set", f"registry.publish.target={target}", *more)
    assert done.code == 0, done.err
    return done


def test_the_downstream_system_takes_up_the_champion_through_promotion_and_rollback(
    command: Any, two_versions: Any, tmp_path: Path, bare_python: Any
) -> None:
    target, vectors = tmp_path / "target", tmp_path / "vectors.npy"
    rows = np.random.default_rng(7).normal(size=(12, 584)) / np.sqrt(584)
    np.save(vectors, rows)

    def taken() -> dict[str, Any]:
        found = downstream(bare_python, target, vectors)
        assert found["others"] == []
        return found

    def wanted() -> tuple[str, list[str]]:
        champion = model_at(two_versions, "champion")
        return champion.model_version, [str(label) for label in champion.classifier.predict(rows.astype(np.float64))]

    for move in (
        ("--model", f"models:/{NAME}/1"),
        ("--model", f"models:/{NAME}/2"),
        ("--rollback", "true"),
        ("--rollback", "true"),
    ):
        done = promote(command, str(target), *move)
        found = taken()
        assert (found["described"]["model_version"], found["labels"]) == wanted()
        assert f"{target}/{found['folder']}" in done.out
        assert greatest_version(open_store(str(two_versions.folder / "outputs/models"))) is not None
    assert found["described"]["embedding_model"] == "all-MiniLM-L6-v2"
    assert len([path for path in target.iterdir() if path.name.startswith("v")]) == 4
    last = max((run for run in two_versions.runs() if "pcc.move" in run.data.tags), key=lambda run: run.info.start_time)
    assert f"{target}/{found['folder']}" in last.data.tags["pcc.published"]
    features = joblib.load(target / found["folder"] / "features.joblib")
    assert features.transform(["please delete my data"]).shape == (1, 200)


def test_promotion_publishes_to_a_bucket(command: Any, one_version: Any, bucket: str) -> None:
    promote(command, f"{bucket}/pcc-models")
    there = open_store(f"{bucket}/pcc-models")
    version = greatest_version(there)
    assert version is not None
    fetched = one_version.folder / "fetched"
    fetched.mkdir()
    metadata = fetch_published(there, version, fetched)
    classifier = joblib.load(fetched / "model.joblib")
    champion = model_at(one_version, "champion")
    rows = np.random.default_rng(7).normal(size=(12, 584))
    np.testing.assert_array_equal(classifier.predict_proba(rows), champion.classifier.predict_proba(rows))
    assert metadata["run_id"] == one_version.client.get_model_version_by_alias(NAME, "champion").run_id


class Touches:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_publishing_runs_nothing_that_others_put_into_the_target(command: Any, one_version: Any) -> None:
    """The attack: whoever may write to the target replaces the model, and mends metadata.json to agree with it."""
    target, marker = one_version.folder / "target", one_version.folder / "ran"
    promote(command, str(target))
    (version,) = [path for path in target.iterdir() if path.name.startswith("v")]
    recorded = {f"pcc.publication.{file_sha256(version / 'metadata.json')}"}
    tags = one_version.client.get_model_version(NAME, "1").tags
    assert {name for name in tags if name.startswith("pcc.publication.")} >= recorded
    joblib.dump(Touches(marker), version / "model.joblib")
    written = json.loads((version / "metadata.json").read_text())
    written["files"]["model.joblib"] = file_sha256(version / "model.joblib")
    (version / "metadata.json").write_text(json.dumps(written))

    setting = ("--set", NO_GATES, "--set", f"registry.publish.target={target}")
    done = command("promote", "--model", f"models:/{NAME}/1", *setting)
    assert done.code == 1
    assert "is not what was published from here" in done.err
    assert "do not load them" in done.err
    assert "Traceback" not in done.err
    assert not marker.exists()
    shutil.rmtree(version)
    again = command("promote", "--model", f"models:/{NAME}/1", *setting)
    assert again.code == 0, again.err
    assert "nothing moved: version 1 is the champion already, since move 1" in again.out
    assert file_sha256(version / "metadata.json") == next(iter(recorded)).rpartition(".")[2]


def test_a_target_that_cannot_be_written_is_found_out_before_anything_moves(command: Any, one_version: Any) -> None:
    blocked = one_version.folder / "file"
    blocked.write_text("no folder")
    done = command("promote", "--set", NO_GATES, "--set", f"registry.publish.target={blocked}")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert str(blocked) in done.err
    assert list(one_version.client.get_registered_model(NAME).aliases) == ["challenger"]


def test_a_champion_that_could_not_be_published_says_so_and_is_published_later(command: Any, one_version: Any) -> None:
    target = one_version.folder / "target"
    version = model_at(one_version, "challenger").model_version
    # Somebody else's file under the version's name: nothing that a look at the folder's listing could refuse.
    (target / version).mkdir(parents=True)
    (target / version / "foreign.bin").write_bytes(b"x")
    setting = ("--set", NO_GATES, "--set", f"registry.publish.target={target}")
    done = command("promote", *setting)
    assert done.code == 1
    assert "version 1 of pcc-intent-classifier is the champion now, but it was not published" in done.err
    assert "pcc models publish" in done.err
    assert one_version.client.get_registered_model(NAME).aliases["champion"] == 1
    (target / version / "foreign.bin").unlink()
    assert promote(command, str(target)).out.count(f"{target}/{version}") == 1
    assert greatest_version(open_store(str(target))) == version


@pytest.mark.long
def test_manage_models_promotes_rolls_back_and_publishes(
    two_versions: Any, in_process: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    target = two_versions.folder / "target"
    settings = two_versions.folder / "own.yaml"
    settings.write_text(f"registry: {{gates: [], publish: {{target: {target}}}}}\n", encoding="utf-8")

    def manage(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = in_process(two_versions.folder, "manage_models", [*arguments, "--params-file", str(settings)])
        return code, *capfd.readouterr()

    version = model_at(two_versions, "challenger").model_version
    code, out, err = manage("promote", "1", "--reason", "the first")
    assert (code, "champion is version 1 now" in out) == (0, True), err
    code, out, err = manage("promote", version.replace("_", ""), "--json")
    assert code == 0, err
    done = json.loads(out)
    assert (done["action"], done["champion"], done["champion_before"], done["move"]) == ("promoted", "2", "1", 2)
    assert [each["version"] for each in done["publications"]] == [version, version]
    shutil.rmtree(target)
    code, out, err = manage("publish")
    assert (code, f"{target}/{version}\n" in out) == (0, True), err
    code, out, err = manage("rollback", "--reason", "complaints", "--experiment", "pcc-intent")
    assert (code, "champion is version 1 now" in out) == (0, True), err
    assert model_at(two_versions, "champion").model_version != version
    code, out, err = manage("rollback", "--experiment", "nobody")
    assert (code, out) == (1, "")
    assert "the experiment nobody does not exist" in err
    code, _, err = manage("promote", "v20200101_000000")
    assert code == 1
    assert "Traceback" not in err
    assert [run.data.tags["pcc.step"] for run in two_versions.runs()][-4:] == [
        "promote",
        "promote",
        "publish",
        "promote",
    ]


@pytest.mark.long
def test_main_promotes_on_its_own_only_if_asked_and_only_through_the_gates(command: Any, one_version: Any) -> None:
    strict = "'registry.gates=[{kind: minimum, metric: test/f1_macro, threshold: 0.8}]'"
    assert "champion" not in one_version.client.get_registered_model(NAME).aliases
    done = command("main", "--search-method", "none", "--promote", "auto", "--set", strict)
    assert done.code == 0, done.err
    assert "champion is version 2 now" in done.out
    weak = command(
        "main",
        "--search-method",
        "none",
        "--promote",
        "auto",
        "--set",
        strict,
        "--set",
        "model.hyperparameters.C=0.0001",
    )
    assert weak.code == 0, "a refusal leaves the training as it is"
    assert "refused" in weak.out
    assert "minimum test/f1_macro" in weak.out
    assert one_version.client.get_registered_model(NAME).aliases == {"champion": 2, "challenger": 3}
    (root,) = [run for run in one_version.runs() if run.info.run_id == newest_pipeline(one_version)]
    assert root.info.status == "FINISHED"
    refused = [run for run in one_version.runs() if run.data.tags.get("pcc.action") == "refused"]
    assert [run.data.tags["mlflow.parentRunId"] for run in refused] == [root.info.run_id]
    wrong = command("main", "--promote", "always")
    assert wrong.code == 1
    assert "give auto or never" in wrong.err


def newest_pipeline(store: Any) -> str:
    runs = [run for run in store.runs() if run.data.tags.get("pcc.step") == "pipeline"]
    return str(max(runs, key=lambda run: run.info.start_time).info.run_id)


@pytest.mark.long
def test_main_that_could_not_publish_says_that_the_training_is_done(
    command: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target takes the probe before the training, and a foreign folder stands in it when the champion comes."""
    target = store.folder / "target"
    begin = train.run

    def then_block(*arguments: Any) -> Any:
        found = begin(*arguments)
        (target / "vendor").mkdir(parents=True)
        (target / "vendor" / "file").write_bytes(b"x")
        return found

    monkeypatch.setattr(train, "run", then_block)
    setting = ("--set", NO_GATES, "--set", f"registry.publish.target={target}")
    done = command("main", "--search-method", "none", "--promote", "auto", *setting)
    assert done.code == 1
    assert "would take up the folder vendor before any new version" in done.err
    assert f"the training is done: models:/{NAME}/1, evaluated and registered as challenger" in done.err
    assert list(store.client.get_registered_model(NAME).aliases) == ["challenger"]
