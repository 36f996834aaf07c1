"""The cache of vectors: it keeps what was put, holds no text, and says clearly what is wrong with its file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.encoder.caches.on_disk import EmbeddingCache, FolderCaches
from pcc_pipeline.errors import ConfigError, FeatureError
from pcc_pipeline.sealing import keys as seal_keys
from pcc_pipeline.sealing.keys import SealKey

WIDTH = 8
DIGEST = "ab" * 32
ONE, OTHER = SealKey("0e0e0e0e", b"1" * 32), SealKey("0f0f0f0f", b"2" * 32)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`hold(OTHER, ONE)`: these keys are here, newest first."""
    return lambda *these: monkeypatch.setattr(seal_keys, "_keys", lambda: these)


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)


def keys(n: int, start: int = 0) -> list[bytes]:
    return [text_key(f"text {number}") for number in range(start, start + n)]


def test_vectors_survive_reopening_bit_by_bit(tmp_path: Path) -> None:
    put = vectors(3)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(3), put)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        found = cache.get([*keys(3), text_key("absent")])
    assert list(found) == sorted(found, key=keys(3).index)
    np.testing.assert_array_equal(np.vstack([found[key] for key in keys(3)]), put)


def test_more_keys_than_one_query_takes(tmp_path: Path) -> None:
    put = vectors(1201)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(1201), put)
        found = cache.get(keys(1300))
    np.testing.assert_array_equal(np.vstack([found[key] for key in keys(1201)]), put)
    assert len(found) == 1201


def test_a_vector_put_again_replaces_the_first(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(1), vectors(1, 0))
        cache.put(keys(1), vectors(1, 1))
        np.testing.assert_array_equal(cache.get(keys(1))[keys(1)[0]], vectors(1, 1)[0])


def test_another_encoder_has_another_file(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(1), vectors(1))
    with EmbeddingCache(tmp_path, "cd" * 32, WIDTH) as cache:
        assert cache.get(keys(1)) == {}


def test_float64_vectors_come_back_as_float32(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(2), vectors(2).astype(np.float64))
        found = cache.get(keys(2))
    assert all(vector.dtype == np.float32 and vector.shape == (WIDTH,) for vector in found.values())


def test_different_texts_have_different_keys() -> None:
    texts = ["a", "A", "a ", "ä", "a\u0308", "", "\ud800", "\ud801"]
    assert len({text_key(text) for text in texts}) == len(texts)


def test_the_file_holds_no_text(tmp_path: Path) -> None:
    text = "Zanzibarkowski asks you to delete everything"
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put([text_key(text)], vectors(1))
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    content += b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text_key(text) in content
    assert b"Zanzibarkowski" not in content
    assert "Zanzibarkowski".encode("utf-16-le") not in content


def test_two_processes_may_write_at_once(tmp_path: Path, hold: Callable[..., None]) -> None:
    """Each puts 100 transactions; none is refused and none is lost."""
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from pcc_pipeline.encoder.caches.entries import text_key\n"
        "from pcc_pipeline.encoder.caches.on_disk import EmbeddingCache\n"
        "from pcc_pipeline.sealing.keys import SealKey, use\n"
        "start = int(sys.argv[2])\n"
        "use(lambda: [SealKey('0e0e0e0e', b'1' * 32)])\n"
        "for sealed in (False, True):\n"
        f"    with EmbeddingCache(Path(sys.argv[1]), {DIGEST!r}, {WIDTH}, sealed=sealed) as cache:\n"
        "        for n in range(start, start + 100):\n"
        f"            cache.put([text_key(f'text {{n}}')], np.full((1, {WIDTH}), n, dtype=np.float32))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), start]) for start in ("0", "50")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    hold(ONE)
    for sealed in (False, True):
        with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=sealed) as cache:
            found = cache.get(keys(150))
        assert len(found) == 150
        assert all((found[key] == number).all() for number, key in enumerate(keys(150)))


def test_many_may_begin_a_new_file_at_once(tmp_path: Path) -> None:
    """SQLite refuses, without waiting, one of two that both make a new file one with a write-ahead log."""
    ready = threading.Barrier(4)

    def begun(number: int) -> bool:
        ready.wait(timeout=60)
        with EmbeddingCache(tmp_path / str(number), DIGEST, WIDTH) as cache:
            cache.put(keys(1), vectors(1))
            return list(cache.get(keys(1))) == keys(1)

    with ThreadPoolExecutor(4) as threads:
        for number in range(30):
            assert all(threads.map(begun, [number] * 4))


def test_a_damaged_row_counts_as_absent(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(4), vectors(4))
    connection = sqlite3.connect(tmp_path / f"{DIGEST}.sqlite")
    cut = "UPDATE vectors SET vector = substr(vector, 1, ?) WHERE key = ?"
    with connection:
        connection.execute(cut, (4 * (WIDTH - 1), keys(4)[0]))
        connection.execute(cut, (4 * WIDTH - 1, keys(4)[1]))  # not a whole number of floats
        connection.execute("UPDATE vectors SET vector = 'text' WHERE key = ?", (keys(4)[2],))
    connection.close()
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        assert list(cache.get(keys(4))) == [keys(4)[3]]
        cache.put(keys(4), vectors(4))
        assert len(cache.get(keys(4))) == 4


def test_a_vector_that_is_not_finite_counts_as_absent(tmp_path: Path) -> None:
    """An encoder never makes one: it comes from a damaged disk, and would spoil a whole fit."""
    broken = vectors(2)
    broken[0, 3] = np.nan
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(2), broken)
        assert list(cache.get(keys(2))) == [keys(2)[1]]


def _damaged(tmp_path: Path, change: Callable[[bytearray], bytes]) -> Path:
    """A cache of 600 vectors whose database file was changed."""
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(600), vectors(600))
    path = tmp_path / f"{DIGEST}.sqlite"
    path.write_bytes(change(bytearray(path.read_bytes())))
    return path


def test_a_flipped_bit_in_a_vector_is_no_vector(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The entry counts as absent, one line says so, and once it is made again it is there."""
    content = vectors(600)[7].tobytes()

    def flip(file: bytearray) -> bytes:
        file[file.index(content) + 5] ^= 1
        return bytes(file)

    _damaged(tmp_path, flip)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        found = cache.get(keys(600))
        assert set(keys(600)) - found.keys() == {keys(600)[7]}
        assert cache.get(keys(8)).keys() == set(keys(7))
        assert [record.message.partition(" in the cache")[0] for record in caplog.records] == ["1 of 600 vectors"]
        cache.put(keys(8)[7:], vectors(600)[7:8])
        np.testing.assert_array_equal(cache.get(keys(8))[keys(8)[7]], vectors(600)[7])


def test_a_vector_under_another_texts_key_is_no_vector(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(2), vectors(2))
    connection = sqlite3.connect(tmp_path / f"{DIGEST}.sqlite")
    with connection:
        connection.execute(
            "UPDATE vectors SET vector = (SELECT vector FROM vectors WHERE key = ?) WHERE key = ?", keys(2)
        )
    connection.close()
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        assert list(cache.get(keys(2))) == [keys(2)[0]]


def test_vectors_that_an_earlier_version_kept_are_made_again(tmp_path: Path) -> None:
    """It kept no checksum, so its entries prove nothing; they are in nobody's way."""
    path = tmp_path / f"{DIGEST}.sqlite"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        rows = [(key, vector.tobytes()) for key, vector in zip(keys(3), vectors(3), strict=True)]
        connection.executemany("INSERT INTO vectors VALUES (?, ?)", rows)
    connection.close()
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        assert cache.get(keys(3)) == {}
        cache.put(keys(3), vectors(3))
        assert len(cache.get(keys(3))) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda file: b"this is no database at all, " * 100,
        lambda file: bytes(file[:4096]) + os.urandom(len(file) - 2 * 4096) + bytes(file[-4096:]),
        lambda file: bytes(file[: len(file) // 2]),
        lambda file: bytes(file[:100]),
        lambda file: b"",
        lambda file: bytes(len(file)),
    ],
    ids=["another file", "random pages", "cut in half", "cut to its head", "emptied", "zeros"],
)
def test_a_damaged_cache_file_is_begun_anew(tmp_path: Path, change: Callable[[bytearray], bytes]) -> None:
    """Told in a line of the log, not as a full disk; what cannot be read counts as absent."""
    _damaged(tmp_path, change)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        put = vectors(600)
        for key, vector in cache.get(keys(600)).items():
            np.testing.assert_array_equal(vector, put[keys(600).index(key)])
        cache.put(keys(600), put)
        assert len(cache.get(keys(600))) == 600
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        assert len(cache.get(keys(600))) == 600


def test_whatever_bits_flip_a_vector_is_the_one_that_was_put_or_absent(tmp_path: Path) -> None:
    rng, put = np.random.default_rng(3), dict(zip(keys(600), vectors(600), strict=True))
    path = _damaged(tmp_path, bytes)
    whole = path.read_bytes()
    for _ in range(150):
        file = bytearray(whole)
        for place in rng.integers(0, len(file), size=int(rng.integers(1, 30))):
            file[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(file)
        with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
            for key, vector in cache.get(keys(600)).items():
                np.testing.assert_array_equal(vector, put[key])
            cache.put(keys(5), vectors(5))
            assert len(cache.get(keys(5))) == 5
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)


def test_a_damaged_file_that_another_process_uses_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite's files must not be replaced under a process that has them open: this one goes on without."""
    path = _damaged(tmp_path, lambda file: b"this is no database at all, " * 100)
    with (tmp_path / f"{DIGEST}.lock").open("rb") as another:
        fcntl.flock(another, fcntl.LOCK_SH)  # as a process has it that uses the cache
        with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
            assert cache.get(keys(1)) == {}
            cache.put(keys(1), vectors(1))
        assert "goes on without" in caplog.text
        assert path.read_bytes().startswith(b"this is no database")
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(1), vectors(1))
        assert len(cache.get(keys(1))) == 1


def test_a_database_of_something_else_is_told_and_stays(tmp_path: Path) -> None:
    path = tmp_path / f"{DIGEST}.sqlite"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE vectors (name TEXT)")
        connection.execute("INSERT INTO vectors VALUES ('kept')")
    connection.close()
    with (
        pytest.raises(FeatureError, match=r"(?s)cannot be used: .*move it away"),
        EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache,
    ):
        cache.get(keys(1))
    assert b"kept" in path.read_bytes()


def test_the_cache_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    with EmbeddingCache(folder, DIGEST, WIDTH) as cache:
        cache.put(keys(1), vectors(1))
        modes = {path.name: path.stat().st_mode & 0o777 for path in [folder.parent, folder, *folder.iterdir()]}
    assert modes.pop("new") == modes.pop("cache") == 0o700
    assert set(modes.values()) == {0o600}, modes


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(FeatureError, match="cache cannot be used"):
        EmbeddingCache(tmp_path / "cache", DIGEST, WIDTH)
    with pytest.raises(FeatureError, match="cache cannot be used"):
        EmbeddingCache(tmp_path / "cache" / "below", DIGEST, WIDTH)


def test_a_folder_that_cannot_be_written_is_told(read_only: Path) -> None:
    with pytest.raises(FeatureError, match=r"(?s)cache cannot be used: .*permissions"):
        EmbeddingCache(read_only, DIGEST, WIDTH)
    with pytest.raises(FeatureError, match=r"(?s)cache cannot be used: .*permissions"):
        EmbeddingCache(read_only / "new", DIGEST, WIDTH)


def test_a_full_disk_is_told_and_what_was_stored_stays(small_disk: Path) -> None:
    with EmbeddingCache(small_disk, DIGEST, WIDTH) as cache:
        cache.put(keys(10), vectors(10))
        with pytest.raises(FeatureError, match=r"(?s)cache cannot be used: .*(full|I/O error).*free some space"):
            cache.put(keys(20_000, start=10), vectors(20_000))
        assert len(cache.get(keys(12))) == 10


@pytest.fixture
def small_disk(disk: Callable[[str], Path]) -> Path:
    """A disk of 256 KiB."""
    return disk("size=256k")


@pytest.fixture
def read_only(disk: Callable[[str], Path], tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to, root included (root passes over a folder's permissions)."""
    if os.geteuid() == 0:
        yield disk("ro,size=64k")
        return
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


TODAY = datetime.now(UTC).date()
LATER = TODAY + timedelta(days=7)  # the tests may begin before midnight, and come to this after it


def ages(folder: Path, number: int, days: int) -> None:
    """As if some vectors had been made so many days ago."""
    with contextlib.closing(sqlite3.connect(folder / f"{DIGEST}.sqlite")) as connection, connection:
        day = TODAY.toordinal() - days
        connection.executemany("UPDATE made SET day = ? WHERE key = ?", [(day, key) for key in keys(number)])


def test_vectors_that_are_too_old_go_byte_for_byte_and_the_others_stay(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(50), vectors(50))
        ages(tmp_path, 20, 31)
        before = TODAY - timedelta(days=30)
        (old,) = FolderCaches(tmp_path).aged(before)
        assert (old.vectors, old.size) == (20, 20 * (4 * WIDTH + 4))
        # Another process has the cache open meanwhile.
        assert FolderCaches(tmp_path).forget_aged(before) == [old]
        assert list(cache.get(keys(50))) == [key for key in cache.get(keys(50)) if key in keys(30, 20)]
        assert len(cache.get(keys(50))) == 30
    assert FolderCaches(tmp_path).aged(before) == []
    assert FolderCaches(tmp_path).forget_aged(before) == []
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(key in everything for key in keys(20))
    assert [vector.tobytes() in everything for vector in vectors(50)] == [False] * 20 + [True] * 30
    (rest,) = FolderCaches(tmp_path).aged(LATER)
    assert rest.vectors == 30


def test_what_a_version_without_days_put_is_as_old_as_the_table_of_days(tmp_path: Path) -> None:
    earlier = sqlite3.connect(tmp_path / f"{DIGEST}.sqlite")
    (tmp_path / f"{DIGEST}.lock").touch()
    with earlier:
        earlier.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        earlier.execute("INSERT INTO vectors VALUES (?, ?)", (keys(1)[0], bytes(36)))
    assert FolderCaches(tmp_path).aged(TODAY) == []
    assert [one.vectors for one in FolderCaches(tmp_path).aged(LATER)] == [1]
    with earlier:
        earlier.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (keys(2)[1], bytes(36)))
    earlier.close()
    assert [one.vectors for one in FolderCaches(tmp_path).aged(LATER)] == [2]


def test_a_forgetting_that_is_killed_leaves_all_or_nothing(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(50), vectors(50))
    code = (
        "import os, signal, sqlite3, sys\n"
        "from datetime import date\n"
        "from pathlib import Path\n"
        "connect = sqlite3.connect\n"
        "class Dying(sqlite3.Connection):\n"
        "    def execute(self, text, *values):\n"
        "        result = super().execute(text, *values)\n"
        "        if text.startswith('DELETE'):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return result\n"
        "sqlite3.connect = lambda *about, **how: connect(*about, factory=Dying, **how)\n"
        "from pcc_pipeline.encoder.caches.on_disk import FolderCaches\n"
        "FolderCaches(Path(sys.argv[1])).forget_aged(date.max)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], timeout=60).returncode == -signal.SIGKILL
    assert [one.vectors for one in FolderCaches(tmp_path).aged(LATER)] == [50]
    assert [one.vectors for one in FolderCaches(tmp_path).forget_aged(LATER)] == [50]


def test_a_database_of_somebody_else_in_the_folder_is_not_touched(tmp_path: Path) -> None:
    theirs = sqlite3.connect(tmp_path / "theirs.sqlite")
    with theirs:
        theirs.execute("CREATE TABLE vectors (name TEXT, vector BLOB)")
        theirs.execute("INSERT INTO vectors VALUES ('mine', x'00')")
    theirs.close()
    (tmp_path / "theirs.lock").touch()
    (tmp_path / "noise.sqlite").write_bytes(b"none at all")
    (tmp_path / "noise.lock").touch()
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert FolderCaches(tmp_path).aged(LATER) == []
    assert FolderCaches(tmp_path).forget_aged(LATER) == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_sealed_vectors_show_neither_themselves_nor_whose_they_are(tmp_path: Path, hold: Callable[..., None]) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(2), vectors(2, 9))
    plain = {path.name for path in tmp_path.iterdir()}
    hold()
    with pytest.raises(ConfigError, match="no key to encrypt with"):
        EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True)
    hold(ONE)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True) as cache:
        assert cache.get(keys(2)) == {}
        cache.put(keys(600), vectors(600))
        found = cache.get(keys(601))
        np.testing.assert_array_equal(np.vstack([found[key] for key in keys(600)]), vectors(600))
        sealed = [path for path in tmp_path.iterdir() if path.name not in plain]
        content = b"".join(path.read_bytes() for path in sealed)
        assert not any(key in content for key in keys(600))
        assert not any(vector.tobytes() in content for vector in vectors(600))
    # Rotated: what the old key sealed is read, and the new one seals.
    hold(OTHER, ONE)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True) as cache:
        assert len(cache.get(keys(601))) == 600
        cache.put(keys(1, 600), vectors(1, 3))
        assert len(cache.get(keys(601))) == 601
    hold(OTHER)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True) as cache:
        assert list(cache.get(keys(601))) == keys(1, 600)
    assert sum(one.vectors for one in FolderCaches(tmp_path).aged(LATER)) == 603
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        assert len(cache.get(keys(601))) == 2


def test_a_sealed_vector_that_was_changed_or_exchanged_counts_as_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hold: Callable[..., None]
) -> None:
    hold(ONE)
    with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True) as cache:
        cache.put(keys(4), vectors(4))
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DIGEST}.sealed.sqlite")) as connection, connection:
        rows = connection.execute("SELECT key, vector FROM vectors").fetchall()
        connection.execute("UPDATE vectors SET vector = ? WHERE key = ?", (rows[1][1], rows[0][0]))
        connection.execute("UPDATE vectors SET vector = ? WHERE key = ?", (rows[2][1][:-1] + b"\0\0", rows[2][0]))
    with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True) as cache:
        assert len(cache.get(keys(4))) == 2
    assert "2 of 4 vectors in the cache" in caplog.text


def test_vectors_that_are_forgotten_leave_no_byte_of_theirs(tmp_path: Path) -> None:
    keys = [text_key(f"text {number}") for number in range(50)]
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    with EmbeddingCache(tmp_path, "space", 8) as cache:
        cache.put(keys, vectors)
        assert FolderCaches(tmp_path).count(keys[:3]) == 3
        assert FolderCaches(tmp_path).forget(keys[:3]) == 3
        assert FolderCaches(tmp_path).forget(keys[:3]) == 0
        assert set(cache.get(keys)) == set(keys[3:])
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for key, vector in zip(keys[:3], vectors, strict=False):
        assert key not in content
        assert vector.tobytes() not in content
    assert keys[3] in content
    assert FolderCaches(tmp_path).forget(None) == 47
    assert FolderCaches(tmp_path).count(keys) == 0


def test_vectors_of_texts_leave_a_sealed_cache_too_whichever_key_sealed_them(
    tmp_path: Path, hold: Callable[..., None]
) -> None:
    for key, first in ((ONE, 0), (OTHER, 5)):
        hold(key)
        with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True) as cache:
            cache.put(keys(5, first), vectors(5))
    hold(OTHER, ONE)
    assert FolderCaches(tmp_path).count(keys(10)) == 10
    assert FolderCaches(tmp_path).forget(keys(4, 3)) == 4
    with EmbeddingCache(tmp_path, DIGEST, WIDTH, sealed=True) as cache:
        assert set(cache.get(keys(10))) == {*keys(3), *keys(3, 7)}
    hold()
    with pytest.raises(ConfigError, match="no key to encrypt with"):
        FolderCaches(tmp_path).forget(keys(1))
