"""Keys of lineage: made once, rotated without losing what the earlier ones wrote, for their owner alone."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from pcc_pipeline.errors import ConfigError
from pcc_pipeline.persons.keys import VARIABLE, WIDTH, Key, add_key, read_keys

SECRET = "0b" * 32


def test_a_hash_is_the_hmac_of_kind_and_value() -> None:
    key = Key(bytes.fromhex(SECRET))
    expected = hmac.new(bytes.fromhex(SECRET), b"case\0case-1", hashlib.sha256).digest()[:WIDTH]
    assert key.hashes("case", ["case-1"]) == expected
    assert key.hashes("subject", ["case-1"]) != expected
    assert key.hashes("subject", [None, "ä\ud800"])[:WIDTH] == bytes(WIDTH)


@pytest.mark.parametrize("length", [1, 32, 64, 65, 200])
def test_a_key_of_any_length_gives_the_hashes_of_hmac(length: int) -> None:
    secret = bytes(range(length))
    values = ["", "c-1", "Größe", "\udc80", "x" * 1000]
    wanted = [hmac.digest(secret, b"case\0" + value.encode("utf-8", "surrogatepass"), "sha256") for value in values]
    assert Key(secret).hashes("case", [*values, None]) == b"".join(one[:WIDTH] for one in wanted) + bytes(WIDTH)


def test_without_a_key_there_is_none(tmp_path: Path) -> None:
    assert read_keys(tmp_path / "no.key", {}).writing is None


def test_a_new_key_writes_and_the_earlier_ones_read(tmp_path: Path) -> None:
    file = tmp_path / "config" / "lineage.key"
    first, second = add_key(file), add_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = read_keys(file, {})
    assert keys.all == (second, first)
    assert keys.writing == second
    assert keys.by_id(first.id) == first
    assert keys.by_id("another") is None
    # The environment's come first, and one that stands twice counts once.
    keys = read_keys(file, {VARIABLE: f"{SECRET} {first.secret.hex()}"})
    assert [key.secret for key in keys.all] == [bytes.fromhex(SECRET), first.secret, second.secret]


@pytest.mark.parametrize("text", ["zz" * 32, "0b" * 31, "0b" * 33])
def test_what_is_no_key_is_an_error_that_does_not_repeat_it(text: str, tmp_path: Path) -> None:
    file = tmp_path / "lineage.key"
    file.write_text(f"# keys\n{text} 2026-01-01\n")
    file.chmod(0o600)
    for given in ({}, {VARIABLE: text}):
        with pytest.raises(ConfigError, match="key 1 is not 64 hexadecimal digits") as raised:
            read_keys(tmp_path / "absent" if given else file, given)
        assert text not in str(raised.value)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lineage.key"
    add_key(file)
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read the keys"):
        read_keys(file, {})
    with pytest.raises(ConfigError, match="others may read the keys"):
        add_key(file)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be"):
        add_key(tmp_path / "file" / "lineage.key")
