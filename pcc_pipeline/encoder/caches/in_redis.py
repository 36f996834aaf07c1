"""Vectors in a Redis that several machines share.

Under the name of a text stands one hash: a field for each encoder and backend, and the day of its first vector. So a
text is forgotten by one name, for whichever encoders it was kept. Redis may evict a text at any time.

A Redis that is away, full or closed to us costs time and no answer: what it does not have is encoded. It is told once,
and asked again after a while. Only where vectors are to be removed, it has to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pcc_pipeline.encoder.caches.entries import Aged, Entries, Form, forms, today
from pcc_pipeline.encoder.caches.unless_away import UnlessAway, reason_of
from pcc_pipeline.errors import ConfigError, FeatureError
from pcc_pipeline.sealing.keys import all_keys

if TYPE_CHECKING:
    from redis import Redis

_PLAIN, _SEALED = b"pcc:vectors:", b"pcc:sealed-vectors:"
_DAY = b"day"
_NAMES_A_ROUND = 500
# Options of redis-py's connections that no text of an address can be, and that fail at first use alone.
_OBJECTS = (
    "retry",
    "retry_on_error",
    "socket_type",
    "socket_keepalive_options",
    "event_dispatcher",
    "redis_connect_func",
    "credential_provider",
    "command_packer",
)
_SECONDS_TO_CONNECT, _SECONDS_TO_ANSWER = 3.0, 10.0

Item = TypeVar("Item")


class RedisCaches:
    """The caches of a Redis.

    Args:
        address: `redis://…`, `rediss://…` or `unix://…`, with user and password where it asks for them.
        where: the address as a person may read it.

    Raises:
        ConfigError: the extra `redis` is not installed, or the address is none.
    """

    def __init__(self, address: str, where: str) -> None:
        try:
            from redis import Redis, RedisError
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ModuleNotFoundError as error:
            raise ConfigError(
                "preprocessing.cache needs the extra redis",
                where=where,
                fix="pip install -c constraints.txt -e '.[redis]'",
            ) from error
        try:
            self._client = Redis.from_url(
                address,
                socket_connect_timeout=_SECONDS_TO_CONNECT,
                socket_timeout=_SECONDS_TO_ANSWER,
                # Once, for a connection that the server closed because it was idle.
                retry=Retry(NoBackoff(), 1),
            )
            # The address's options win over ours, and would go unchecked up to the first connection.
            pool = self._client.connection_pool
            pool.connection_kwargs |= {"decode_responses": False, "encoding": "utf-8", "encoding_errors": "strict"}
            if any(isinstance(pool.connection_kwargs.get(name), str | list) for name in _OBJECTS):
                raise TypeError
            pool.connection_class(**pool.connection_kwargs)  # connects with nobody
        except (TypeError, ValueError, AttributeError, RedisError) as error:
            raise ConfigError(
                # The library's words may hold what is secret in it.
                "the address of the shared cache is none, or has an option that Redis' library does not take",
                where=f"preprocessing.cache: {where}",
                fix="write redis://user:password@host:6379/0, with %2F for a / in the password, and leave options out "
                "that are not redis-py's",
            ) from error
        self._address, self._where = address, where

    def open(self, space: str, width: int, *, sealed: bool) -> RedisCache:
        """As `CachePlace`."""
        from redis import RedisError, ResponseError

        unless_away = UnlessAway(self._where, self._address, RedisError, lambda error: isinstance(error, ResponseError))
        entries = Entries(width, self._where, sealed=sealed)
        return RedisCache(self._client, unless_away, entries, space, _SEALED if sealed else _PLAIN)

    def count(self, keys: Collection[bytes]) -> int:
        """As `CachePlace`."""
        with self._demanded():
            return sum(len(fields) for _, fields in self._vectors(self._names_of(keys)))

    def forget(self, keys: Collection[bytes] | None) -> int:
        """As `CachePlace`."""
        with self._demanded():
            return self._removed(self._all_names() if keys is None else self._names_of(keys)).vectors

    def aged(self, before: date) -> list[Aged]:
        """As `CachePlace`; a text is as old as the first of its vectors."""
        with self._demanded():
            return self._unless_none(self._weighed(self._old_names(before)))

    def forget_aged(self, before: date) -> list[Aged]:
        """As `CachePlace`."""
        with self._demanded():
            return self._unless_none(self._removed(self._old_names(before)))

    def _unless_none(self, amount: Aged) -> list[Aged]:
        return [amount] if amount.vectors else []

    def _names_of(self, keys: Collection[bytes]) -> Iterator[bytes]:
        yield from (_PLAIN + key for key in keys)
        if keys and (all_keys() or any(True for _ in self._client.scan_iter(_SEALED + b"*", count=1000))):
            yield from (_SEALED + form.name(key) for form in forms(sealed=True) for key in keys)

    def _all_names(self) -> Iterator[bytes]:
        for prefix in (_PLAIN, _SEALED):
            # One may come twice.
            yield from self._client.scan_iter(prefix + b"*", count=1000)

    def _old_names(self, before: date) -> Iterator[bytes]:
        for some in _slices(self._all_names()):
            days = self._answers(some, lambda round_, name: round_.hget(name, _DAY))
            # Without a day is what was put by halves.
            yield from (name for name, day in zip(some, days, strict=True) if int(day or 0) < before.toordinal())

    def _vectors(self, names: Iterator[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
        """Name and fields of those of the names that are there."""
        for some in _slices(names):
            for name, fields in zip(some, self._answers(some, lambda round_, name: round_.hkeys(name)), strict=True):
                if fields:
                    yield name, [field for field in fields if field != _DAY]

    def _weighed(self, names: Iterator[bytes]) -> Aged:
        vectors = size = 0
        for some in _slices(self._vectors(names)):
            vectors += sum(len(fields) for _, fields in some)
            size += sum(taken or 0 for taken in self._answers(some, lambda round_, one: round_.memory_usage(one[0])))
        return Aged(self._where, vectors, size)

    def _removed(self, names: Iterator[bytes]) -> Aged:
        vectors = size = 0
        for some in _slices(names):
            weighed = self._weighed(iter(some))
            vectors, size = vectors + weighed.vectors, size + weighed.size
            self._client.unlink(*some)
        return Aged(self._where, vectors, size)

    def _answers(self, items: Sequence[Item], ask: Callable[[Any, Item], object]) -> list[Any]:
        with self._client.pipeline(transaction=False) as round_:
            for item in items:
                ask(round_, item)
            return _executed(round_)

    @contextmanager
    def _demanded(self) -> Iterator[None]:
        from redis import RedisError

        try:
            yield
        except RedisError as error:
            raise FeatureError(
                f"the shared cache of vectors cannot be used: {reason_of(error, self._address)}",
                where=f"preprocessing.cache: {self._where}",
                fix="start it, or mend the address, and do this again",
            ) from error


class RedisCache(AbstractContextManager["RedisCache"]):
    """The vectors of one encoder in a Redis; `space` names what computed them, `prefix` begins their names."""

    def __init__(self, client: Redis, unless_away: UnlessAway, entries: Entries, space: str, prefix: bytes) -> None:
        self._client, self._unless_away, self._entries = client, unless_away, entries
        self._space, self._prefix = space.encode(), prefix

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there, by key; a damaged entry counts as absent."""
        stored: list[tuple[Form, bytes, bytes, object]] = []

        def look() -> None:
            left = set(keys)
            for form in self._entries.forms:
                for some in _slices((form.name(key), key) for key in left):
                    with self._client.pipeline(transaction=False) as round_:
                        for name, _ in some:
                            round_.hget(self._prefix + name, self._space)
                        blobs = _executed(round_)
                    stored.extend(
                        (form, key, name, blob)
                        for (name, key), blob in zip(some, blobs, strict=True)
                        if blob is not None
                    )
                left -= {key for _, key, _, _ in stored}

        self._unless_away.do(look, "reading")
        return self._entries.vectors(stored)

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep `vectors` (len(keys), width), if there is room."""

        def keep() -> None:
            for some in _slices(self._entries.of(keys, vectors)):
                with self._client.pipeline(transaction=False) as round_:
                    for name, entry in some:
                        round_.hset(self._prefix + name, self._space, entry)
                        round_.hsetnx(self._prefix + name, _DAY, str(today()))
                    _executed(round_)

        self._unless_away.do(keep, "writing")


def _executed(round_: Any) -> list[Any]:
    """What the commands of a round trip give.

    Raises:
        ResponseError: what the server says to the first that it refused. As the library words it by itself, the command
            stands in it, key and vector.
    """
    answers: list[Any] = round_.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _slices(items: Iterator[Item] | Sequence[Item]) -> Iterator[list[Item]]:
    """Lists of as many as go into one round trip."""
    some: list[Item] = []
    for item in items:
        some.append(item)
        if len(some) == _NAMES_A_ROUND:
            yield some
            some = []
    if some:
        yield some
