"""The shared cache in a PostgreSQL: one that is away or closed costs vectors their place, and nobody an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pcc_pipeline.encoder.caches import unless_away
from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.encoder.caches.in_postgresql import PostgresCaches
from pcc_pipeline.errors import ConfigError, FeatureError
from tests.postgres_server import PostgresServer, postgres_server

WIDTH = 384
WHERE = "postgresql://here"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(server: PostgresServer) -> None:
    server.execute("DROP TABLE IF EXISTS pcc_vectors")


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)


def keys(n: int) -> list[bytes]:
    return [text_key(f"text {number}") for number in range(n)]


def test_one_that_goes_away_is_told_once_and_used_again_when_it_is_back(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(unless_away.time, "monotonic", lambda: now)
    place = PostgresCaches(server.address, WHERE)
    with place.open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(3), vectors(3))
        server.stop()
        assert cache.get(keys(3)) == {}
        cache.put(keys(3), vectors(3))
        assert [record.message.partition(" cannot")[0] for record in caplog.records] == [f"the shared cache {WHERE}"]
        for act in (lambda: place.count(keys(1)), lambda: place.forget(keys(1)), lambda: place.forget(None)):
            with pytest.raises(FeatureError, match=r"(?s)shared cache of vectors cannot be used.*postgresql://here"):
                act()
        server.start()
        assert cache.get(keys(3)) == {}, "it is left alone for a minute"
        now += 61
        assert len(cache.get(keys(3))) == 3
    assert len(caplog.records) == 1


@pytest.mark.long
def test_one_that_stands_still_holds_nobody_up_for_longer_than_an_answer_may_take(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own limit for a statement is kept by itself, and does not count while it hangs: a run waited for ever."""
    place = PostgresCaches(server.address, WHERE)
    for act in (lambda cache: cache.get(keys(3)), lambda cache: cache.put(keys(3), vectors(3, 1))):
        caplog.clear()
        with place.open("one", WIDTH, sealed=False) as cache:
            cache.put(keys(3), vectors(3))
            with server.standing_still():
                began = time.monotonic()
                assert not act(cache)
                assert 8 < time.monotonic() - began < 40
            assert [record.message.partition(" cannot")[0] for record in caplog.records] == [
                f"the shared cache {WHERE}"
            ]
        with place.open("one", WIDTH, sealed=False) as cache:
            assert len(cache.get(keys(3))) == 3


def test_no_part_of_a_password_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Its library takes what follows the first @ for the host, and says so."""
    place = PostgresCaches("postgresql://u:p@S3CR@127.0.0.1:1/db", WHERE)
    with place.open("one", WIDTH, sealed=False) as cache:
        assert cache.get(keys(1)) == {}
    with pytest.raises(FeatureError) as caught:
        place.count(keys(1))
    assert len(caplog.records) == 1
    assert "S3CR" not in f"{caplog.text}{caught.value}"


def test_many_that_put_the_same_texts_at_the_same_time_wait_for_each_other(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The table is made by one of them, and nobody's rows lock another's out."""
    every = keys(600)

    def put(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(every))
        with PostgresCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
            for start in range(0, len(every), 200):
                part = order[start : start + 200]
                cache.put([every[place] for place in part], vectors(600)[part])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(8)))
    assert not caplog.records
    with PostgresCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
        found = cache.get(every)
    np.testing.assert_array_equal(np.vstack([found[key] for key in every]), vectors(600))


def test_who_may_not_write_the_table_anew_is_told_that_bytes_may_stand_in_it(server: PostgresServer) -> None:
    with PostgresCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(3), vectors(3))
    server.execute("DROP ROLE IF EXISTS guest")
    server.execute("CREATE ROLE guest LOGIN")
    server.execute("GRANT ALL ON pcc_vectors TO guest")
    guest = PostgresCaches(server.address.replace("owner@", "guest@"), WHERE)
    with pytest.raises(FeatureError, match=r"(?s)could not be written anew.*VACUUM FULL pcc_vectors"):
        guest.forget(keys(1))
    assert PostgresCaches(server.address, WHERE).forget(keys(1)) == 0
    assert vectors(1).tobytes() not in server.contents()


def test_who_may_only_read_reads_on_after_a_refused_write(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    with PostgresCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(250), vectors(250))
    server.execute("DROP ROLE IF EXISTS reader")
    server.execute("CREATE ROLE reader LOGIN")
    server.execute("GRANT SELECT ON pcc_vectors TO reader")
    with PostgresCaches(server.address.replace("owner@", "reader@"), WHERE).open("one", WIDTH, sealed=False) as cache:
        for _ in range(2):
            cache.put(keys(3), vectors(3))
            assert len(cache.get(keys(250))) == 250
    (record,) = caplog.records
    assert "cannot be used for writing (permission denied for table pcc_vectors)" in record.message
    assert record.message.isprintable()


def test_a_row_that_is_refused_is_not_repeated(server: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """PostgreSQL tells of the key and the vector that it refuses."""
    with PostgresCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
        assert cache.get(keys(1)) == {}
        server.execute("ALTER TABLE pcc_vectors ADD CHECK (day < 0)")
        cache.put(keys(1), vectors(1))
    assert "violates check constraint" in caplog.text
    assert keys(1)[0].hex() not in caplog.text


def test_a_password_stands_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    address = "postgresql://user:of-the-server@127.0.0.1:1/none"
    with PostgresCaches(address, WHERE).open("one", WIDTH, sealed=False) as cache:
        assert cache.get(keys(1)) == {}
    with pytest.raises(ConfigError, match="address of the shared cache is none") as raised:
        PostgresCaches("postgresql://user:of-the-server@here:port:1/none?=x", WHERE)
    assert "of-the-server" not in f"{caplog.text}{raised.value}"
    assert len(caplog.records) == 1
