"""The folder of a data set in parts: what its parts and its manifest say is what lies there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.errors import ConfigError
from pcc_pipeline.steps.parts.folder import Part, PartsFolder, folders_of_parts

ROWS = pd.DataFrame(
    {
        "case_id": ["a", "b", "c", "d", "e", "f"],
        "predicted_label": ["opt_out", "opt_out", "complaint", "other", None, "complaint"],
        "prediction_notes": [None, None, None, None, "not decided: …; most likely opt_out", "not decided: …"],
        "model_version": ["v1", "v2", "v1", "v2", "v1", "v1"],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> PartsFolder:
    """A folder for predictions; a challenger, v2, answers some of the rows."""
    return PartsFolder(f"{tmp_path}/scores/")


def written(folder: PartsFolder, source: Path, job: str, rejected: int = 0, content: str = "") -> str:
    """The part of an input, and rejected rows of it, as `score` writes them; the part's name."""
    source.write_text(content)
    name = folder.name_of(str(source))
    counts = {"opt_out": 2, "complaint": 1, "other": 1}
    part = Part(name, job, str(source), len(ROWS), rejected, "digest", counts=counts, challenger_rows=2)
    folder.keep_rejected(name, pd.DataFrame({"row": range(rejected), "reason": "missing"}), sealed=False)
    with (
        folder.writing(name) as partial,
        pq.ParquetWriter(partial, (table := pa.Table.from_pandas(ROWS, preserve_index=False)).schema) as writer,
    ):
        writer.write_table(table)
        writer.add_key_value_metadata(part.metadata())
    return name


def left_of(path: Path, rows: int) -> None:
    """As an erasure leaves a table of which it keeps the first rows."""
    said, table = pq.read_metadata(path).metadata, pq.read_table(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table[:rows])
        writer.add_key_value_metadata({key: value for key, value in said.items() if key == b"pcc.part"})


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "being written"])
def test_after_rows_left_parts_and_manifest_count_labels_rejected_and_challenger_rows_anew(
    folder: PartsFolder, tmp_path: Path, whole: bool
) -> None:
    job, place = folder.begin({"kind": "predictions", "challenger_version": "v2"}), tmp_path / "scores"
    sources = [tmp_path / f"{day}.csv" for day in ("mon", "tue", "wed")]
    names = [written(folder, source, job, rejected=3) for source in sources]
    if whole:
        folder.finish([str(source) for source in sources], job, 0.5)
    left_of(place / names[0], 3)
    left_of(place / f"_rejected/{names[1]}", 1)
    os.utime(place / names[0], (1e9, 1e9))
    untouched = (place / names[2]).read_bytes()
    assert folders_of_parts([f"{place}/_rejected/{names[1]}", f"{place}/{names[0]}", "one.parquet"]) == [f"{place}/"]
    folder.recount()
    parts = [folder.standing(name) for name in names]
    assert [(part.rows, part.rejected, part.counts, part.challenger_rows) for part in parts if part] == [
        (3, 3, {"opt_out": 2, "complaint": 1}, 1),
        (6, 1, {"opt_out": 2, "complaint": 1, "other": 1}, 2),
        (6, 3, {"opt_out": 2, "complaint": 1, "other": 1}, 2),
    ]
    assert (place / names[2]).read_bytes() == untouched
    assert (place / names[0]).stat().st_mtime == 1e9, "retention goes by it"
    assert pd.read_parquet(place / names[0])["case_id"].tolist() == ["a", "b", "c"]
    assert (place / "_manifest.json").exists() == whole
    if whole:
        manifest = json.loads((place / "_manifest.json").read_text())
        assert (manifest["rows"], manifest["rejected"]) == (15, 7)
        assert manifest["labels"] == {"opt_out": 6, "complaint": 3, "other": 2}
    before = {path: path.stat().st_ino for path in place.glob("part-*")}
    folder.recount()
    assert before == {path: path.stat().st_ino for path in place.glob("part-*")}, "done twice, it changes nothing"


def test_all_inputs_that_were_changed_are_named_at_once_with_the_parts_to_remove(
    folder: PartsFolder, tmp_path: Path
) -> None:
    job = folder.begin({"kind": "predictions"})
    sources = [tmp_path / f"{day}.csv" for day in ("mon", "tue", "wed")]
    before = [written(folder, source, job) for source in sources]
    with_now = [written(folder, source, job, content="changed") for source in sources[:2]]
    with pytest.raises(ConfigError) as caught:
        folder.finish([str(source) for source in sources], job, 0.5)
    said = str(caught.value)
    assert f"there are 2 parts of {sources[0]}, 2 parts of {sources[1]}: they were changed meanwhile" in said
    assert f"where: {folder.address}" in said
    assert f"begin again: {before[0]}, {before[1]}" in said
    assert not any(name in said for name in [*with_now, before[2]])


def test_rejected_rows_of_a_part_that_was_removed_go_when_the_data_set_is_whole(
    folder: PartsFolder, tmp_path: Path
) -> None:
    job, source = folder.begin({"kind": "predictions"}), tmp_path / "mon.csv"
    old = written(folder, source, job, rejected=2)
    now = written(folder, source, job, rejected=1, content="changed")
    Path(folder.address, old).unlink()
    folder.finish([str(source)], job, 0.5)
    assert [path.name for path in Path(folder.address, "_rejected").iterdir()] == [now]
    assert json.loads(Path(folder.address, "_manifest.json").read_text())["rejected"] == 1


def test_of_two_jobs_that_begin_at_once_the_first_ones_stands_and_the_other_is_told(
    folder: PartsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.begin({"kind": "predictions", "model_version": "v1"})
    other = PartsFolder(folder.address)
    monkeypatch.setattr(other, "_names", lambda prefix="": [])  # as the other one saw it, a moment before
    with pytest.raises(ConfigError, match="another data set: model_version is v1 there and v2 now"):
        other.begin({"kind": "predictions", "model_version": "v2"})
    assert json.loads(Path(folder.address, "_job.json").read_text())["model_version"] == "v1"
