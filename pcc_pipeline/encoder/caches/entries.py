"""What a cache of vectors is to its users, and what its entries are wherever they stand.

A key is the SHA-256 of the text: no cache holds a text. An entry proves itself: with each vector stands a checksum of
key and vector, and what does not match it is absent. Where there is a key to seal with, vectors are sealed, and stand
under keyed hashes.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Protocol

import numpy as np

from pcc_pipeline.sealing.keys import all_keys, writing_key
from pcc_pipeline.sealing.values import ValueSeal

_CHECKSUM_BYTES = 4

logger = logging.getLogger(__name__)


def text_key(text: str) -> bytes:
    """32 bytes that stand for a text. Lone surrogates, which CSV files can hold, are kept apart."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


class VectorCache(AbstractContextManager["VectorCache"], Protocol):
    """A store of float32 vectors of one width, by `text_key`, for one encoder; open within its `with`."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there, by key; a damaged entry counts as absent."""

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep `vectors` (len(keys), width)."""


@dataclass(frozen=True)
class Aged:
    """Vectors that are older than some day.

    Attributes:
        where: the file or server, as a person may read it.
        size: in bytes.
    """

    where: str
    vectors: int
    size: int


class CachePlace(Protocol):
    """Where the caches of all encoders stand, for whoever removes vectors.

    Each method raises ConfigError where some are sealed and there is no key, and FeatureError where the place cannot be
    read or written; doing it again completes it.
    """

    def open(self, space: str, width: int, *, sealed: bool) -> VectorCache:
        """The cache of one encoder and backend.

        Args:
            space: names what computes the vectors.
            sealed: the newest key of `sealing.keys` seals what is put, and all of them open what is there.
        """

    def count(self, keys: Collection[bytes]) -> int:
        """How many vectors of these `text_key`s are there."""

    def forget(self, keys: Collection[bytes] | None) -> int:
        """Remove the vectors of these `text_key`s, or all of them; how many those were."""

    def aged(self, before: date) -> list[Aged]:
        """What was made before a day; nothing of a file that has none."""

    def forget_aged(self, before: date) -> list[Aged]:
        """Remove what was made before a day, and say what that was."""


class Form(Protocol):
    """How entries stand in a cache."""

    def name(self, name: bytes) -> bytes:
        """What the vector of a key stands under."""

    def seal(self, name: bytes, value: bytes) -> bytes:
        """A vector's bytes, as they stand there."""

    def opened(self, name: bytes, sealed: bytes) -> bytes | None:
        """The bytes again; None of what is damaged, or another name's."""


def forms(*, sealed: bool) -> Sequence[Form]:
    """Those that entries may have, that of new ones first.

    Raises:
        ConfigError: they are sealed, and there is no key.
    """
    if not sealed:
        return [_Checked()]
    writing_key()  # without any nobody could tell what is there
    return [ValueSeal(key, "vectors") for key in all_keys()]


class _Checked:
    """Vectors as they are, each with its checksum: CRC-32, which misses no error of a few bits.

    It is four times as fast here as the shortest cryptographic digest.
    """

    def name(self, name: bytes) -> bytes:
        return name

    def seal(self, name: bytes, value: bytes) -> bytes:
        return value + self._checksum(name, value)

    def opened(self, name: bytes, sealed: bytes) -> bytes | None:
        value = sealed[:-_CHECKSUM_BYTES]
        return value if self._checksum(name, value) == sealed[-_CHECKSUM_BYTES:] else None

    @staticmethod
    def _checksum(key: bytes, vector: bytes) -> bytes:
        return zlib.crc32(vector, zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES, "little")


class Entries:
    """Vectors of one width as entries of a cache, and entries as vectors; it says once where some are damaged.

    Args:
        where: the cache, as a person knows it.
    """

    def __init__(self, width: int, where: str, *, sealed: bool) -> None:
        self.forms = forms(sealed=sealed)
        self._width, self._where = width, where
        self._warned = False

    def of(self, keys: Sequence[bytes], vectors: np.ndarray) -> list[tuple[bytes, bytes]]:
        """Name and entry of each vector (len(keys), width)."""
        form = self.forms[0]
        blobs = (vector.tobytes() for vector in vectors.astype("<f4"))
        named = ((form.name(key), blob) for key, blob in zip(keys, blobs, strict=True))
        return [(name, form.seal(name, blob)) for name, blob in named]

    def vectors(self, entries: Sequence[tuple[Form, bytes, bytes, object]]) -> dict[bytes, np.ndarray]:
        """Those of entries, each with its form, key and name, that are whole, by key."""
        values = [form.opened(name, entry) if isinstance(entry, bytes) else None for form, _, name, entry in entries]
        whole = [value is not None and len(value) == 4 * self._width for value in values]
        present = [key for (_, key, _, _), good in zip(entries, whole, strict=True) if good]
        blobs = [value for value, good in zip(values, whole, strict=True) if good and value is not None]
        table = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(-1, self._width)
        finite = np.isfinite(table).all(axis=1)
        if (damaged := len(entries) - int(finite.sum())) and not self._warned:
            self._warned = True
            logger.warning(
                "%d of %d vectors in the cache %s are damaged, or were kept without a checksum by an earlier version: "
                "they are made again",
                damaged,
                len(entries),
                self._where,
            )
        return {key: vector for key, vector, good in zip(present, table, finite, strict=True) if good}


def today() -> int:
    """The number of this day, in UTC."""
    return datetime.now(UTC).date().toordinal()
