"""One suite for every ObjectStore: a local folder, and a bucket behind the real storage emulator."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import PreconditionFailed
from google.cloud.storage import Blob

from pcc_pipeline.errors import PccError, StorageError
from pcc_pipeline.storage import objects
from pcc_pipeline.storage.objects import BucketStore, FolderStore, ObjectStore, local_copy, open_store, replacing

BUCKET = "pcc-test"  # the one that the emulator of conftest.py is started with


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["folder", "bucket"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else str(request.getfixturevalue("bucket"))


@pytest.fixture
def store(address: str) -> ObjectStore:
    return open_store(address)


def file_of(folder: Path, content: bytes, name: str = "source") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read(store: ObjectStore, name: str, folder: Path) -> bytes:
    target = folder / f"read-{uuid.uuid4().hex}"
    store.download(name, target)
    return target.read_bytes()


def test_an_address_opens_its_kind_of_store(tmp_path: Path, bucket: str) -> None:
    assert isinstance(open_store(str(tmp_path)), FolderStore)
    assert isinstance(open_store(bucket), BucketStore)


def test_a_store_says_its_address(store: ObjectStore, address: str) -> None:
    assert store.address == address


def test_an_empty_store_has_no_names(store: ObjectStore) -> None:
    assert store.names() == []
    assert store.names("v") == []


def test_what_is_uploaded_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    store.upload(file_of(tmp_path, content), "v20260101_000000/model.joblib")
    assert read(store, "v20260101_000000/model.joblib", tmp_path) == content
    assert store.names() == ["v20260101_000000/model.joblib"]


def test_an_empty_object_comes_back_empty(store: ObjectStore, tmp_path: Path) -> None:
    store.upload(file_of(tmp_path, b""), "nothing")
    assert read(store, "nothing", tmp_path) == b""


def test_names_are_sorted_and_start_with_the_prefix(store: ObjectStore, tmp_path: Path) -> None:
    source = file_of(tmp_path, b"x")
    for name in ("v2/b", "v1/c", "v2/a", "w", "v10/z", "v2/deep/er"):
        store.upload(source, name)
    assert store.names() == sorted(["v2/b", "v1/c", "v2/a", "w", "v10/z", "v2/deep/er"])
    assert store.names("v2/") == ["v2/a", "v2/b", "v2/deep/er"]
    assert store.names("v1") == ["v1/c", "v10/z"]
    assert store.names("zzz") == []


def test_an_upload_replaces_the_object(store: ObjectStore, tmp_path: Path) -> None:
    store.upload(file_of(tmp_path, b"old and long"), "a/b")
    store.upload(file_of(tmp_path, b"new"), "a/b")
    assert read(store, "a/b", tmp_path) == b"new"
    assert store.names() == ["a/b"]


def test_who_is_first_stays_where_that_is_asked(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    for content in (b"first", b"second"):
        store.upload(file_of(tmp_path, content), "a/object", first=True)
        with objects.writing(str(tmp_path / "store" / "a" / "table.csv"), first=True) as path:
            path.write_bytes(content)
    assert [read(store, name, tmp_path) for name in store.names()] == [b"first", b"first"]
    store.upload(file_of(tmp_path, b"second"), "a/object")
    assert [read(store, name, tmp_path) for name in store.names()] == [b"second", b"first"]


def test_who_is_first_stays_in_a_bucket_too(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator goes by no generation, as Google's service does: 0 is that of an object that is not there."""
    upload, conditions = Blob.upload_from_filename, []

    def checked(blob: Blob, *where: Any, if_generation_match: int | None = None, **options: Any) -> None:
        conditions.append(if_generation_match)
        if if_generation_match == 0 and blob.exists():
            raise PreconditionFailed("conditionNotMet")
        upload(blob, *where, **options)

    monkeypatch.setattr(Blob, "upload_from_filename", checked)
    store = open_store(bucket)
    for content in (b"first", b"second"):
        with objects.writing(f"{bucket}/table.csv", first=True) as path:
            path.write_bytes(content)
    assert read(store, "table.csv", tmp_path) == b"first"
    store.upload(file_of(tmp_path, b"second"), "table.csv")
    assert read(store, "table.csv", tmp_path) == b"second"
    assert conditions == [0, 0, None]


def test_without_links_who_is_first_stays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", none)
    for text in ("first", "second"):
        with replacing(tmp_path / "file", first=True) as partial:
            partial.write_text(text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "first"}


def test_names_may_hold_spaces_and_letters_beyond_ascii(store: ObjectStore, tmp_path: Path) -> None:
    store.upload(file_of(tmp_path, b"x"), "ordner/Größe der Fälle.csv")
    assert store.names("ordner/") == ["ordner/Größe der Fälle.csv"]
    assert read(store, "ordner/Größe der Fälle.csv", tmp_path) == b"x"


def test_a_missing_object_is_told_with_its_address(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"(?s)(no such object|No such file).*where: .*absent"):
        store.download("absent", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_missing_source_is_told(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write: .*No such file"):
        store.upload(tmp_path / "absent", "name")
    assert store.names() == []


def test_a_name_that_leads_outside_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    for name in ("../outside", "/outside", "a/../../outside"):
        with pytest.raises(StorageError, match="leads outside the store"):
            store.upload(file_of(tmp_path, b"x"), name)
        with pytest.raises(StorageError, match="leads outside the store"):
            store.download(name, tmp_path / "target")


def test_stores_with_different_prefixes_do_not_see_each_other(store: ObjectStore, address: str, tmp_path: Path) -> None:
    store.upload(file_of(tmp_path, b"x"), "inner/name")
    assert open_store(f"{address}/inner").names() == ["name"]
    assert open_store(f"{address}/inn").names() == []
    assert read(open_store(f"{address}/inner/"), "name", tmp_path) == b"x"


def test_a_local_copy_holds_the_object_and_goes_at_the_end(bucket: str, tmp_path: Path) -> None:
    open_store(bucket).upload(file_of(tmp_path, b"text,intent\n"), "in/cases.csv.gz")
    with local_copy(f"{bucket}/in/cases.csv.gz") as copy:
        assert copy.read_bytes() == b"text,intent\n"
        assert copy.name == "cases.csv.gz"  # the reader goes by the ending
        kept = copy
    assert not kept.exists()
    assert not kept.parent.exists()


def test_a_local_copy_goes_after_an_error_too(bucket: str, tmp_path: Path) -> None:
    open_store(bucket).upload(file_of(tmp_path, b"x"), "cases.csv")
    kept = []

    def fail_while_reading() -> None:
        with local_copy(f"{bucket}/cases.csv") as copy:
            kept.append(copy)
            assert copy.exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_reading()
    assert not kept[0].exists()


def test_an_object_at_the_top_of_a_bucket_has_a_local_copy(emulator: str, bucket: str, tmp_path: Path) -> None:
    name = f"{uuid.uuid4().hex}.csv"
    open_store(f"gs://{BUCKET}").upload(file_of(tmp_path, b"top"), name)
    with local_copy(f"gs://{BUCKET}/{name}") as copy:
        assert copy.read_bytes() == b"top"


def test_the_local_copy_of_a_local_file_is_the_file_itself(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"x")
    with local_copy(str(path)) as copy:
        assert copy == path
    assert path.exists()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with local_copy("~/cases.csv") as copy:
        assert copy == tmp_path / "cases.csv"
    open_store("~/models").upload(file_of(tmp_path, b"x"), "a")
    assert (tmp_path / "models" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("address", ["gs://", "gs:///", "gs:///prefix"])
def test_an_address_without_a_bucket_is_told(address: str) -> None:
    with pytest.raises(StorageError, match=r"(?s)names no bucket.*write gs://bucket/path"):
        open_store(address)


@pytest.mark.parametrize("address", ["gs://", "gs://bucket", "gs://bucket/", "gs://bucket/folder/"])
def test_an_address_without_a_file_is_told(address: str) -> None:
    with pytest.raises(StorageError, match=r"(?s)names no file.*gs://bucket/path/file\.csv"), local_copy(address):
        pass


def test_a_missing_bucket_is_told(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such object or bucket"):
        open_store("gs://no-such-bucket/prefix").names()
    with pytest.raises(StorageError, match="no such object or bucket"), local_copy("gs://no-such-bucket/a.csv"):
        pass


def test_an_endpoint_that_does_not_answer_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(objects, "_TIMEOUT_SECONDS", 3.0)  # 30 for a user
    store = open_store("gs://bucket/prefix")
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"(?s)cannot list: .*where: gs://bucket/prefix.*connection"):
        store.names()
    with pytest.raises(StorageError, match=r"cannot read"):
        store.download("a", tmp_path / "a")
    with pytest.raises(StorageError, match=r"cannot write"):
        store.upload(file_of(tmp_path, b"x"), "a")
    assert time.monotonic() - started < 40


def test_missing_credentials_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(PccError, match=r"(?s)no Google Cloud credentials.*where: gs://bucket.*gcloud auth"):
        open_store("gs://bucket")


def test_a_folder_upload_leaves_no_parts_behind(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.upload(file_of(tmp_path, b"x"), "a/b")
    assert [path.name for path in (tmp_path / "store" / "a").iterdir()] == ["b"]


def test_a_part_of_an_upload_under_way_has_no_name(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as partial:
        partial.write_bytes(b"half")
        assert FolderStore(tmp_path).names() == []
    assert FolderStore(tmp_path).names() == ["a"]


def fail_half_way(path: Path, error: BaseException) -> None:
    with replacing(path) as partial:
        partial.write_bytes(b"half of the ne")
        raise error


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt("stop")])
def test_replacing_leaves_the_old_file_whole_on_error(tmp_path: Path, error: BaseException) -> None:
    path = file_of(tmp_path, b"old", "result.csv")
    with pytest.raises(type(error), match="stop"):
        fail_half_way(path, error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing_leaves_nothing_on_error_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"):
        fail_half_way(tmp_path / "new" / "result.parquet", ValueError("stop"))
    assert list((tmp_path / "new").iterdir()) == []


def test_replacing_keeps_the_ending_and_makes_a_shared_file_as_readable_as_any(tmp_path: Path) -> None:
    with replacing(tmp_path / "result.parquet", shared=True) as partial:
        assert partial.suffix == ".parquet"
        partial.write_bytes(b"whole")
    usual = file_of(tmp_path, b"", "usual")
    assert stat.S_IMODE((tmp_path / "result.parquet").stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
