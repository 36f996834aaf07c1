"""Many small values under names, such as the vectors of a cache: both sealed, and a value bound to its name."""

from __future__ import annotations

import hmac
import os
from functools import cached_property
from typing import Any

from pcc_pipeline.sealing.keys import SealKey

_NONCE = 12


class ValueSeal:
    """Seals names and values for one use, by one key.

    Two values of one name, or of two, need no more than 2^32 random nonces a key to stay apart with a probability of
    1 - 2^-32 (NIST SP 800-38D, 8.3): vectors of four thousand million texts.
    """

    def __init__(self, key: SealKey, use: str) -> None:
        self._key, self._use = key, use

    @cached_property
    def _names(self) -> bytes:
        return self._key.derived(f"{self._use} names 1")

    @cached_property
    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key.derived(f"{self._use} values 1"))

    def name(self, name: bytes) -> bytes:
        """32 bytes that stand for a name: nobody without the key can tell whether it is there."""
        return hmac.digest(self._names, name, "sha256")

    def seal(self, name: bytes, value: bytes) -> bytes:
        """A value, bound to a name of `name`."""
        nonce = os.urandom(_NONCE)
        sealed: bytes = self._cipher.encrypt(nonce, value, name)
        return nonce + sealed

    def opened(self, name: bytes, sealed: bytes) -> bytes | None:
        """The value; None where it was changed, or sealed by another key."""
        from cryptography.exceptions import InvalidTag

        try:
            value: bytes = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name)
        except (InvalidTag, ValueError):
            return None
        return value
