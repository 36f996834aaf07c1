"""`pcc lineage`: a person's rows through embedding, training, evaluation and scoring, by keyed hashes alone."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd
import pytest

from pcc_pipeline.command_line import pcc
from pcc_pipeline.persons.manifest import NAME as MANIFEST
from pcc_pipeline.tracking.store.manifests import KEY_TAG
from tests import process_state
from tests.pipeline.conftest import Store, said

pytestmark = pytest.mark.pipeline

MODEL = "pcc-intent-classifier"

ROWS = 240


def texts_in(value: object) -> Iterator[str]:
    """Every text of a JSON document."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)
    elif isinstance(value, str):
        yield value


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def lineage(traced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`lineage("--subject", "customer-0")` in the store's folder."""
    monkeypatch.chdir(traced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", traced.uri)

    def call(*words: str) -> Said:
        capsys.readouterr()
        with process_state.entry_point_undone():
            return Said(pcc.main(["lineage", *words]), *capsys.readouterr())

    return call


def test_a_subject_is_found_in_every_run_on_its_sides(lineage: Callable[..., Said], traced) -> None:
    done = lineage("--subject", "customer-0", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    runs = {run["step"]: run for run in document["runs"]}
    assert set(runs) == {"embed", "train", "evaluate", "score"}
    its = list(range(0, ROWS, 40))
    sides = {part["side"]: part["rows"] for part in runs["train"]["rows"]}
    assert sorted(row for rows in sides.values() for row in rows) == its
    split = pd.read_parquet(traced.file(traced.step("train"), "split.parquet"))
    for side, rows in sides.items():
        assert set(split["split"].iloc[rows]) == {side}, side
    tested = [part["rows"] for part in runs["evaluate"]["rows"]]
    assert [row for rows in tested for row in rows] == sides.get("test", [])
    assert runs["score"]["rows"] == [{"side": "scored", "file": "today.parquet", "rows": [0]}]
    assert runs["score"]["copies"]["output.scores"] == "outputs/scores.parquet"
    (made,) = runs["train"]["made"]
    assert (made["name"], made["number"]) == (MODEL, "1")
    assert {"champion", "challenger"} == set(made["aliases"])
    assert any(address.startswith("published/v") for address in made["published"])
    assert document["without_their_key"] == {}


def test_a_case_is_found_by_its_id_and_the_tree_is_for_people(lineage: Callable[..., Said]) -> None:
    done = lineage("--case-id", "case-1")
    assert done.code == 0, done.err
    assert "runs of 4 read rows of this person" in done.out
    assert "scored    1 row of today.parquet: row 1" in done.out
    assert f"made      {MODEL} version 1 (" in done.out
    assert lineage("--case-id", "nobody").out.startswith("0 runs of 4 read rows of this person")


def test_manifests_name_nobody_and_lie_with_the_runs(traced) -> None:
    for step in ("embed", "train", "evaluate", "score"):
        run = traced.step(step)
        content = traced.file(run, MANIFEST).read_bytes()
        assert b"customer-" not in content
        assert b"case-" not in content
        assert len(run.data.tags[KEY_TAG]) == 8


def test_a_version_tells_what_it_read_without_a_key(lineage: Callable[..., Said]) -> None:
    done = lineage("--version", "@champion")
    assert done.code == 0, done.err
    assert "rows of cases.parquet" in done.out
    assert "train" in done.out


def test_without_the_key_nobody_is_found_and_it_is_said(
    lineage: Callable[..., Said], traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = traced.folder / "lineage.key"
    content = key.read_bytes()
    assert lineage("key").code == 1
    try:
        key.unlink()
        done = lineage("--subject", "customer-0")
        assert done.code == 1
        assert "there is no key of lineage" in done.err
        monkeypatch.setenv("PCC_LINEAGE_KEY", "0b" * 32)
        done = lineage("--subject", "customer-0")
        assert done.code == 0
        assert "0 runs of 0 read" in done.out
        assert "not looked into: 4 runs of the key" in done.out
        assert "customer-0" not in done.out + done.err
    finally:
        key.write_bytes(content)
        key.chmod(0o600)
    monkeypatch.delenv("PCC_LINEAGE_KEY")
    assert "1 earlier one still read" in lineage("key", "--rotate").out
    assert "4 runs of 4 read" in lineage("--subject", "customer-0").out


def test_what_is_asked_amiss_is_told(lineage: Callable[..., Said]) -> None:
    assert "nobody is named" in lineage().err
    assert "--rotate is of the key" in lineage("--rotate", "--subject", "a").err
    assert "there is a key already" in lineage("key").err
    assert lineage("--version", "v20000101_000000").code == 1


def test_a_person_gets_all_that_is_held_and_nothing_of_others(
    traced, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(traced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", traced.uri)

    def export(*words: str) -> Said:
        capsys.readouterr()
        with process_state.entry_point_undone():
            return Said(pcc.main(["subject", "export", *words]), *capsys.readouterr())

    done = export("--subject", "customer-1", "--output", "for-them")
    assert done.code == 0, done.err
    folder = traced.folder / "for-them"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    its = {f"case-{place}" for place in range(1, ROWS, 40)}
    lines = {
        path.name: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.rglob("*.jsonl")
    }
    for name, rows in lines.items():
        assert rows, name
        assert {row["case_id"] for row in rows} <= its, name
    (embedded,) = [rows for name, rows in lines.items() if "cases-" in name]
    assert {row["case_id"] for row in embedded} == its
    assert all(len(row["embeddings"]) == 384 and row["customer"] == "customer-1" for row in embedded)
    assert any("predictions.parquet-of-run" in name for name in lines)
    assert any("scores.parquet" in name for name in lines)
    for path in folder.rglob("*.csv"):
        assert {*pd.read_csv(path)["case_id"]} <= its
    records = json.loads((folder / "records.json").read_text())
    assert sum(table["rows"] for table in records["tables"]) == sum(map(len, lines.values()))
    # It goes to the person, whom it is no business where the owner's files lie: they are called by their names alone.
    values = set(texts_in(records))
    assert {"cases.parquet", "today.parquet"} <= values
    assert not [text for text in values if "/" in text]
    page = (folder / "README.md").read_text()
    assert "The program has learned from your messages." in page
    (copied,) = (path.name for path in folder.rglob("*cases-*.csv"))
    assert f"- `rows/{copied}` (6 rows): your messages as the program read them, with the numbers" in page
    assert re.search(
        r"`rows/\d\d-predictions.parquet-of-run-\w+.csv` \(\d rows?\): what the program answered .* tried out", page
    )
    assert re.search(r"`rows/\d\d-scores.parquet.csv` \(1 row\): what the program answered to your messages\n", page)
    # It is for the person: nothing in it speaks to the owner, or in the words of who trains models.
    said_of_it = re.sub(r"`[^`]*`", "", page)
    assert not re.search(r"\brun\b|version|case_id|which is yours|manifest|not in ", said_of_it, re.IGNORECASE)
    for line in ("in the file cases.parquet, which is yours; add these rows", "to do      hand it over by a way"):
        assert line in done.out
    assert f"{sum(map(len, lines.values())):,} rows of" in done.out
    again = export("--subject", "customer-1", "--output", "for-them")
    assert "there is something already" in again.err
    nobody = export("--subject", "nobody", "--output", "for-nobody")
    assert "nothing is known of this person in 4 runs" in nobody.err
    assert not (traced.folder / "for-nobody").exists()
    # A case alone, of a file of predictions as CSV too.
    pd.read_parquet("outputs/scores.parquet").to_csv("outputs/scores.csv", index=False)
    assert export("--case-id", "case-1", "--output", "for-a-case").code == 0
    # On record, by keyed hashes alone.
    with process_state.entry_point_undone():
        assert pcc.main(["lineage", "--case-id", "case-1"]) == 0
    (log,) = (traced.folder / "outputs/audit").glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["outcome"], *line["on"]) for line in lines if line["what"] == "export"]
    assert told == [
        ("begun", "subject"),
        ("done", "subject"),
        ("begun", "subject"),
        ("failed: there is something already", "subject"),
        ("begun", "subject"),
        ("failed: nothing is known of this person in 4 runs", "subject"),
        ("begun", "case"),
        ("done", "case"),
    ]
    assert [line["on"] for line in lines if line["what"] == "new key"]
    assert (lines[-1]["what"], lines[-1]["outcome"], lines[-1]["on"]["runs"]) == ("look up", "done", 3)
    assert not re.search(r"customer-|case-\d|for-", log.read_text())


def test_an_export_names_no_folder_of_the_files_that_were_scored_together(traced_copy: Store) -> None:
    folder = traced_copy.folder
    (folder / "days").mkdir()
    rows = pd.read_parquet(folder / "today.parquet")
    for day in ("monday", "tuesday"):
        rows.assign(case_id=[f"{case}-{day}" for case in rows["case_id"]]).to_parquet(folder / f"days/{day}.parquet")
    columns = ("--set", "output.extra_columns=[row]")
    for words in (
        ("score", "--data", "days/", "--output", "week.parquet", *columns),
        ("subject", "export", "--subject", "customer-1", "--output", "without-folders"),
    ):
        done = said(folder, *words)
        assert done.code == 0, done.err
    assert set(pd.read_parquet(folder / "week.parquet")["file"]) == {"days/monday.parquet", "days/tuesday.parquet"}
    (scored,) = (folder / "without-folders" / "rows").glob("*week.parquet.csv")
    assert list(pd.read_csv(scored)["file"]) == ["monday.parquet", "tuesday.parquet"]
    assert "days" not in (folder / "without-folders" / "records.json").read_text()


def test_a_manifest_that_was_altered_is_an_error_and_nobody_is_missed(lineage: Callable[..., Said], traced) -> None:
    run = traced.step("score")
    place = Path(url2pathname(urlsplit(run.info.artifact_uri).path)) / MANIFEST
    content = place.read_bytes()
    # Another run's manifest is whole, and of the right key.
    place.write_bytes(traced.file(traced.step("evaluate"), MANIFEST).read_bytes())
    try:
        done = lineage("--case-id", "case-1")
        assert done.code == 1
        assert "the manifest was altered after it was logged" in done.err
        assert run.info.run_id in done.err
    finally:
        place.write_bytes(content)
    assert lineage("--case-id", "case-1").code == 0
