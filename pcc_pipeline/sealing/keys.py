"""The keys that seal and open, which follow from others: HKDF (RFC 5869), with a label for each use.

Where keys come from is said once a process, before anything is read (`use`): who reads a file need not know whether it
is sealed. They are asked for when a sealed file is met, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pcc_pipeline.errors import ConfigError, DataError

_BYTES = 32


@dataclass(frozen=True)
class SealKey:
    """One key; its `id` stands open in what it sealed, and tells nothing of it."""

    id: str
    secret: bytes

    def derived(self, use: str, salt: bytes = b"") -> bytes:
        """32 bytes for one use, from which neither this key nor those of other uses follow."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), _BYTES, salt, f"pcc_pipeline {use}".encode()).derive(self.secret)


class SealedError(DataError):
    """A sealed file cannot be opened: its key is not here, or it is not as it was sealed."""


_keys: Callable[[], Sequence[SealKey]] = tuple


def use(keys: Callable[[], Sequence[SealKey]]) -> None:
    """Where the keys come from, from now on; newest first."""
    global _keys
    _keys = keys


def all_keys() -> Sequence[SealKey]:
    """All that are here, newest first.

    Raises:
        ConfigError: they cannot be read.
    """
    return _keys()


def writing_key() -> SealKey:
    """The key that seals.

    Raises:
        ConfigError: there is none, or they cannot be read.
    """
    keys = all_keys()
    if not keys:
        raise ConfigError(
            "there is no key to encrypt with",
            where="output.encryption: key",
            fix="pcc lineage key makes one; or bring one as PCC_LINEAGE_KEY or lineage.key_file",
        )
    return keys[0]


def key_of(ident: str, where: str) -> SealKey:
    """The key that sealed a file.

    Raises:
        SealedError: it is not here.
        ConfigError: the keys cannot be read.
    """
    key = next((key for key in all_keys() if key.id == ident), None)
    if key is None:
        raise SealedError(
            f"it is encrypted by the key {ident}, which is not here",
            where=where,
            fix="bring that key, as PCC_LINEAGE_KEY or in lineage.key_file",
        )
    return key


def altered(where: str) -> SealedError:
    """What to raise where a tag is wrong."""
    return SealedError(
        "it was changed or cut off after it was encrypted",
        where=where,
        fix="find out who changed it; make it again, or take it from a backup",
    )
