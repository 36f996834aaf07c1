"""Sealed files are read by who has the key alone, and whatever was changed or cut off is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.sealing import streams
from pcc_pipeline.sealing.keys import SealedError, SealKey
from pcc_pipeline.sealing.parquet import is_sealed, parquet_file, parquet_schema, parquet_writer, write_frame
from pcc_pipeline.sealing.values import ValueSeal
from tests.unit.sealing.conftest import ONE, OTHER

MARK = "Tutanchamun"
ABSENT = "encrypted by the key 0e0e0e0e, which is not here"
ALTERED = "it was changed or cut off after it was encrypted"


def table(rows: int = 400) -> pa.Table:
    texts = pa.array([f"{MARK} writes {row}" for row in range(rows)])
    return pa.table({"text": texts, "secret_column": np.arange(rows)})


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "sealed.parquet"
    with parquet_writer(path, table().schema, sealed=True, compression="none") as writer:
        for start in range(0, 400, 100):
            writer.write_table(table().slice(start, 100))
    return path


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_parquet_is_read_with_the_key_and_shows_nothing_without(sealed: Path, hold: Callable[..., None]) -> None:
    content = sealed.read_bytes()
    assert not any(word in content for word in (MARK.encode(), b"secret_column", b"text"))
    with parquet_file(sealed) as file:
        assert file.num_row_groups == 4
        assert file.read().equals(table())
        assert file.read_row_group(1).equals(table().slice(100, 100))
        assert pa.Table.from_batches(file.iter_batches(37)).equals(table())
    assert parquet_schema(sealed).names == ["text", "secret_column"]
    assert pd.concat(read_batches(sealed))["text"].tolist() == table()["text"].to_pylist()
    hold(OTHER, ONE)  # rotated
    assert parquet_schema(sealed).names == ["text", "secret_column"]
    hold(OTHER)
    for read in (parquet_file, parquet_schema, lambda path: next(read_batches(path))):
        with pytest.raises(SealedError, match=ABSENT) as error:
            read(sealed)
        assert str(sealed) in str(error.value)
    hold(SealKey(ONE.id, OTHER.secret))
    with pytest.raises(SealedError, match=ALTERED):
        parquet_file(sealed)


def test_a_changed_byte_of_parquet_is_found_wherever_it_is(sealed: Path) -> None:
    whole = sealed.read_bytes()
    for place in (*range(4, len(whole), 97), len(whole) - 1, len(whole) - 6):
        flipped(sealed, place)
        with pytest.raises(SealedError, match=ALTERED), parquet_file(sealed) as file:
            file.read()
        flipped(sealed, place)
    for length in (12, 500, len(whole) - 1):
        sealed.write_bytes(whole[:length])
        with pytest.raises(SealedError, match=ALTERED):
            list(read_batches(sealed))


def test_an_unsealed_file_is_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "plain.parquet"
    with parquet_writer(path, table().schema, sealed=False) as writer:
        writer.write_table(table())
    assert not is_sealed(path)
    assert pq.read_table(path).equals(table())
    assert type(parquet_file(path)) is pq.ParquetFile
    frame = table().to_pandas()
    write_frame(frame, tmp_path / "frame.parquet", sealed=True)
    assert is_sealed(tmp_path / "frame.parquet")
    with parquet_file(tmp_path / "frame.parquet") as file:
        pd.testing.assert_frame_equal(file.read().to_pandas(), frame)


def test_nothing_is_sealed_without_a_key(tmp_path: Path, hold: Callable[..., None]) -> None:
    hold()
    with pytest.raises(ConfigError, match="no key to encrypt with"):
        parquet_writer(tmp_path / "a.parquet", table().schema, sealed=True)
    (tmp_path / "plain").touch()
    with pytest.raises(ConfigError, match="no key to encrypt with"):
        streams.seal(tmp_path / "plain", tmp_path / "sealed")


@pytest.mark.parametrize("size", [0, 1, streams._CHUNK - 1, streams._CHUNK, streams._CHUNK + 1, 2 * streams._CHUNK])
def test_a_stream_comes_back_as_it_was_and_no_part_of_it_can_be_changed_or_cut_off(
    tmp_path: Path, hold: Callable[..., None], size: int
) -> None:
    plain, path, back = (tmp_path / name for name in ("plain", "sealed", "back"))
    plain.write_bytes((MARK.encode() * (size // len(MARK) + 1))[:size])
    streams.seal(plain, path)
    whole = path.read_bytes()
    assert streams.is_sealed(path)
    assert MARK.encode() not in whole
    assert streams.content_of(path) == streams.content_of(plain) == plain.read_bytes()
    streams.unseal(path, back)
    assert back.read_bytes() == plain.read_bytes()
    back.unlink()
    for changed in (whole[:-1], whole[:-17], whole[: streams._HEAD], whole[:20], whole + b"x", whole[:-1] + b"\0\0"):
        path.write_bytes(changed)
        with pytest.raises(SealedError, match=ALTERED):
            streams.unseal(path, back)
        assert not back.exists()
    if size > streams._CHUNK:
        # A whole chunk less at the end, and the first one twice.
        chunk = streams._CHUNK + streams._TAG
        for changed in (
            whole[: streams._HEAD + chunk],
            whole[: streams._HEAD + chunk] + whole[streams._HEAD :],
        ):
            path.write_bytes(changed)
            with pytest.raises(SealedError, match=ALTERED):
                streams.content_of(path)
    path.write_bytes(whole)
    hold(OTHER)
    with pytest.raises(SealedError, match=ABSENT):
        streams.content_of(path)


@given(name=st.binary(min_size=1, max_size=40), value=st.binary(max_size=80))
def test_a_value_is_bound_to_its_name_and_key(name: bytes, value: bytes) -> None:
    seal = ValueSeal(ONE, "test")
    stands = seal.name(name)
    sealed = seal.seal(stands, value)
    assert seal.opened(stands, sealed) == value
    assert seal.seal(stands, value) != sealed
    assert ValueSeal(ONE, "test").name(name) == stands
    for other in (ValueSeal(OTHER, "test"), ValueSeal(ONE, "other")):
        assert other.name(name) != stands
        assert other.opened(stands, sealed) is None
    assert seal.opened(seal.name(name + b"x"), sealed) is None
    assert seal.opened(stands, sealed[:-1]) is None
    assert seal.opened(stands, b"") is None


def test_two_uses_and_two_salts_have_keys_that_tell_nothing_of_each_other() -> None:
    keys = {ONE.derived("a"), ONE.derived("b"), ONE.derived("a", b"salt"), OTHER.derived("a")}
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


def test_who_seals_nothing_imports_nothing() -> None:
    code = (
        "import sys\nimport pcc_pipeline.data.formats.readers, pcc_pipeline.encoder.caches.on_disk\n"
        "from pcc_pipeline.sealing import parquet, streams, values\n"
        "print(sorted(name for name in sys.modules if 'hazmat.primitives.kdf' in name or 'parquet.encryption' in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
