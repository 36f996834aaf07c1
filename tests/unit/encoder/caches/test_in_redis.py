"""The shared cache: a Redis that is away, full or closed costs vectors their place, and nobody an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date

import numpy as np
import pytest
from redis import ResponseError

from pcc_pipeline.encoder.caches import unless_away
from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.encoder.caches.in_redis import RedisCaches
from pcc_pipeline.errors import ConfigError, FeatureError
from tests.redis_server import RedisServer, redis_server

WIDTH = 384
WHERE = "redis://:***@here"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def vectors(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, WIDTH)).astype(np.float32)


def keys(n: int) -> list[bytes]:
    return [text_key(f"text {number}") for number in range(n)]


def test_one_that_goes_away_is_told_once_and_used_again_when_it_is_back(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(unless_away.time, "monotonic", lambda: now)
    place = RedisCaches(server.address, WHERE)
    with place.open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(3), vectors(3))
        server.kill()
        assert cache.get(keys(3)) == {}
        cache.put(keys(3), vectors(3))
        assert [record.message.partition(" cannot")[0] for record in caplog.records] == [f"the shared cache {WHERE}"]
        server.start()
        assert cache.get(keys(3)) == {}, "it is left alone for a minute"
        cache.put(keys(3), vectors(3))
        now += 61
        assert cache.get(keys(3)) == {}
        cache.put(keys(3), vectors(3))
        assert len(cache.get(keys(3))) == 3
        server.kill()
        assert cache.get(keys(3)) == {}
    assert len(caplog.records) == 1


def test_where_vectors_are_to_be_forgotten_one_that_is_away_is_an_error(server: RedisServer) -> None:
    place = RedisCaches(server.address, WHERE)
    server.kill()
    for act in (lambda: place.count(keys(1)), lambda: place.forget(keys(1)), lambda: place.forget(None)):
        with pytest.raises(FeatureError, match=r"(?s)shared cache of vectors cannot be used.*redis://:\*\*\*@here"):
            act()


def test_one_that_is_full_gives_what_it_has(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(maxmemory="3mb", maxmemory_policy="noeviction") as server:
        place = RedisCaches(server.address, WHERE)
        with place.open("one", WIDTH, sealed=False) as cache:
            cache.put(keys(4000), vectors(4000))
        assert "maxmemory" in caplog.text
        with place.open("one", WIDTH, sealed=False) as cache:
            found = cache.get(keys(4000))
        assert 0 < len(found) < 4000
        put = dict(zip(keys(4000), vectors(4000), strict=True))
        assert all((put[key] == vector).all() for key, vector in found.items())
    (record,) = caplog.records
    assert "cannot be used for writing (command not allowed when used memory > 'maxmemory'.)" in record.message
    assert record.message.isprintable()
    assert "pcc:vectors" not in record.message


def test_one_that_refuses_to_keep_goes_on_giving(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with RedisCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
        cache.put(keys(250), vectors(250))
        server.client.config_set("maxmemory", "1")
        for _ in range(2):
            cache.put([text_key("another")], vectors(1))
            assert len(cache.get(keys(250))) == 250
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda place: place.count(keys(1)),
        lambda place: place.aged(date.max),
        lambda place: place.open("one", WIDTH, sealed=False).get(keys(1)),
        lambda place: place.open("one", WIDTH, sealed=False).put(keys(1), vectors(1)),
    ],
)
def test_what_is_told_of_a_refused_command_holds_no_key_and_no_vector(
    server: RedisServer, act: Callable[[RedisCaches], object], caplog: pytest.LogCaptureFixture
) -> None:
    server.client.set(b"pcc:vectors:" + keys(1)[0], "of somebody else")
    try:
        act(RedisCaches(server.address, WHERE))
        said = caplog.text
    except FeatureError as error:
        said = str(error)
    assert "cannot be used" in said
    assert "WRONGTYPE" in said
    assert "pcc:vectors" not in said


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("unknown command 'HSET', with args beginning with: 'pcc:vectors:abc' ", "unknown command 'HSET'"),
        ("no \x00\x91 such key", "ResponseError"),
        ("", "ResponseError"),
    ],
)
def test_a_reason_is_a_line_that_prints(words: str, reason: str) -> None:
    assert unless_away.reason_of(ResponseError(words), "redis://here") == reason


def test_one_that_evicts_is_a_cache_all_the_same() -> None:
    with redis_server(maxmemory="3mb", maxmemory_policy="allkeys-lru") as server:
        with RedisCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
            cache.put(keys(4000), vectors(4000))
            found = cache.get(keys(4000))
        assert 0 < len(found) < 4000


def test_a_wrong_password_is_told_and_the_right_one_works(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(requirepass="of-the-server") as server:
        address = server.address.removeprefix("unix://")
        for password, there in (("another", 0), ("of-the-server", 2)):
            place = RedisCaches(f"unix://:{password}@{address}", WHERE)
            with place.open("one", WIDTH, sealed=False) as cache:
                cache.put(keys(2), vectors(2))
                assert len(cache.get(keys(2))) == there
    assert len(caplog.records) == 1
    assert "password" in caplog.text
    assert "another" not in caplog.text


def test_a_name_that_holds_something_else_is_told(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    server.client.set(b"pcc:vectors:" + keys(1)[0], "of somebody else")
    with RedisCaches(server.address, WHERE).open("one", WIDTH, sealed=False) as cache:
        assert cache.get(keys(2)) == {}
    assert "WRONGTYPE" in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        "redis://here:port/0",
        "redis://here/0?socket_timeout=soon",
        "redis://user:po/rt@here/0",
        "redis://127.0.0.1:1/0?foo=po",
        "redis://127.0.0.1:1/0?retry=3",
        "rediss://127.0.0.1:1/0?protocol=9",
        "redis://127.0.0.1:1/0?connection_class=po",
        "unix:///nowhere.sock?socket_type=po",
        "unix:///nowhere.sock?db=po",
    ],
)
def test_an_address_that_is_none_is_an_error_at_once(address: str) -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)address of the shared cache.*where:.*redis://:\*\*\*@here.*do:"
    ) as caught:
        RedisCaches(address, WHERE)
    assert not re.search(r"\bpo\b", str(caught.value))


def test_options_of_the_address_do_not_change_what_vectors_are(server: RedisServer) -> None:
    for options in ("", "?decode_responses=true", "?encoding=utf-16&client_name=me", "?max_connections=1"):
        with RedisCaches(server.address + options, WHERE).open("one", WIDTH, sealed=False) as cache:
            cache.put(keys(3), vectors(3))
            np.testing.assert_array_equal(cache.get(keys(3))[keys(3)[0]], vectors(3)[0])
