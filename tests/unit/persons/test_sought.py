"""Persons by keyed hashes: found in tables of any kind, kept out of what is read, taken out of files."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import load
from pcc_pipeline.errors import ConfigError, DataError
from pcc_pipeline.persons.documents import without_cases
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.manifest import Manifest, look_up
from pcc_pipeline.persons.rows import count_in, rows_of, take_out
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.persons.suppression import Suppression, read_suppressed, suppress
from pcc_pipeline.sealing import keys as seal_keys
from pcc_pipeline.sealing.parquet import is_sealed, parquet_file, write_frame
from pcc_pipeline.steps.records.persons import add_rejected

KEY, OTHER = Key(b"k" * 32), Key(b"o" * 32)
KEYS = Keys((KEY, OTHER))
TABLE = pd.DataFrame(
    {
        "case_id": ["c1", "c2", "c3", "c4", "c5"],
        "who": ["anna", "bea", None, "anna", "carl"],
        "text": [f"message {place}" for place in range(5)],
        "intent": ["a", "b", "a", "b", "a"],
    }
)


def test_rows_are_a_persons_by_subject_or_by_case() -> None:
    assert Sought.of(KEYS, ["anna"]).in_table(TABLE, "who").tolist() == [True, False, False, True, False]
    assert Sought.of(KEYS, case_ids=["c3"]).in_table(TABLE, "who").tolist() == [False, False, True, False, False]
    assert not Sought.of(KEYS, ["anna"]).in_table(TABLE, None).any()
    assert not Sought.of(KEYS, ["c1"], ["anna"]).in_table(TABLE, "who").any()


def test_a_case_that_a_person_had_elsewhere_is_theirs_where_no_other_subject_is_named() -> None:
    theirs = Sought.of(KEYS, case_ids=["c2", "c3"]).cases
    persons = Sought.of(KEYS, ["anna"]).with_their_cases(theirs)
    # c2 is bea's here, whatever it was elsewhere: numbers of cases may begin anew in each file.
    assert persons.in_table(TABLE, "who").tolist() == [True, False, True, True, False]
    assert persons.in_table(TABLE, None).tolist() == [False, True, True, False, False]


def test_the_list_keeps_persons_out_as_if_the_file_did_not_hold_them(tmp_path: Path) -> None:
    file = tmp_path / "suppressed.json"
    assert read_suppressed(file, KEYS) is None
    suppress(file, KEYS, Sought.of(Keys((KEY,)), ["anna"]))
    suppress(file, KEYS, Sought.of(Keys((OTHER,)), case_ids=["c5"]))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "anna" not in file.read_text()
    persons = read_suppressed(file, KEYS)
    assert persons is not None
    contract = Contract("intent", keeps_out=Suppression(persons, "who"))
    faulty = TABLE.assign(text=["", *TABLE["text"][1:]])
    dataset = load([faulty[:2], faulty[2:]], contract, "cases.csv", 0.9)
    assert dataset.case_ids.tolist() == ["c2", "c3"]
    assert dataset.places.rows.tolist() == [1, 2]
    assert (dataset.kept_out, dataset.total_rows, len(dataset.rejected)) == (3, 2, 0)
    assert "3 rows of erased persons kept out" in dataset.notes
    without = load([TABLE[1:3].reset_index(drop=True)], Contract("intent"), "x", 0.9)
    assert dataset.digest == without.digest


def test_an_id_that_is_made_of_the_row_is_kept_out_too() -> None:
    rows = TABLE.drop(columns="case_id")
    made = load([rows], Contract("intent"), "x", 0.9).case_ids
    persons = Sought.of(KEYS, case_ids=[made[1]])
    dataset = load([rows], Contract("intent", keeps_out=Suppression(persons, None)), "x", 0.9)
    assert dataset.case_ids.tolist() == [made[0], *made[2:]]
    assert dataset.kept_out == 1


def test_a_repeated_id_of_an_erased_person_rejects_nobody_elses_row() -> None:
    rows = TABLE.assign(case_id=["c1", "c1", "c3", "c4", "c5"])
    persons = Suppression(Sought.of(KEYS, ["anna"]), "who")
    assert load([rows], Contract("intent", keeps_out=persons), "x", 0.9).case_ids.tolist() == ["c1", "c3", "c5"]


def test_without_its_key_the_list_reads_nothing(tmp_path: Path) -> None:
    file = tmp_path / "suppressed.json"
    suppress(file, KEYS, Sought.of(KEYS, ["anna"]))
    with pytest.raises(ConfigError, match=f"the key {OTHER.id} is not here") as refused:
        read_suppressed(file, Keys((KEY,)))
    assert "needs a list of its own, so set lineage.suppression_file" in refused.value.fix
    for content in ("", "{}", "[]", json.dumps({"format": 1, "hashes": {}}), file.read_text()[:-5]):
        file.write_text(content)
        with pytest.raises(ConfigError, match="cannot be read"):
            read_suppressed(file, KEYS)


def test_no_list_of_who_runs_the_tests_is_read() -> None:
    place = Path(Params().lineage.suppression_file)
    assert not place.is_relative_to(pwd.getpwuid(os.getuid()).pw_dir)
    code = "from pcc_pipeline.config import Params; print(Params().lineage.suppression_file)"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert started.stdout.strip() == str(place)


def test_rows_leave_a_parquet_file_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "embedded.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(10, dtype=np.float32)), 2)
    table = pa.Table.from_pandas(TABLE).append_column("embeddings", vectors)
    table = table.replace_schema_metadata({**table.schema.metadata, b"encoder": b"digest"})
    pq.write_table(table, path, row_group_size=2)
    path.chmod(0o640)
    before = pq.read_table(path)
    persons = Sought.of(KEYS, ["anna"])
    assert count_in(path, persons, "who") == 2
    assert take_out(path, persons, "who") == 2
    left = pq.read_table(path)
    assert left.schema.equals(before.schema, check_metadata=True)
    assert left.equals(before.filter(pa.array([False, True, True, False, True])))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert b"anna" not in path.read_bytes()
    assert take_out(path, persons, "who") == 0


def test_rows_leave_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    TABLE.to_csv(path, index=False)
    assert take_out(path, Sought.of(KEYS, case_ids=["c2"]), None) == 1
    assert path.read_text() == TABLE[TABLE["case_id"] != "c2"].to_csv(index=False)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read"):
        rows_of(path, Sought.of(KEYS, ["anna"]), "who")


def test_entries_leave_documents_and_the_rest_stays_as_it_is() -> None:
    rows = "".join(f'<tr><td>{case}</td><td class="word">a</td></tr>\n' for case in ("c&amp;1", "7", "c3"))
    other = '<table><thead><tr><th>label</th></tr></thead><tbody>\n<tr><td>7</td><td class="word">a</td></tr>\n'
    head = '<table><thead><tr><th>case</th><th class="word">label</th></tr></thead><tbody>\n'
    page = f"{head}{rows}</tbody></table>{other}</table>"
    content, removed = without_cases(page, ".html", {"c&1", "7"})
    assert removed == 2
    assert content == page.replace(rows, rows.splitlines(keepends=True)[2])
    table = "| case | label |\n| --- | --- |\n| 7 | a |\n| c\\_1 &amp; | a |\n| c3 | b |\n\n| label |\n| --- |\n| 7 |\n"
    content, removed = without_cases(table, ".md", {"c_1 &", "7"})
    assert removed == 2
    assert content == "| case | label |\n| --- | --- |\n| c3 | b |\n\n| label |\n| --- |\n| 7 |\n"
    document = {
        "classes": ["7", "x"],
        "conflicting_case_ids": ["7", "8"],
        "issues": [{"case_id": "7"}, {"case_id": "9"}],
    }
    content, removed = without_cases(json.dumps(document), ".json", {"7"})
    assert removed == 2
    assert json.loads(content) == {"classes": ["7", "x"], "conflicting_case_ids": ["8"], "issues": [{"case_id": "9"}]}
    assert without_cases(json.dumps(document), ".json", {"nobody"}) == (json.dumps(document), 0)


def test_rows_leave_an_encrypted_file_and_it_stays_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal_keys, "_keys", lambda: [seal_keys.SealKey("0e0e0e0e", b"1" * 32)])
    path = tmp_path / "embedded.parquet"
    write_frame(TABLE, path, sealed=True)
    os.utime(path, (1e9, 1e9))
    persons = Sought.of(KEYS, ["anna"])
    theirs = count_in(path, persons, "who")
    assert theirs
    assert take_out(path, persons, "who") == theirs
    assert is_sealed(path)
    assert path.stat().st_mtime == 1e9
    with parquet_file(path) as file:
        assert file.metadata.num_rows == len(TABLE) - theirs
    assert take_out(path, persons, "who") == 0


def test_a_manifest_tells_whose_the_rejected_rows_are() -> None:
    faulty = TABLE.assign(text=["", *TABLE["text"][1:]], case_id=["c1", "c2", None, "c4", "c5"])
    dataset = load([faulty], Contract("intent", subject_column="who"), "cases.csv", 0.9)
    manifest = Manifest(KEY, "who")
    manifest.add(dataset.frame, dataset.places, "train", "cases.csv")
    add_rejected(manifest, dataset, "cases.csv")
    found = look_up(manifest.to_bytes(), KEYS, Sought.of(KEYS, ["anna"]), "m")
    assert found.places == {("train", "cases.csv"): [3], ("rejected", "cases.csv"): [0]}
    # A row without an id is nobody's, and the case that it would be is not found in it.
    assert look_up(manifest.to_bytes(), KEYS, Sought.of(KEYS, case_ids=["None", "nan"]), "m").places == {}
