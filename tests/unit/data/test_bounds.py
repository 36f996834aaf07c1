"""A file of a few bytes that stands for gigabytes ends in one clear message, in bounded memory."""

from __future__ import annotations

import base64
import gzip
import os
import pickle
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import load
from pcc_pipeline.data.formats.pickles import load_frame
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.errors import DataError

# One process for all files, since its imports take longer than a refusal; each file is read in a fork of it, which may
# take a gigabyte more than the imports have.
READ = """
import os, resource, sys
from pathlib import Path
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import load
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.errors import DataError
import pandas, pyarrow.parquet, pyarrow.compute

def read(path):
    try:
        return f"{len(load(read_batches(path), Contract('intent'), str(path), 0.9).frame)} rows"
    except DataError as error:
        return error.what

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, taken + 2**30))
        print(read(Path(line.rstrip("\\n"))).replace("\\n", " "), flush=True)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"ended with {status}", flush=True)
"""


@pytest.fixture(scope="module")
def reader() -> Iterator[subprocess.Popen[str]]:
    # Arrow's other allocators reserve a gigabyte of addresses beforehand, which the limit would count; and a fork has
    # no threads, so nothing may wait for one.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READ]
    with subprocess.Popen(command, env=environment, text=True, stdin=PIPE, stdout=PIPE) as process:
        yield process
        process.stdin.close()  # type: ignore[union-attr] # a pipe


def long_value(path: Path) -> None:
    """The 810 bytes: one value of a megabyte, 8,000 times."""
    texts = pa.array(["a" * 2**20]).dictionary_encode().take(pa.array([0] * 8000, type=pa.int32()))
    # As plain strings to whoever reads the file.
    schema = pa.schema([("text", pa.string()), ("intent", pa.string())])
    with pq.ParquetWriter(
        path, pa.schema([("text", texts.type), *list(schema)[1:]]), compression="zstd", store_schema=False
    ) as writer:
        writer.write_table(pa.table({"text": texts, "intent": ["other"] * 8000}))


def long_extra(path: Path) -> None:
    column = pa.array(["b" * 2**20]).dictionary_encode().take(pa.array([0] * 8000, type=pa.int32()))
    pq.write_table(pa.table({"text": ["a"] * 8000, "intent": ["other"] * 8000, "extra": column}), path)


def many_nulls(path: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("intent", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        part = pa.table({"text": pa.nulls(5 * 10**7, pa.string()), "intent": pa.nulls(5 * 10**7, pa.string())})
        for _ in range(4):
            writer.write_table(part, row_group_size=5 * 10**7)


def many_numbers(path: Path) -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 3 * 10**8], type=pa.int32()), pa.nulls(3 * 10**8, pa.int8()))
    pq.write_table(pa.table({"text": ["a"], "intent": ["other"], "embeddings": lists}), path)


def many_columns(path: Path) -> None:
    pq.write_table(pa.table({f"c{number}": [1] for number in range(11_000)}), path)


def no_line_end(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"text,intent\n")
        for _ in range(300):
            file.write(b"a" * 2**20)


def open_quote(path: Path) -> None:
    """Fields of many short lines, so that neither a line nor a field is long."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"text,intent\n")
        field = b'"' + b"a\n" * 100_000 + b'",'
        for _ in range(200):
            file.write(field)


def columns_in_a_line(path: Path) -> None:
    path.write_bytes(b"text,intent" + b",a" * 20_000 + b"\n")


def shared_text(path: Path) -> None:
    texts = pd.Series(["a" * 2**20] * 8000, dtype=object)
    pd.DataFrame({"text": texts, "intent": "other"}).to_pickle(path)


def shared_category(path: Path) -> None:
    texts = pd.Categorical.from_codes(np.zeros(8000, dtype=np.int8), pd.Index(["a" * 2**20]))
    pd.DataFrame({"text": texts, "intent": "other"}).to_pickle(path)


def shared_index(path: Path) -> None:
    levels = [["a" * 2**20], ["other"]]
    index = pd.MultiIndex(levels=levels, codes=[[0] * 8000] * 2, names=["text", "intent"])
    pd.DataFrame({"extra": np.zeros(8000)}, index=index).to_pickle(path)


def long_index(path: Path) -> None:
    """The 3e9 rows of a few hundred bytes."""
    pd.DataFrame(index=pd.RangeIndex(3 * 10**9, name="text")).to_pickle(path)


def spread_value(path: Path) -> None:
    class Spread:
        def __reduce__(self) -> tuple[Any, ...]:
            return pd.DataFrame, ("a", list(range(30_000)), list(range(30_000)))

    path.write_bytes(pickle.dumps(Spread()))


def nested_lists(path: Path) -> None:
    inner: list[object] = ["a"] * 10
    for _ in range(9):
        inner = [inner] * 10
    pd.DataFrame({"text": ["a"], "intent": ["other"], "extra": [inner]}).to_pickle(path)


BOMBS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "one long value": ("a.parquet", long_value, "expands to more than 1,000 times its size"),
    "one long value in another column": ("a.parquet", long_extra, "expands to more than 1,000 times its size"),
    "rows of nothing": ("a.parquet", many_nulls, "expands to more than 1,000 times its size"),
    "one long list": ("a.parquet", many_numbers, "expands to more than 1,000 times its size"),
    "columns": ("a.parquet", many_columns, "more than 10,000 columns"),
    "a line without an end": ("a.csv.gz", no_line_end, "line 2 is longer than 8,000,000 bytes"),
    "a TSV line without an end": ("a.tsv.gz", no_line_end, "line 2 is longer than 8,000,000 bytes"),
    "a JSONL line without an end": ("a.jsonl.gz", no_line_end, "line 1 is no JSON object"),
    "a row without an end": ("a.csv.gz", open_quote, "goes on for more than 8,000,000 bytes"),
    "columns in a line": ("a.csv", columns_in_a_line, "more than 10,000 columns|repeated"),
    "one text for all rows": ("a.pkl", shared_text, "expands to more than 1,000 times its size"),
    "one category for all rows": ("a.pkl", shared_category, "expands to more than 1,000 times its size"),
    "one index value for all rows": ("a.pkl", shared_index, "expands to more than 1,000 times its size"),
    "an index that holds no rows": ("a.pkl", long_index, "announces more rows than that"),
    "a value spread over a table": ("a.pkl", spread_value, "cannot be read"),
    "lists of the same lists": ("a.pkl", nested_lists, "expands to more than 1,000 times its size"),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory is Linux's")
@pytest.mark.parametrize(("name", "write", "says"), BOMBS.values(), ids=BOMBS)
def test_what_expands_is_refused_in_bounded_memory(
    tmp_path: Path, reader: subprocess.Popen[str], name: str, write: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / name
    write(path)
    assert path.stat().st_size < 9_000_000
    assert reader.stdin is not None
    assert reader.stdout is not None
    print(path, file=reader.stdin, flush=True)
    answer = reader.stdout.readline()
    assert re.search(says, answer), answer
    assert reader.stdout.readline() == "ended with 0\n"


def test_honest_repetition_is_read(tmp_path: Path) -> None:
    """20,000 rows of ten texts of the greatest length, in a file that keeps each of them once."""
    texts = [str(number) * 10_000 for number in range(10)] * 2000
    table = pa.table({"text": texts, "intent": ["a", "b"] * 10_000})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 50_000
    batches = list(read_batches(tmp_path / "a.parquet"))
    assert sum(map(len, batches)) == 20_000
    assert max(batch["text"].str.len().sum() for batch in batches) <= 64_010_000, "in parts that fit into memory"
    assert load(iter(batches), Contract("intent"), "a", 0.1).texts == texts


@pytest.mark.parametrize("name", ["a.parquet", "a.pkl"])
def test_a_text_that_is_too_long_costs_its_row_alone(tmp_path: Path, name: str) -> None:
    rows = pd.DataFrame({"text": ["a" * 20_000_000, "b"], "intent": "other"})
    rows.to_parquet(tmp_path / name) if name == "a.parquet" else rows.to_pickle(tmp_path / name)
    data = load(read_batches(tmp_path / name), Contract("intent"), name, 0.6)
    assert data.rejected["reason"].tolist() == ["longer than 10,000 characters"]


# pandas 1.5.3 and numpy 1.26: frame[frame["text"] != "x"], with an Int64Index.
PANDAS_1 = """
eNp9VM1u1DAQ3qRZfgqlXVXQolZoT6hc9oAQ4oC0aneF1EZdpKq9ICrLSbxN2sSJElvtIirBoX+SbzWvwJkjDwHvwAPwDjDjbNRsi/DBdpyZ8T
fffONPzpdvTsMM1cooD2jR8dOcdYY5TZhWd/tU0Ddmf6mffdbHekU5JNnLtXpSN4+4YDmncdFJKKd7LC+0ur8Wp/7BZvkN7urR2IPEkVdcuWg1
SyTPIv8gZsRDHzR+yGWSjcroiYxFRPOcjiAqyZmf8kLk0hdo2DSGWt2G2MbkUruNE92zPH2mt/SKa7m2a5/qcFY1AzHKMBNlv32lL87L/1PK+q
gHg8HGHxhmcrtCexe7kGsrYDETrJ2M2tT3U8kFoC1EmrVFyNosoRHinwmAJWJMo5QDlDQTJJVCM4ij7ngyAvwcDJtFHPnMIARQFt7v2jiH98IH
YQtxh/MVasugXlT2cALr62tYG4i1N1cW8Vf35w8cv7sajsOncMvU5D1qfqIKhjJAtkxINjq6qsOgv4p/1qh/wAJkbLle7tKrA2lDxglDCvrj/e
q4Bhvf3+/MDPBO9bjuakpQjBcgs/LbftcfF6eSmeQRsG0jb7b4oJWTjcxCdrZ7aLalpfcf1javWHPC59c4gwt6GNk4WEKf6opFZi3MfV2oVjw+
Bh0hlVOuU6fyTKNAFie7IGBHkJxHC+idacLZIVnHM4AbBqpZ7U16qBl9E78DH0tGe45gR0DALWwU1N00yH4YBYz72JiGd0GTrBSZw7FHB/IUiz
xUS/+CBY3C8siHSOtcvHxRQxPu3wRinxgao5r4btBYl16jYY9XIz1ZYmE4Qc2gtgAac65eFpIwQQ0Ju9AYVAh4M44hXTKM6Z7ZLtA4Tg8LEsgM
2gZ0QmLqMWi480J6nb/gH9wv
"""


def test_a_filtered_frame_of_pandas_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(zlib.decompress(base64.b64decode(PANDAS_1)))
    found = load_frame(path)
    assert found["text"].tolist() == ["delete my account", "stop the emails"]
    assert found.index.tolist() == [0, 2]
    assert [len(batch) for batch in read_batches(path)] == [2]


def test_more_memory_than_the_machine_has_is_not_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted while they come, so that training ends before the machine does."""
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}[name])
    batch = pd.DataFrame({"text": ["a" * 9000] * 10, "intent": "other"})
    with pytest.raises(DataError, match="half of this machine's memory"):
        load((batch for _ in range(10)), Contract("intent"), "a", 0.1)
