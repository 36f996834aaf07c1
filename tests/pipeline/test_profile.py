"""`pcc profile`: what a file is like, in the terminal, for machines and as a page, without a word of it."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.errors import DataError
from pcc_pipeline.steps.inputs.datasets import load_dataset

pytestmark = pytest.mark.pipeline

PCC = "pcc_pipeline.command_line.pcc"
MARKS = ("Zanzibarkowski", "Quetzalmeier", "Wombatinski", "Xylophonstrasse")


@pytest.fixture
def marked() -> pd.DataFrame:
    """Rows with marks in texts, case ids, a column of their own and its name, and in a field that slipped."""
    frame = sample(60).astype({"confidence": object})
    frame["text"] = [f"{text} {MARKS[0]}{place}" for place, text in enumerate(frame["text"])]
    frame["case_id"] = [f"{MARKS[1]}-{place}" for place in range(60)]
    frame[f"I am {MARKS[2]}, call me"] = f"{MARKS[2]} street"
    frame.loc[3, "intent"] = f"Please call {MARKS[3]}, now"
    frame.loc[4, "text"] = " "
    frame.loc[5, "confidence"] = MARKS[3]
    frame.loc[6, "case_id"] = frame.loc[7, "case_id"]
    frame.loc[8, "text"] = frame.loc[9, "text"]
    return frame


def test_nothing_that_a_customer_wrote_is_shown_and_nothing_is_kept(command, store, marked, tmp_path) -> None:
    marked.to_csv(tmp_path / "cases.csv", index=False)
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    at, cache = ("--data", str(tmp_path / "cases.csv"), "-v"), tmp_path / "cache"
    page = tmp_path / "profile.html"
    own = ("--set", f"preprocessing.cache_dir={cache}")
    done = command(PCC, "profile", *at, "--html", str(page), *own)
    assert done.code == 0, done.err
    machine = command(PCC, "profile", *at, "--json", *own)
    html = page.read_text(encoding="utf-8")
    for mark in MARKS:
        assert mark not in done.out + done.err + machine.out + machine.err + html
    assert {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()} == before
    assert not cache.exists()

    assert "60 rows, 57 good, 3 rejected" in done.out
    assert "1 x confidence: not a number (first in row 5)" in done.out
    assert "Rows that repeat the text of another: 1 row of 57" in done.out
    assert "Labels that may be texts, and are not shown: 1, in 1 row of 57" in done.out
    document = json.loads(machine.out)
    assert document["metrics"]["quality/rejected_rows"] == 3
    assert {one["reason"] for one in document["rejections"]} == {"blank", "not a number", "repeated"}
    assert "(column 11: not shown, reads like data)" in [column["name"] for column in document["columns"]]
    assert "default-src 'none'" in html
    assert not re.search(r"https?:|src=|<script|@import|url\(", html)
    for title in ("Can it be used?", "Complete", "Valid", "Unique", "Consistent", "Fresh"):
        assert title in html


def test_a_file_that_a_run_would_stop_at_says_so_first(command, tmp_path) -> None:
    frame = sample(40)
    frame.loc[:9, "text"] = ""
    frame.to_csv(tmp_path / "cases.csv", index=False)
    done = command(PCC, "profile", "--data", str(tmp_path / "cases.csv"))
    assert done.code == 0, done.err
    first = next(line for line in done.out.splitlines() if line.startswith(("stops", "look at")))
    assert first.startswith("stops      Rows that break a rule: 10 rows of 40 (25.0 %). That is more than")
    with pytest.raises(DataError, match="10 of 40 rows break the data contract"):
        load_dataset(str(tmp_path / "cases.csv"), Params())


def test_messages_without_labels_are_a_file_to_score(command, tmp_path) -> None:
    sample(40)[["text"]].to_json(tmp_path / "today.jsonl", orient="records", lines=True)
    at = ("--data", str(tmp_path / "today.jsonl"))
    page = tmp_path / "profile.html"
    done = command(PCC, "profile", *at, "--html", str(page))
    assert done.code == 0, done.err
    assert "without labels, as a file to score" in done.out
    assert "consistent not known" in done.out
    assert "Fresh" not in page.read_text(encoding="utf-8")
    refused = command(PCC, "profile", *at, "--label", "topic")
    assert refused.code == 1
    assert "lacks required columns: topic" in refused.err


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (None, (), "the data file does not exist"),
        ("", (), "the data file is empty"),
        ("text,intent\n", (), "columns and no rows"),
        ("message,intent\na,b\n", (), "lacks required columns: text"),
        ("text,intent\na,b\n", ("--html", "cases.csv"), "would replace the file of data.path"),
        ("text,intent\na,b\n", ("--html", "gs://bucket/a.html"), "written to this machine"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message(command, store, content, options, says: str) -> None:
    if content is not None:
        (store.folder / "cases.csv").write_text(content, encoding="utf-8")
    refused = command(PCC, "profile", "--data", "cases.csv", *options)
    assert (refused.code, refused.out) == (1, "")
    assert says in refused.err
    assert "Traceback" not in refused.err


def test_a_model_says_which_labels_it_does_not_know_and_what_it_learned(command, trained_stores, tmp_path) -> None:
    frame = sample(300, seed=99)
    frame.loc[len(frame)] = {**sample(900).iloc[0].to_dict(), "case_id": "its-own"}
    frame.loc[frame.index[:30], "intent"] = "rectification"
    frame = frame[frame["intent"] != "opt_out"]
    frame.to_parquet(tmp_path / "cases.parquet", index=False)
    at = ("--data", str(tmp_path / "cases.parquet"), "--model")
    name = "models:/pcc-intent-classifier"
    done = command(PCC, "profile", *at, f"{name}@challenger", store=trained_stores[0])
    assert done.code == 0, done.err
    assert re.search(r"Labels that v\d+_\d+ does not know: 1, in 30 rows .*\(rectification\)", done.out)
    assert re.search(r"Labels of v\d+_\d+ without a row: 1 \(opt_out\)", done.out)
    assert re.search(r"Texts that v\d+_\d+ learned: \d+ rows? of", done.out)
    missing = command(PCC, "profile", *at, f"{name}/9", store=trained_stores[0])
    assert (missing.code, missing.out) == (1, "")
