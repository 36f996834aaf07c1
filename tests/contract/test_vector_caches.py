"""Every place of vectors keeps what was put, says what is damaged, and forgets for good what it is told to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.encoder.caches import in_postgresql, in_redis, on_disk
from pcc_pipeline.encoder.caches.entries import CachePlace, text_key
from pcc_pipeline.encoder.caches.in_postgresql import PostgresCaches
from pcc_pipeline.encoder.caches.in_redis import RedisCaches
from pcc_pipeline.encoder.caches.on_disk import FolderCaches
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.sealing import keys as seal_keys
from pcc_pipeline.sealing.keys import SealKey
from tests.postgres_server import PostgresServer, postgres_server
from tests.redis_server import RedisServer, redis_server

WIDTH = 8
ONE, OTHER = SealKey("0e0e0e0e", b"1" * 32), SealKey("0f0f0f0f", b"2" * 32)
TODAY = datetime.now(UTC).date()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["folder", "redis", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> CachePlace:
    if request.param == "folder":
        return FolderCaches(tmp_path)
    if request.param == "postgresql":
        database: PostgresServer = request.getfixturevalue("database")
        database.execute("DROP TABLE IF EXISTS pcc_vectors")
        return PostgresCaches(database.address, "postgresql://here")
    server: RedisServer = request.getfixturevalue("server")
    server.client.flushall()
    return RedisCaches(server.address, "redis://here")


@pytest.fixture
def contents(place: CachePlace, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], bytes]:
    """All bytes that a place holds."""

    def read() -> bytes:
        if isinstance(place, FolderCaches):
            return b"".join(path.read_bytes() for path in tmp_path.iterdir())
        if isinstance(place, PostgresCaches):
            contents: bytes = request.getfixturevalue("database").contents()
            return contents
        client = request.getfixturevalue("server").client
        return b"".join(name + b"".join(client.hvals(name)) for name in client.scan_iter())

    return read


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`hold(OTHER, ONE)`: these keys are here, newest first."""
    return lambda *these: monkeypatch.setattr(seal_keys, "_keys", lambda: these)


@pytest.fixture
def days_ago(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """What is put from now on was made so many days ago."""

    def set_back(days: int) -> None:
        for module in (on_disk, in_redis, in_postgresql):
            monkeypatch.setattr(module, "today", lambda: TODAY.toordinal() - days)

    return set_back


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)


def keys(n: int, start: int = 0) -> list[bytes]:
    return [text_key(f"text {number}") for number in range(start, start + n)]


def test_vectors_come_back_bit_by_bit_and_others_do_not(place: CachePlace) -> None:
    put = vectors(1201)
    with place.open("one", WIDTH, sealed=False) as cache:
        assert cache.get(keys(3)) == {}
        cache.put(keys(1201), put)
        cache.put([], np.empty((0, WIDTH), dtype=np.float32))
    with place.open("one", WIDTH, sealed=False) as cache:
        found = cache.get(keys(1300))
        assert cache.get([]) == {}
    assert len(found) == 1201
    np.testing.assert_array_equal(np.vstack([found[key] for key in keys(1201)]), put)
    with place.open("another encoder", WIDTH, sealed=False) as cache:
        assert cache.get(keys(3)) == {}


def test_the_last_of_two_vectors_of_a_text_stays(place: CachePlace) -> None:
    with place.open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(5), vectors(5))
        cache.put(keys(5), vectors(5, seed=1))
        found = cache.get(keys(5))
    np.testing.assert_array_equal(np.vstack([found[key] for key in keys(5)]), vectors(5, seed=1))
    assert place.count(keys(5)) == 5


def test_vectors_that_are_no_numbers_are_absent(place: CachePlace, caplog: pytest.LogCaptureFixture) -> None:
    put = vectors(3)
    put[1, 2] = np.nan
    with place.open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(3), put)
        assert set(cache.get(keys(3))) == {keys(3)[0], keys(3)[2]}
        cache.get(keys(3))
    assert [record.message.partition(" in the cache")[0] for record in caplog.records] == ["1 of 3 vectors"], (
        "it is told once"
    )


def test_a_changed_bit_and_another_texts_vector_are_absent(
    place: CachePlace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with place.open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(4), vectors(4))
        if isinstance(place, FolderCaches):
            with closing(sqlite3.connect(tmp_path / "one.sqlite")) as file, file:
                (entry,) = file.execute("SELECT vector FROM vectors WHERE key = ?", keys(1)).fetchone()
                changed = [(bytes([entry[0] ^ 1, *entry[1:]]), keys(4)[0]), (entry, keys(4)[1]), (b"", keys(4)[2])]
                file.executemany("UPDATE vectors SET vector = ? WHERE key = ?", changed)
        elif isinstance(place, PostgresCaches):
            database = request.getfixturevalue("database")
            ((entry,),) = database.execute("SELECT entry FROM pcc_vectors WHERE name = %s", keys(1)[0])
            changes = (bytes([entry[0] ^ 1, *entry[1:]]), entry, b"")
            for key, change in zip(keys(3), changes, strict=True):
                database.execute("UPDATE pcc_vectors SET entry = %s WHERE name = %s", change, key)
        else:
            client = request.getfixturevalue("server").client
            names = [b"pcc:vectors:" + key for key in keys(4)]
            entry = client.hget(names[0], "one")
            client.hset(names[0], "one", bytes([entry[0] ^ 1, *entry[1:]]))
            client.hset(names[1], "one", entry)
            client.hset(names[2], "one", b"")
        assert list(cache.get(keys(4))) == keys(1, 3)


def test_a_place_holds_no_text(place: CachePlace, contents: Callable[[], bytes]) -> None:
    with place.open("one", WIDTH, sealed=False) as cache:
        cache.put([text_key("Zanzibarkowski asks")], vectors(1))
    assert text_key("Zanzibarkowski asks") in contents()
    assert b"Zanzibarkowski" not in contents()


def test_texts_are_forgotten_for_every_encoder(place: CachePlace, contents: Callable[[], bytes]) -> None:
    for seed, space in enumerate(("one", "other")):
        with place.open(space, WIDTH, sealed=False) as cache:
            cache.put(keys(10), vectors(10, seed))
    assert place.count(keys(4)) == 8
    assert place.count([]) == 0
    assert place.forget(keys(4)) == 8
    assert place.forget(keys(4)) == 0
    assert place.count(keys(10)) == 12
    held = contents()
    for seed in (0, 1):
        assert [vector.tobytes() in held for vector in vectors(10, seed)] == [False] * 4 + [True] * 6
    assert place.forget(None) == 12
    assert place.count(keys(10)) == 0


def test_sealed_vectors_open_by_their_keys_alone_and_are_forgotten(
    place: CachePlace, contents: Callable[[], bytes], hold: Callable[..., None]
) -> None:
    hold()
    with pytest.raises(ConfigError, match="key"):
        place.open("one", WIDTH, sealed=True)
    hold(ONE)
    with place.open("one", WIDTH, sealed=True) as cache:
        cache.put(keys(5), vectors(5))
    assert not any(key in contents() for key in keys(5))
    assert not any(vector.tobytes() in contents() for vector in vectors(5))
    hold(OTHER, ONE)
    with place.open("one", WIDTH, sealed=True) as cache:
        cache.put(keys(5, 5), vectors(5, seed=1))
        found = cache.get(keys(10))
    np.testing.assert_array_equal(
        np.vstack([found[key] for key in keys(10)]), np.vstack([vectors(5), vectors(5, seed=1)])
    )
    with place.open("one", WIDTH, sealed=False) as cache:
        assert cache.get(keys(10)) == {}
    hold()
    with pytest.raises(ConfigError, match="key"):
        place.forget(keys(1))
    hold(OTHER)
    assert place.count(keys(10)) == 5
    hold(OTHER, ONE)
    assert place.forget(keys(6)) == 6
    assert place.count(keys(10)) == 4


def test_what_is_too_old_goes(place: CachePlace, days_ago: Callable[[int], None]) -> None:
    with place.open("one", WIDTH, sealed=False) as cache:
        days_ago(31)
        cache.put(keys(20), vectors(20))
        days_ago(30)
        cache.put(keys(5, 20), vectors(5))
        before = TODAY - timedelta(days=30)
        (old,) = place.aged(before)
        assert old.vectors == 20
        assert old.size >= 20 * (4 * WIDTH + 4)
        (gone,) = place.forget_aged(before)
        assert gone == old
        assert set(cache.get(keys(25))) == set(keys(5, 20))
    assert place.aged(before) == place.forget_aged(before) == []
