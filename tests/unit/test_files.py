"""Files and folders on this machine: private, whole or not at all, and swept after a crash."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcc_pipeline.errors import StorageError
from pcc_pipeline.files import is_left, marked, private_folder, replacing, scratch_folder
from pcc_pipeline.storage import objects

NOBODY = 65534


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def write(path: Path, text: str = "new", *, shared: bool = False) -> None:
    with replacing(path, shared=shared) as partial:
        partial.write_text(text)


def test_what_we_make_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "outputs" / "embedded" / "rows.parquet"
    with replacing(path) as partial:
        partial.write_text("rows")
        assert mode(partial) == 0o600
    assert [mode(each) for each in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]


def test_a_folder_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    write(shared / "scores.csv")
    assert mode(shared) == 0o775
    assert private_folder(shared) == shared
    assert mode(shared) == 0o775


def test_what_is_for_others_is_as_readable_as_any_file_or_as_the_one_before(tmp_path: Path) -> None:
    write(tmp_path / "scores.csv", shared=True)
    assert mode(tmp_path / "scores.csv") == 0o644
    (tmp_path / "scores.csv").chmod(0o640)
    write(tmp_path / "scores.csv", shared=True)
    assert mode(tmp_path / "scores.csv") == 0o640


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to("real/file.csv")
    write(tmp_path / "link.csv", "first")  # to a file that is not there yet
    write(tmp_path / "link.csv", "second")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real/file.csv").read_text() == "second"
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["file.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another's link")
def test_anothers_link_in_a_folder_that_all_may_write_to_is_refused(tmp_path: Path) -> None:
    """As in /tmp: who lays such a link chooses what is overwritten."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "precious").write_text("old")
    link = tmp_path / "tmp" / "runs.csv"
    link.symlink_to(tmp_path / "precious")
    os.lchown(link, NOBODY, NOBODY)
    with pytest.raises(StorageError, match="somebody else's link"), objects.replacing(link) as partial:
        partial.write_text("new")
    assert (tmp_path / "precious").read_text() == "old"


def test_another_name_of_a_file_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    write(tmp_path / "a")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("new", "old")


def test_a_folder_of_that_name_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with (
        pytest.raises(StorageError, match=r"(?s)there is a folder of this name.*results"),
        objects.replacing(tmp_path / "results"),
    ):
        pytest.fail("not begun")
    assert list(tmp_path.iterdir()) == [tmp_path / "results"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    """The device of /dev/full, of our own, so that a failure of this test breaks nothing."""
    full, null = tmp_path / "full", tmp_path / "null"
    os.mknod(full, 0o20666, os.makedev(1, 7))
    os.mknod(null, 0o20666, os.makedev(1, 3))
    write(null)
    with pytest.raises(StorageError, match="No space left"), objects.replacing(full) as partial:
        partial.write_text("new")
    assert full.is_char_device()
    assert null.is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "null"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    write(tmp_path / "pipe")
    assert reader.communicate(timeout=20)[0] == "new"
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_to_wherever_it_was_turned(tmp_path: Path, name: str) -> None:
    code = (
        "from pathlib import Path; from pcc_pipeline.files import replacing\n"
        f"with replacing(Path('{name}'), shared=True) as partial: partial.write_text('new')"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "new"
    piped = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert piped.stdout == b"new"


def test_an_error_within_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write(tmp_path / "file", "old")
    with pytest.raises(KeyError), replacing(tmp_path / "file") as partial:
        partial.write_text({"half": "half"}["whole"])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def _killed_while_writing(folder: Path) -> None:
    """A process writes a file and a temporary folder there, and is killed amid both."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pcc_pipeline.files import replacing, scratch_folder\n"
        f"with replacing(Path('{folder}/rows.parquet')) as partial, scratch_folder() as scratch:\n"
        "    partial.write_text('texts')\n    (scratch / 'rows.csv').write_text('texts')\n"
        "    print('there', flush=True)\n    time.sleep(600)\n"
    )
    environment = os.environ | {"TMPDIR": str(folder / "tmp")}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_a_killed_process_left_goes_with_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside the target and in the temporary folder; what a living process or somebody else has there stays.

    Who runs an ordinary command is not told.
    """
    (tmp_path / "tmp").mkdir()
    _killed_while_writing(tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    others = [tmp_path / marked(".partial-"), tmp_path / ".partial-of-something-else", tmp_path / "tmp" / "pcc-mine"]
    for path in others:
        path.write_text("kept")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    caplog.set_level("DEBUG")
    write(tmp_path / "rows.parquet")
    with scratch_folder():
        pass
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [*others, tmp_path / "rows.parquet"]
    )
    assert {line.levelname for line in caplog.records if "which a process left" in line.message} == {"DEBUG"}


def test_what_another_machine_left_is_removed_after_a_week() -> None:
    elsewhere = "01234567-89ab-cdef-0123-456789abcdef.4026531836.17.99"
    now = time.time()
    assert not is_left(f".partial-{elsewhere}.{now:.0f}.abcdef12.parquet")
    assert is_left(f".partial-{elsewhere}.{now - 8 * 24 * 3600:.0f}.abcdef12.parquet")
    assert not is_left(marked(".staging-v20260131_235959-"))
    assert not is_left(".staging-v20260131_235959-dead")


def test_the_temporary_folder_of_a_bucket_file_is_private() -> None:
    with scratch_folder() as folder:
        assert mode(folder) == 0o700
    with contextlib.suppress(FileNotFoundError):
        assert not folder.exists()
