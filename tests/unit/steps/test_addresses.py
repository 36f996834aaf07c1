"""One address may name several files: a list, a folder or a pattern, here or in a bucket; they are one data set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.errors import ConfigError, DataError
from pcc_pipeline.steps import embed
from pcc_pipeline.steps.embedding.rows import RowEmbedder
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.datasets import encoder_of, load_dataset, read
from pcc_pipeline.steps.inputs.early_checks import demand_files
from pcc_pipeline.steps.parameters import resolve
from pcc_pipeline.storage.objects import open_store


def params(path: object, **data: object) -> Params:
    return Params.model_validate({"data": {"path": path, **data}, "preprocessing": {"cache_dir": None}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 30 rows: plain, with ids, and with a bad row and an optional column; and what is no data."""
    parts = [
        sample(90)[["text", "intent", "timestamp"]][start : start + 30].reset_index(drop=True) for start in (0, 30, 60)
    ]
    parts[1]["case_id"] = [f"c{number}" for number in range(30)]
    parts[2]["confidence"] = 0.5
    parts[2].loc[4, "text"] = ""
    for number, part in enumerate(parts, start=1):
        part.to_csv(tmp_path / f"part_2026010{number}.csv", index=False)
    (tmp_path / "notes.md").write_text("no data")
    (tmp_path / ".part.csv").write_text("hidden")
    return tmp_path


def names(address: str) -> list[str]:
    return [file.rpartition("/")[2] for file in files_of(address)]


ALL = [f"part_2026010{number}.csv" for number in (1, 2, 3)]


def test_a_list_a_folder_and_a_pattern_name_the_same_files(folder: Path) -> None:
    listed = [str(folder / name) for name in ALL]
    for address in (listed, str(folder), f"{folder}/", f"{folder}/part_*.csv", [f"{folder}/part_*[12].csv", listed[2]]):
        assert names(params(address).data.path) == ALL, address
    assert names(f"{folder}/part_*2.csv") == ALL[1:2]
    assert files_of("sample") == ["sample"]


def test_the_command_line_takes_a_list_in_brackets_whatever_the_names_hold(tmp_path: Path) -> None:
    for text in ('["a, b.csv", c d.csv]', "[a]"):
        path = resolve(None, {"data": text}).data.path
        assert resolve(None, {"data": path}).data.path == path, "as a run's record has it"
    assert files_of(resolve(None, {"data": '["a, b.csv", c d.csv]'}).data.path) == ["a, b.csv", "c d.csv"]
    assert files_of(resolve(None, {}, ["data.path=[a.csv,b.csv]"]).data.path) == ["a.csv", "b.csv"]
    with pytest.raises(ConfigError, match="is no list of files"):
        resolve(None, {"data": "[1, 2]"})
    (tmp_path / "[a]*.csv").touch()
    assert files_of(f"{tmp_path}/[a]*.csv") == [f"{tmp_path}/[a]*.csv"], "a file of that very name"


def test_several_files_are_read_as_one_and_a_rejected_row_says_where_it_stands(folder: Path) -> None:
    address = f"{folder}/part_*.csv"
    data = load_dataset(address, params(address))
    assert (data.total_rows, len(data.frame)) == (90, 89)
    assert data.rejected[["row", "reason", "file"]].values.tolist() == [[4, "missing", f"{folder}/{ALL[2]}"]]
    assert data.frame["confidence"].notna().sum() == 29
    assert data.frame["case_id"].is_unique
    assert [(part["rows"], part["rejected"]) for part in data.files] == [(30, 0), (30, 0), (30, 1)]
    for part in data.files:
        assert part["digest"] == load_dataset(part["file"], params(part["file"])).digest


def test_the_embedded_file_holds_the_columns_of_all(folder: Path) -> None:
    for number, name in enumerate(ALL):
        frame = pd.read_csv(folder / name)
        vectors = np.full((len(frame), 384), number, dtype=np.float32).tolist()
        frame.assign(embeddings=vectors, **{f"extra{number}": number}).to_parquet(folder / f"{number}.parquet")
    address = f"{folder}/?.parquet"
    asked, output = params(address), folder / "out.parquet"
    embed._embed_file(RowEmbedder(asked, encoder_of(asked), None), address, output, None)
    table = pq.read_table(output)
    assert table.num_rows == 89
    assert {f"extra{number}" for number in range(3)} < set(table.column_names)
    assert table["extra1"].to_pylist() == [None] * 30 + [1] * 30 + [None] * 29


def test_files_of_a_bucket(folder: Path, bucket: str) -> None:
    for name in [*ALL, "notes.md"]:
        open_store(bucket).upload(folder / name, name)
        open_store(bucket).upload(folder / name, f"deep/{name}")
    for address in (f"{bucket}/", f"{bucket}/part_*.csv", f"{bucket}/part_2026????.csv"):
        assert files_of(address) == [f"{bucket}/{name}" for name in ALL]
    assert files_of(f"{bucket}/*/*1.csv") == [f"{bucket}/deep/{ALL[0]}"]
    address = f"{bucket}/part_*.csv"
    assert load_dataset(address, params(address)).digest == load_dataset(str(folder), params(str(folder))).digest
    with pytest.raises(DataError, match=r"there lies: .*notes\.md, part_20260101\.csv"):
        files_of(f"{bucket}/cases_*.csv")


HIDDEN = (".partial-unknown.1.0.csv", "_notes.csv", "_rejected/a.csv", ".old/b.csv")
IN_PARTS = [f"part-{digit * 24}.parquet" for digit in "abc"]


def lay_out(folder: Path) -> None:
    """Days with a folder each: files that are data, names that are none, and a data set in parts."""
    for name in ("mon/1.csv", "tue/1.csv", *(f"mon/{name}" for name in HIDDEN), *(f"vec/{name}" for name in IN_PARTS)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "vec/_job.json").write_text("{}")


WHOLE = json.dumps(
    {"parts": [{"name": name, "rows": rows} for name, rows in zip(IN_PARTS[::-1], (0, 2, 1), strict=True)]}
)


def test_a_pattern_reads_nothing_that_a_folder_refuses(tmp_path: Path) -> None:
    lay_out(tmp_path)
    for address in ("mon/*.csv", "mon/*", "mon/**/*.csv", "m*/*.csv", "mon/", "*o*/*"):
        assert files_of(f"{tmp_path}/{address}") == [f"{tmp_path}/mon/1.csv"], address
    for address in ("mon/_rejected/*.csv", "*/_rejected/*.csv", "**/_rej*/*.csv"):
        assert files_of(f"{tmp_path}/{address}") == [f"{tmp_path}/mon/_rejected/a.csv"], address
    assert names(f"{tmp_path}/mon/_*.csv") == ["_notes.csv"]
    with pytest.raises(DataError, match="there is no data file here"):
        files_of(f"{tmp_path}/mon/*/*.csv")
    for address in ("vec/*.parquet", "*/part-*", "**/*"):
        with pytest.raises(DataError, match="is being written, or its writing was cut off: 3 of its parts stand"):
            files_of(f"{tmp_path}/{address}")
    (tmp_path / "vec/_manifest.json").write_text(WHOLE)
    (tmp_path / f"vec/part-{'d' * 24}.parquet").touch()
    assert names(f"{tmp_path}/vec/*.parquet") == names(f"{tmp_path}/vec/") == IN_PARTS[1::-1]
    assert names(f"{tmp_path}/*/*[!b].parquet") == IN_PARTS[:1]
    assert names(f"{tmp_path}/*/*") == ["1.csv", "1.csv", *IN_PARTS[1::-1]]


def test_a_pattern_of_a_bucket_reads_nothing_that_a_folder_refuses(tmp_path: Path, bucket: str) -> None:
    lay_out(tmp_path)
    store = open_store(bucket)
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            store.upload(path, path.relative_to(tmp_path).as_posix())
    assert files_of(f"{bucket}/*/*.csv") == [f"{bucket}/mon/1.csv", f"{bucket}/tue/1.csv"]
    assert files_of(f"{bucket}/*/_rejected/*.csv") == [f"{bucket}/mon/_rejected/a.csv"]
    with pytest.raises(DataError, match="is being written"):
        files_of(f"{bucket}/*/*.parquet")
    (tmp_path / "manifest").write_text(WHOLE)
    store.upload(tmp_path / "manifest", "vec/_manifest.json")
    assert names(f"{bucket}/*/*.parquet") == names(f"{bucket}/vec/") == IN_PARTS[1::-1]


def test_a_file_is_named_twice_however_its_path_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for other in (f"./{ALL[0]}", f"{folder}/{ALL[0]}", f"../{folder.name}/{ALL[0]}", ALL[0], "*1.csv"):
        with pytest.raises(DataError, match="a file of the data is named twice") as caught:
            files_of(json.dumps([*ALL, other]))
        assert ALL[0] in str(caught.value)
    with pytest.raises(DataError, match="named twice"):
        files_of('["gs://bucket/a.csv", "gs://bucket/a.csv"]')
    assert files_of('["gs://bucket/a.csv", "gs://bucket/./a.csv"]'), "an object's name is no path"
    many = [f"{number}.csv" for number in range(20_000)]
    assert files_of(json.dumps(many)) == many


def test_a_known_file_is_read_whatever_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("[2026] mails.csv", os.fsdecode(b"caf\xe9.csv")):
        (folder / ALL[0]).rename(folder / name)
        assert sum(map(len, read(name, one=True))) == 30
        demand_files([name])
        assert load_dataset(str(folder), params(str(folder))).total_rows == 90
        (folder / name).rename(folder / ALL[0])


def test_no_file_a_file_twice_and_files_that_do_not_go_together_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"there lies: .*notes\.md, part_20260101\.csv"):
        files_of(f"{folder}/cases_*.csv")
    with pytest.raises(DataError, match="named twice"):
        files_of(params([f"{folder}/part_*.csv", f"{folder}/{ALL[0]}"]).data.path)
    pd.DataFrame({"text": ["a"], "topic": ["b"]}).to_csv(folder / "part_4.csv", index=False)
    with pytest.raises(DataError, match="lacks required columns: intent") as caught:
        load_dataset(str(folder), params(str(folder)))
    assert "part_4.csv" in str(caught.value)
    pd.DataFrame({"text": ["a"], "intent": "b", "embeddings": [str([0.5] * 384)]}).to_csv(folder / "part_4.csv")
    with pytest.raises(DataError, match="some have a column embeddings"):
        load_dataset(str(folder), params(str(folder)))
