"""Nothing that a customer wrote and no secret comes to rest: in the database, the bucket, a log, a page or an alert.

Whole runs, good and failed, on texts with planted marks, with secrets in the environment; then everything is searched.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.sample.messages import sample
from tests.http_receiver import HttpReceiver, receiving
from tests.server.contents import files_of

pytestmark = [pytest.mark.server, pytest.mark.pipeline]

# Words that no library says; each stands in texts, and the last in a column that is no part of the contract.
MARKS = ("zanzibarkowski", "quetzalmeier", "xylophonstrasse", "wombatinski")
SECRETS = {
    "MLFLOW_TRACKING_TOKEN": "tok-5f1e77aa90",
    "HF_TOKEN": "hf-91bbde0c11",
    "AWS_SECRET_ACCESS_KEY": "aws-77ac01d2ef",
    "GOOGLE_API_KEY": "goog-3c4d5e6f70",
}
STORAGE_PASSWORD = "stor-18e1f2a3b4"
LINEAGE_KEY = "0c5a" * 16
CONTROL = "kontrollwort"


def contents(name: str, data: bytes) -> Iterator[bytes]:
    """The bytes of a file, and what is in it where it is packed."""
    yield data
    if data[:2] == b"\x1f\x8b":
        yield from contents(name, gzip.decompress(data))
    elif data[:2] == b"PK" and zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for inner in packed.namelist():
                yield from contents(inner, packed.read(inner))
    elif data[:4] == b"PAR1":
        frame = pd.read_parquet(io.BytesIO(data))
        yield frame.to_csv().encode()


def holders(words: list[str], files: dict[str, bytes]) -> set[tuple[str, str]]:
    """(word, file) of each file that holds a word, in whatever case."""
    found = set()
    for name, data in files.items():
        for part in contents(name, data):
            lowered = part.lower()
            found |= {(word, name) for word in words if word.lower().encode() in lowered}
    return found


def everything(server: Any, shell: Any) -> dict[str, bytes]:
    """The database as text, all files of the bucket, all logs of the server, and what the entry points said."""
    local = server.local
    environment = {**os.environ, "PGPASSWORD": server.secrets["PCC_SERVER_DB_PASSWORD"]}
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))
    program = str(programs[-1]) if programs else "pg_dump"
    where = ["-h", "127.0.0.1", "-p", str(local.ports["postgres"]), "-U", "mlflow", "mlflow"]
    dump = subprocess.run([program, *where], env=environment, capture_output=True, check=True, timeout=240)
    files = {"database": dump.stdout}
    places = [local.bucket_folder, *local.state.glob("*.log"), *shell.folder.glob("*.log")]
    places += [shell.folder / "outputs" / name for name in ("monitoring_log.jsonl", "metrics.json", "scores.parquet")]
    places += [shell.folder / "outputs" / name for name in ("predictions.parquet", "rejected.parquet")]
    return files | {str(path): content for path, content in files_of(*places).items()}


def marked_rows(number: int) -> pd.DataFrame:
    """Labelled rows whose texts hold marks; a few are rejected: without text, with a wrong number, or too long."""
    frame = sample(number).drop(columns=["case_id"], errors="ignore")
    rng = np.random.default_rng(0)
    centres = {label: rng.normal(size=384) for label in sorted(set(frame["intent"]))}
    vectors = [(centres[label] + 4 * rng.normal(size=384)).astype(np.float32) for label in frame["intent"]]
    frame["embeddings"] = [vector.tolist() for vector in vectors]
    frame["text"] = [f"{text} {MARKS[place % 3].title()}{place}" for place, text in enumerate(frame["text"])]
    frame["note"] = MARKS[3]
    frame.loc[5, "confidence"] = 7.5
    frame.loc[6, "text"] = MARKS[0] * 1000
    frame.loc[7, "intent"] = None
    return frame


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    path = tmp_path / "cases.parquet"
    marked_rows(160).to_parquet(path, index=False)
    return path


@pytest.mark.long
def test_no_text_of_a_customer_and_no_secret_comes_to_rest(shell: Any, server: Any, marked: Path) -> None:
    shell.environment |= SECRETS
    common = ["--params-file", shell.params_file, "--data", str(marked)]
    search = [*common, "--model-type", "SGD", "--n-iter", "2", "--set", "model.cv_folds=2 search.n_jobs=1"]
    assert shell.start("main", *search).wait(timeout=280) == 0, shell.said("main")
    scored = shell.start("score", *common, "--model", f"models:/{shell.experiment}@challenger")
    assert scored.wait(timeout=240) == 0, shell.said("score")
    # Runs that fail, each its own way: too many bad rows, a file that is none, a study's database that is away.
    broken = shell.folder / "broken.csv"
    broken.write_text(f'text,intent\n"{MARKS[0]} never ends,opt_out\n{MARKS[1]},a,b,c,"d\n')
    study = f"search.storage=postgresql+psycopg://pcc:{STORAGE_PASSWORD}@127.0.0.1:9/studies"
    optuna = ["--search-method", "optuna", "--n-iter", "2", "--set", f"model.cv_folds=2 search.n_jobs=1 {study}"]
    failing = [
        shell.start("train", *common, "--set", "data.max_rejected_fraction=0.0001"),
        shell.start("train", *common[:2], "--data", str(broken)),
        shell.start("train", *common, *optuna),
        shell.start("train", *common, "--label", "note", "--set", "data.positive_label=nobody"),
    ]
    assert [process.wait(timeout=240) for process in failing] == [1, 1, 1, 1], shell.said("train")
    steps = {run.data.tags["pcc.step"]: run for run in shell.runs()}
    assert set(steps) == {"pipeline", "embed", "train", "trial", "evaluate", "score"}
    assert sum("pcc.error" in run.data.tags for run in shell.runs()) == 4
    stored = {run.data.params.get("search.storage") for run in shell.runs()}
    assert "postgresql+psycopg://pcc:***@127.0.0.1:9/studies" in stored

    # The search finds what is there to be found, in each kind of place.
    run_id = steps["embed"].info.run_id
    shell.client.set_tag(run_id, "control", CONTROL)
    packed = shell.folder / "packed"
    packed.mkdir()
    pd.DataFrame({"a": [CONTROL]}).to_parquet(packed / "a.parquet")
    (packed / "a.gz").write_bytes(gzip.compress(CONTROL.upper().encode()))
    with zipfile.ZipFile(packed / "a.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.json", CONTROL)
    shell.client.log_artifacts(run_id, str(packed), "control")

    files = everything(server, shell)
    assert len(files) > 20
    words = [*MARKS, *SECRETS.values(), STORAGE_PASSWORD, *server.secrets.values(), CONTROL]
    found = holders(words, files)
    control = {name for word, name in found if word == CONTROL}
    assert len(control) == 4
    assert "database" in control
    assert {pair for pair in found if pair[0] != CONTROL} == set()


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with receiving() as one:
        yield one


@pytest.mark.long
def test_the_life_of_a_champion_leaves_no_text_either(shell: Any, server: Any, receiver: HttpReceiver) -> None:
    """Watched, alarmed about, trained anew, compared in the field: each with marks in its files."""
    address = f"json://127.0.0.1:{receiver.port}/pass-of-the-receiver"
    shell.environment |= SECRETS | {"PCC_NOTIFY": address, "PCC_LINEAGE_KEY": LINEAGE_KEY}
    common = ["--params-file", shell.params_file]
    settings = "model.cv_folds=2 registry.gates=[] registry.publish.target=published output.metrics_file=watched.prom"

    def run(script: str, *arguments: str, code: int = 0) -> None:
        ended = shell.start(script, *common, *arguments, "--set", settings).wait(timeout=280)
        assert ended == code, shell.said(script)

    arrived = shell.folder / "arrived"
    arrived.mkdir()
    rows = marked_rows(700)
    rows.to_parquet(arrived / "cases_20261001.parquet", index=False)
    run("retrain", "--watch", str(arrived), "--search-method", "none")

    # Messages that have changed, some of them broken, whose labels come later; scored by two versions.
    later = rows.copy()
    later["case_id"] = [f"case {number}" for number in range(len(later))]
    later["text"] = [f"{MARKS[1]} {MARKS[2]} qzxv {number}" for number in range(len(later))]
    later["embeddings"] = [list(np.roll(vector, 100)) for vector in later["embeddings"]]
    later.to_parquet(shell.folder / "later.parquet", index=False)
    later[["case_id", "intent"]].dropna().to_csv(shell.folder / "labels.csv", index=False)
    watched = (
        "--data",
        "later.parquet",
        "--labels",
        "labels.csv",
        "--logs",
        "outputs/monitoring_log.jsonl",
        "--fail-on",
        "alert",
    )
    run("monitor", *watched, "--label", "intent", code=3)
    run("train", "--data", "arrived/cases_20261001.parquet", "--search-method", "none", "--model-type", "SGD")
    run("score", "--data", "later.parquet", "--challenger-share", "0.5")
    run("ab_test", "--data", "outputs/scores.parquet", "--labels", "labels.csv", "--challenger-share", "0.5")
    both = pd.concat([rows, later.drop(columns="case_id")])
    both.to_parquet(arrived / "cases_20261101.parquet", index=False)
    run("retrain", "--watch", str(arrived), "--search-method", "none")

    steps = {one.data.tags["pcc.step"] for one in shell.runs()}
    assert {"retrain", "monitor", "score", "ab_test", "evaluate", "promote"} <= steps
    assert receiver.taken, "nobody was told"
    own = {"embedded", "unlogged"}
    outputs = [path for path in (shell.folder / "outputs").iterdir() if path.name not in own]
    places = [*outputs, shell.folder / "published", shell.folder / "watched.prom"]
    files = everything(server, shell) | {str(path): content for path, content in files_of(*places).items()}
    files |= {f"letter {number}": letter for number, letter in enumerate(receiver.bodies)}
    assert any(name.endswith("monitor.html") for name in files)
    assert any(name.endswith("book.json") for name in files)
    assert any(name.endswith("watched.prom") for name in files)
    assert sum(name.endswith("lineage.parquet") for name in files) >= 7
    words = [*MARKS, *SECRETS.values(), *server.secrets.values(), "pass-of-the-receiver", LINEAGE_KEY]
    assert holders(words, files) == set()
