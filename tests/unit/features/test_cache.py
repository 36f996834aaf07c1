"""The cache of vectors: it keeps what was put, holds no text, and says clearly what is wrong with its file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.errors import FeatureError
from pcc_pipeline.features.cache import EmbeddingCache, text_key

WIDTH = 8
DIGEST = "ab" * 32


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


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    """Each puts 100 transactions; none is refused and none is lost."""
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from pcc_pipeline.features.cache import EmbeddingCache, text_key\n"
        "start = int(sys.argv[2])\n"
        f"with EmbeddingCache(Path(sys.argv[1]), {DIGEST!r}, {WIDTH}) as cache:\n"
        "    for n in range(start, start + 100):\n"
        f"        cache.put([text_key(f'text {{n}}')], np.full((1, {WIDTH}), n, dtype=np.float32))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), start]) for start in ("0", "50")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        found = cache.get(keys(150))
    assert len(found) == 150
    assert all((found[key] == number).all() for number, key in enumerate(keys(150)))


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


def test_a_file_that_is_no_cache_is_told(tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST}.sqlite").write_bytes(b"this is no database at all, " * 100)
    with pytest.raises(
        FeatureError, match=rf"(?s)cache cannot be used: file is not a database.*{DIGEST}\.sqlite.*null"
    ):
        EmbeddingCache(tmp_path, DIGEST, WIDTH)


def test_a_database_damaged_in_the_middle_is_told(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache:
        cache.put(keys(2000), vectors(2000))
    path = tmp_path / f"{DIGEST}.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:-4096] = os.urandom(len(content) - 2 * 4096)
    path.write_bytes(content)
    with (
        pytest.raises(FeatureError, match=r"cache cannot be used: .*malformed"),
        EmbeddingCache(tmp_path, DIGEST, WIDTH) as cache,
    ):
        cache.get(keys(2000))


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


def _mount(folder: Path, options: str) -> None:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, text=True, timeout=20
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    _mount(folder, "size=256k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=20)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to, root included (root passes over a folder's permissions)."""
    folder = tmp_path / "locked"
    folder.mkdir()
    mounted = os.geteuid() == 0
    if mounted:
        _mount(folder, "ro,size=64k")
    else:
        folder.chmod(0o500)
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True, timeout=20)
    else:
        folder.chmod(0o700)
