"""Whatever an address or an object is called: a store with that name, or a refusal, and nothing outside the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pcc_pipeline.errors import StorageError
from pcc_pipeline.storage.objects import FolderStore, local_copy, open_store

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
# What leads elsewhere, what looks like a pattern or an option, and what is no plain letter.
PARTS = st.one_of(
    st.sampled_from([".", "..", "~", "a", "v20260101_120000", "model.joblib", "*", "[a]", "-f", "é", "漢 字", "a\\b"]),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12),
)
NAMES = st.builds(
    "{}{}".format, st.sampled_from(["", "/", "//"]), st.lists(PARTS, min_size=1, max_size=4).map("/".join)
)


@pytest.fixture(scope="module", autouse=True)
def nowhere() -> Iterator[None]:
    """An emulator that nobody started: a client is made without an account, and is never asked."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
        yield


@QUICK
@given(NAMES)
@example("..")
@example("a/../../b")
@example("/etc/passwd")
def test_an_object_lies_in_its_folder_under_its_name_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    around = tmp_path_factory.mktemp("around")
    source, folder = around / "source", around / "store"
    source.write_text(name, encoding="utf-8")
    store = FolderStore(folder)
    try:
        store.upload(source, name)
    except StorageError:
        assert not [path for path in folder.rglob("*") if path.is_file()]
    else:
        # As any path: a dot and a slash too many say nothing.
        assert store.names() == [str(PurePosixPath(name))]
        store.download(name, around / "copy")
        assert (around / "copy").read_text(encoding="utf-8") == name
        (around / "copy").unlink()
    assert {path.name for path in around.iterdir()} <= {"source", "store"}


@QUICK
@given(PARTS.filter(lambda part: part not in (".", "..")).map(lambda part: f"in a folder/{part}"))
def test_a_name_that_stays_inside_is_never_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = FolderStore(folder)
    store.upload(Path(__file__), name)
    assert store.names() == [name]
    store.remove(name)
    assert store.names() == []


@QUICK
@given(st.lists(PARTS, max_size=4).map("/".join))
@example("")
@example("/a")
@example("-/a")
def test_an_address_of_a_bucket_is_a_store_that_says_so_or_a_refusal(rest: str) -> None:
    bucket = rest.partition("/")[0]
    if not (bucket and bucket[0].isalnum() and bucket[-1].isalnum()):
        with pytest.raises(StorageError, match="the address names no bucket"):
            open_store(f"gs://{rest}")
        return
    store = open_store(f"gs://{rest}")
    assert store.address == f"gs://{rest}".rstrip("/") or "//" in rest
    assert open_store(store.address).address == store.address
    assert open_store(f"{store.address}/").address == store.address


@QUICK
@given(st.from_regex(r"[A-Za-z]{2,6}://[a-z]{1,5}(:[A-Za-z]{1,5})?@[a-z]{1,8}/[a-z]{1,8}\?[a-z]{1,8}", fullmatch=True))
def test_an_address_that_is_not_read_is_named_without_its_secrets(address: str) -> None:
    whose, _, asked = address.partition("://")[2].partition("?")
    with pytest.raises(StorageError) as refused, local_copy(f"s3{address}"):
        pass
    assert whose.rpartition("@")[2] in str(refused.value)
    assert f"{whose.partition('@')[0]}@" not in str(refused.value)
    assert f"?{asked}" not in str(refused.value)
