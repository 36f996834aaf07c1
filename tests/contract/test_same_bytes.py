"""One input, one seed, the same bytes: bundle and published files of two processes that share nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.model.families import FAMILIES

# Each process trains, bundles, reads back and publishes a small model of every family.
CODE = """
import sys, time, warnings
from pathlib import Path
if sys.argv[2] == "other":  # other imports first, other addresses, another clock
    import decimal, fractions
    kept = [object() for _ in range(100_000)]
    time.sleep(2.1)
warnings.simplefilter("ignore")
import numpy as np
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.model.families import FAMILIES
from pcc_pipeline.model.fitting import PreparedRows, Recipe, Rows, fit, prepare
from pcc_pipeline.publishing.joblib_files import write_plain
from pcc_pipeline.tracking.logged_models.bundle import open_bundle, write_bundle
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel
SMALL = {"LinearSVC": {"calibration_folds": 2}, "RandomForest": {"n_estimators": 3},
    "HistGradientBoosting": {"max_iter": 2}, "MLP": {"hidden_layer_sizes": [4], "max_iter": 3},
    "Voting": {"members": ["LogisticRegression", "SGD"]}, "Stacking": {"members": ["SGD", "MLP"], "cv": 2}}
frame = sample(120)
halves = np.random.default_rng(0).normal(size=(120, 384)).astype(np.float32)
rows = Rows(list(frame["text"]), halves, frame["intent"].to_numpy(object))
classes = tuple(sorted(set(rows.labels)))
prepared = prepare(rows, Recipe("SGD", "SMOTE", {"n_features": 1024, "components": 20}, seed=3))
write_plain(prepared.lexical, Path(sys.argv[1]) / "features.joblib")
whole = PreparedRows(None, prepared.vectors, prepared.labels)
for family in FAMILIES:
    model = fit(whole, SMALL.get(family, {}), Recipe(family, "none", {}, seed=3))
    folder = Path(sys.argv[1]) / family
    folder.mkdir()
    digest = write_bundle(TrainedModel(model.classifier, None, classes, "v", "elsewhere", "", 584), None, folder)
    write_plain(open_bundle(folder, digest, "here").classifier, Path(sys.argv[1]) / f"{family}.joblib")
"""


@pytest.mark.long
def test_two_processes_write_the_same_bytes_for_every_family(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("one", "1"), ("other", "77")):
        folder = tmp_path / name
        folder.mkdir()
        # Not OMP_NUM_THREADS, which a gradient boosting holds.
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", CODE, str(folder), name], check=True, env=environment, timeout=600)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests.append({str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest() for path in files})
    assert len(digests[0]) == 1 + 3 * len(FAMILIES)
    assert [name for name in digests[0] if digests[0][name] != digests[1].get(name)] == []


@pytest.mark.long
def test_two_whole_trainings_write_the_same_bytes_but_for_their_names(tmp_path: Path) -> None:
    """A calibrator, a choice of features, balanced rows, the split, and the profile that monitoring goes by."""
    sample().head(400).to_csv(tmp_path / "cases.csv", index=False)
    options = (
        f"model.calibration=isotonic model.feature_selection=mutual_information preprocessing.cache_dir={tmp_path}"
    )
    command = ["train", "--data", str(tmp_path / "cases.csv"), "--search-method", "none", "--set", options]
    written: list[dict[str, bytes]] = []
    for seed in ("1", "77"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PCC_"))}
        environment |= {"PYTHONHASHSEED": seed}
        program = [Path(sys.executable).with_name("pcc"), *command]
        subprocess.run(program, check=True, cwd=folder, env=environment, timeout=600, capture_output=True)
        files = [path for path in folder.rglob("*") if path.is_file() and "artifacts" in path.parts]
        written.append({str(path).partition("artifacts")[2]: path.read_bytes() for path in files})
    one, other = written
    different = {Path(name).name for name in one if one[name] != other.get(name)}
    # They name the version, its run and the time.
    assert different == {"MLmodel", "manifest.json", "metadata.json", "metrics.json", "reference_profile.npz"}
    profiles = [np.load(io.BytesIO(each["/reference_profile.npz"])) for each in written]
    arrays = [{name: profile[name].tobytes() for name in profile.files} for profile in profiles]
    assert {name for name in arrays[0] if arrays[0][name] != arrays[1].get(name)} == {"facts"}
