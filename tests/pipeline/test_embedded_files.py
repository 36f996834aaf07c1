"""`embed` loses no row, leaves other columns alone, and never makes one file of two."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.data.vector_origin import origin
from pcc_pipeline.errors import ConfigError, DataError, StorageError
from pcc_pipeline.steps import embed
from pcc_pipeline.steps.embedding.embedded_file import EmbeddedFileWriter, embedded_path
from pcc_pipeline.steps.embedding.rows import RowEmbedder
from pcc_pipeline.steps.inputs.datasets import encoder_of
from pcc_pipeline.steps.inputs.own_files import demand_own_files
from pcc_pipeline.storage.objects import local_copy

VECTOR = [0.5] * 384


def params(path: Path, **data: Any) -> Params:
    folder = path.parent
    names = ("embedded_dir", "predictions", "metrics", "rejected", "monitoring_log", "scores", "unlogged_dir")
    output = {name: str(folder / "outputs" / name) for name in names}
    return Params.model_validate(
        {
            "data": {"path": str(path), "max_rejected_fraction": 0.9999, **data},
            "output": output,
            "preprocessing": {"cache_dir": None},
        }
    )


def rows(count: int, vectors: list[Any] | None = None) -> pd.DataFrame:
    texts = [f"text {number}" for number in range(count)]
    return pd.DataFrame({"text": texts, "intent": "other", "embeddings": vectors or [VECTOR] * count})


def embedded(path: Path) -> embed.EmbeddedFile:
    """`embed`'s part that reads and writes, without a run; the rows bring their vectors, so the encoder stays away."""
    asked = params(path)
    output = embedded_path(str(path), asked.output.embedded_dir)
    return embed._embed_file(RowEmbedder(asked, encoder_of(asked), None), str(path), output, None)


def test_a_full_disk_is_named_and_no_half_of_a_file_stays(tmp_path: Path, disk: Callable[[str], Path]) -> None:
    small = disk("size=1m")
    vectors = np.random.default_rng(0).normal(size=(1000, 384)).astype(np.float32)  # 1.5 MB that nothing compresses
    path = tmp_path / "cases.parquet"
    rows(1000, vectors.tolist()).to_parquet(path)
    output = embedded_path(str(path), str(small))
    asked = params(path)
    with pytest.raises(StorageError) as caught:
        embed._embed_file(RowEmbedder(asked, encoder_of(asked), None), str(path), output, None)
    assert "No space left on device" in str(caught.value)
    assert str(small) in str(caught.value)
    assert list(small.iterdir()) == []


REJECTS: dict[str, Callable[[int], Any]] = {
    "first batch": lambda number: VECTOR if number >= 8192 else [0.5] * 3,
    "second batch": lambda number: VECTOR if number < 8192 else None,
    "no vector at all": lambda number: VECTOR if number >= 8192 else None,
    "not finite": lambda number: VECTOR if number >= 8192 else [float("nan")] * 384,
}


@pytest.mark.parametrize("cell", REJECTS.values(), ids=REJECTS)
@pytest.mark.parametrize("suffix", ["parquet", "pkl"])
def test_a_batch_whose_rows_are_all_rejected_is_no_end(tmp_path, cell, suffix) -> None:
    path = tmp_path / f"a.{suffix}"
    frame = rows(8195, [cell(number) for number in range(8195)])
    frame.to_parquet(path) if suffix == "parquet" else frame.to_pickle(path)
    made = embedded(path)
    good = sum(cell(number) is VECTOR for number in range(8195))
    assert pq.read_metadata(made.output).num_rows == good
    assert len(made.rejected) == 8195 - good


def test_a_file_whose_rows_are_all_rejected_says_so(tmp_path) -> None:
    rows(5, [[1.0]] * 5).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"(?s)5 of 5 rows.*no good row stays.*5 x embeddings: wrong width"):
        embedded(tmp_path / "a.parquet")


def arrow(values: list[Any], kind: Any) -> pa.Array:
    return pa.array(values, type=kind)


LATE: dict[str, tuple[Any, Any]] = {
    "text": ("late", pa.string()),
    "whole number": (7, pa.int16()),
    "real number": (0.5, pa.float32()),
    "boolean": (True, pa.bool_()),
    "decimal": (Decimal("12.50"), pa.decimal128(9, 2)),
    "date": (datetime.date(2025, 1, 6), pa.date32()),
    "time": (datetime.time(5, 6), pa.time64("us")),
    "timestamp": (datetime.datetime(2025, 1, 6, 5), pa.timestamp("s")),
    "timestamp in an unknown zone": (1736139600, pa.timestamp("s", tz="Mars/Phobos")),
    "duration": (datetime.timedelta(1), pa.duration("us")),
    "list": ([1, None, 3], pa.list_(pa.int64())),
    "list of structs": ([{"a": 1, "b": None}], pa.list_(pa.struct([("a", pa.int8()), ("b", pa.string())]))),
    "struct": ({"a": 2**60 + 1}, pa.struct([("a", pa.int64())])),
    "map": ([("a", 1)], pa.map_(pa.string(), pa.int64())),
    "bytes": (b"\xff\x00", pa.binary()),
    "nothing": (None, pa.null()),
}


@pytest.mark.parametrize(("value", "kind"), LATE.values(), ids=LATE)
def test_another_column_that_is_empty_at_first_keeps_type_and_values(tmp_path, value, kind) -> None:
    """In a Parquet file of more rows than one batch has."""
    count = 8200
    extra = arrow([None] * (count - 1) + [value], kind)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.full(count * 384, 0.5, dtype="f4")), 384)
    table = pa.table({"text": [f"text {n}" for n in range(count)], "extra": extra, "embeddings": vectors})
    pq.write_table(table, tmp_path / "a.parquet")
    made = embedded(tmp_path / "a.parquet")
    written = pq.read_table(made.output).column("extra")
    source = pq.read_table(tmp_path / "a.parquet").column("extra")
    assert written.type == source.type
    assert written.combine_chunks().equals(source.combine_chunks())


def cells(*values: Any) -> pd.Series:
    return pd.Series(list(values), dtype=object)


UTC = datetime.UTC
CHANGES: dict[str, tuple[list[pd.Series], list[Any]]] = {
    "empty, then numbers": ([cells(None, None), cells(1, 2)], [None, None, 1, 2]),
    "numbers, then text": ([cells(1), cells("a"), cells(None)], ["1", "a", None]),
    "whole, then real": ([cells(1), cells(0.5)], [1.0, 0.5]),
    "too large for a real": ([cells(2**60 + 1), cells(0.5)], ["1152921504606846977", "0.5"]),
    "too large for Arrow": ([cells(2**70), cells(1)], [str(2**70), "1"]),
    "all at once": ([cells(1, "a", None, True)], ["1", "a", None, "True"]),
    "boolean, then number": ([cells(True), cells(1)], ["True", "1"]),
    "structs of other fields": ([cells({"a": 1}), cells({"b": "x"})], [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
    "an empty struct": ([cells({}), cells({"a": 1})], ["{}", '{"a": 1}']),
    "lists of nothing": ([cells([None]), cells(["x"])], [[None], ["x"]]),
    "lists of other kinds": ([cells([1]), cells(["x"])], ["[1]", '["x"]']),
    "dates and times": (
        [cells(datetime.date(2025, 1, 1), datetime.datetime(2025, 1, 1, 5))],
        ["2025-01-01", "2025-01-01 05:00:00"],
    ),
    "decimals of other scales": (
        [cells(Decimal("1.5")), cells(Decimal("100.25"))],
        [Decimal("1.50"), Decimal("100.25")],
    ),
    "categories": ([pd.Series(pd.Categorical(["a", None])), pd.Series(pd.Categorical(["b"]))], ["a", None, "b"]),
    "durations": ([pd.Series(pd.to_timedelta(["1D", None]))], [datetime.timedelta(1), None]),
    "a zone": ([pd.Series(pd.to_datetime(["2025-01-01"], utc=True))], [datetime.datetime(2025, 1, 1, tzinfo=UTC)]),
    "a lone surrogate": ([cells("\ud800"), cells("b")], ["?", "b"]),
    "complex numbers": ([pd.Series([1j])], ["1j"]),
}


@pytest.mark.parametrize(("batches", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_column_that_changes_its_type_is_written_in_one_that_holds_all_its_values(
    tmp_path, batches, expected
) -> None:
    path = tmp_path / "a.parquet"
    with EmbeddedFileWriter(path) as writer:
        for batch in batches:
            writer.write(
                pd.DataFrame({"text": "x", "extra": batch}), np.ones((len(batch), 3), dtype="f4"), "made by me"
            )
    table = pq.read_table(path)
    assert table.column("extra").to_pylist() == expected
    assert origin(path) == "made by me"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.parquet"]


def test_a_column_of_mixed_kinds_in_jsonl_ends_embed_well(tmp_path) -> None:
    lines = [{"text": f"text {n}", "extra": None if n < 8192 else [1, "a", {"b": n}][n % 3]} for n in range(8200)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({**line, "embeddings": VECTOR}) for line in lines))
    made = embedded(tmp_path / "a.jsonl")
    extra = pq.read_table(made.output).column("extra").to_pylist()
    assert extra[8190:8195] == [None, None, '{"b": 8192}', "1", "a"]


def test_two_files_of_one_name_are_embedded_into_two(mlflow_store, tmp_path) -> None:
    """The second replaced the first, and the summary claimed both."""
    for month, count in (("jan", 3), ("feb", 4)):
        (tmp_path / month).mkdir()
        rows(count).to_parquet(tmp_path / month / "cases.2026.01.parquet")
    jan, feb = (tmp_path / month / "cases.2026.01.parquet" for month in ("jan", "feb"))
    first, second = embed.run(params(jan, test_path=str(feb))).files
    assert [pq.read_metadata(made.output).num_rows for made in (first, second)] == [3, 4]
    assert first.output.name.startswith("cases.2026.01-")


def test_a_later_run_of_another_file_replaces_no_earlier_output() -> None:
    names = ["jan/cases.csv", "feb/cases.csv", "cases.csv", "cases.parquet", "cases.01.csv", "cases.csv.gz", "sample"]
    names += ["gs://one/cases.csv", "gs://two/cases.csv", "gs://one/a/cases.csv", f"{'long' * 60}.csv"]
    paths = [embedded_path(name, "outputs") for name in names]
    assert len(set(paths)) == len(names)
    assert all(len(path.name.encode()) < 256 for path in paths)


def test_a_file_that_is_given_twice_has_one_output(tmp_path) -> None:
    """Under whatever names: a relative one, or a link."""
    (tmp_path / "link").symlink_to(tmp_path)
    names = [tmp_path / "a.csv", tmp_path / "link" / "a.csv", tmp_path / "link" / ".." / tmp_path.name / "a.csv"]
    assert len({embedded_path(str(name), "outputs") for name in names}) == 1


def test_what_a_step_writes_replaces_nothing_that_it_reads_or_writes(tmp_path) -> None:
    (tmp_path / "link.parquet").symlink_to(tmp_path / "a.parquet")
    read = {"data.path": str(tmp_path / "a.parquet"), "data.test_path": None}
    with pytest.raises(ConfigError, match=r"output\.scores would replace the file of data\.path"):
        demand_own_files(read, {"output.scores": tmp_path / "link.parquet"})
    with pytest.raises(ConfigError, match=r"output\.metrics would replace the file of output\.predictions"):
        demand_own_files(read, {"output.predictions": tmp_path / "b", "output.metrics": tmp_path / "c" / ".." / "b"})
    demand_own_files(read, {"output.predictions": tmp_path / "b", "output.metrics": tmp_path / "c"})


def test_rejected_rows_that_would_replace_the_data_are_refused(mlflow_store, tmp_path) -> None:
    path = tmp_path / "a.parquet"
    rows(3).to_parquet(path)
    asked = params(path)
    asked = asked.model_copy(update={"output": asked.output.model_copy(update={"rejected": str(path)})})
    with pytest.raises(ConfigError, match=r"output\.rejected would replace the file of data\.path"):
        embed.run(asked)
    assert len(pd.read_parquet(path)) == 3


@pytest.mark.parametrize(
    "address",
    [
        "https://user:secret@host/cases.csv?token=secret",
        "https://user:a/secret@host/cases.csv",
        "s3://bucket/a",
        "file:///a.csv",
    ],
)
def test_an_address_that_is_not_read_is_called_that_and_keeps_its_secrets(address) -> None:
    kind = address.partition(":")[0]
    with (
        pytest.raises(StorageError, match=f"addresses that begin with {kind}: are not read") as caught,
        local_copy(address),
    ):
        pass
    assert "secret" not in str(caught.value)


def test_a_pattern_that_is_an_address_keeps_its_secrets(tmp_path: Path) -> None:
    """The ? of a signed address makes it a pattern."""
    resolved = params(tmp_path)
    address = "https://user:pw@host/cases.csv?token=secret"
    with pytest.raises(DataError, match=r"no data file here") as caught:
        embed.run(resolved.model_copy(update={"data": resolved.data.model_copy(update={"path": address})}))
    assert caught.value.where == "https://host/cases.csv?token=***"
