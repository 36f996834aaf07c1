"""Files with columns and no rows: of a day on which nobody wrote."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.errors import DataError, NoRowsError
from pcc_pipeline.steps.inputs.datasets import read
from pcc_pipeline.steps.inputs.early_checks import demand_input

FRAME = pd.DataFrame({"text": ["delete it", "keep it"]})


def _without_rows(folder: Path) -> list[Path]:
    """One of each kind that can say so."""
    files = [folder / f"b{kind}" for kind in (".csv", ".tsv", ".csv.gz", ".parquet", ".pkl")]
    files[0].write_text("text\n")
    files[1].write_text("text\tintent")
    files[2].write_bytes(gzip.compress(b"text\n"))
    FRAME[:0].to_parquet(files[3], index=False)
    FRAME[:0].to_pickle(files[4])
    return files


@pytest.mark.filterwarnings("ignore:.*pickle.*")
def test_among_several_they_are_told_of_and_alone_they_are_refused(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    FRAME.to_parquet(tmp_path / "c.parquet", index=False)
    empty = _without_rows(tmp_path)
    address = json.dumps([str(tmp_path / "a.csv"), *map(str, empty), str(tmp_path / "c.parquet")])
    notes = ReadNotes()
    demand_input(address)
    assert [len(batch) for batch in read(address, notes)] == [2, 2]
    assert notes.lines == tuple(f"{file}: it has columns and no rows" for file in empty)
    for file in empty:
        with pytest.raises(NoRowsError, match="columns and no rows"):
            list(read(str(file)))
        assert list(read(str(file), may_be_empty=True)) == []
    for file in empty[:-1]:  # a pickle is read as a whole, so it is not looked at before
        with pytest.raises(NoRowsError, match="columns and no rows"):
            demand_input(str(file))
        demand_input(str(file), may_be_empty=True)


def test_where_none_of_several_has_rows_that_is_an_error(tmp_path: Path) -> None:
    address = json.dumps([str(file) for file in _without_rows(tmp_path)[:4]])
    with pytest.raises(DataError, match="none of the 4 data files has rows"):
        list(read(address))


def test_a_file_of_no_bytes_is_an_error_among_others_too(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv").touch()  # a download that was cut off, rather than a day without messages
    with pytest.raises(DataError, match="0 bytes") as raised:
        list(read(str(tmp_path)))
    assert raised.value.where == str(tmp_path / "b.csv")
