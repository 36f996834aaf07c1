"""Any file, sealed in chunks of a megabyte: AES-GCM of 256 bits, written and read in bounded memory.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015): a chunk's nonce is its number and whether it is the last, so that none can be changed,
exchanged, left out or cut off unseen. Each file has a key of its own, by a salt that stands at its head.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pcc_pipeline.sealing.keys import SealKey, altered, key_of, writing_key

_MAGIC = b"PCCSEAL1"
_SALT, _TAG, _IDENT = 16, 16, 8
_HEAD = len(_MAGIC) + _IDENT + _SALT
_CHUNK = 1 << 20
_USE = "stream 1"


def is_sealed(path: Path) -> bool:
    """Whether a file is sealed, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def seal(source: Path, target: Path) -> None:
    """Write a sealed copy of a file.

    Raises:
        ConfigError: there is no key to seal with.
        OSError: it cannot be read or written.
    """
    with source.open("rb") as plain, target.open("xb") as file:
        for part in _sealed(plain, writing_key()):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def sealed(content: bytes) -> bytes:
    """A content, sealed.

    Raises:
        ConfigError: there is no key to seal with.
    """
    return b"".join(_sealed(io.BytesIO(content), writing_key()))


def unseal(source: Path, target: Path) -> None:
    """Write a plain copy of a sealed file, which is whole or not there.

    Raises:
        SealedError: its key is not here, or it was changed or cut off.
        OSError: it cannot be read or written.
    """
    with source.open("rb") as file, target.open("xb") as plain:
        try:
            for part in _opened(file, str(source)):
                plain.write(part)
        except BaseException:
            target.unlink()
            raise


def content_of(path: Path) -> bytes:
    """The plain content of a file, sealed or not.

    Raises:
        SealedError, OSError: as `unseal`.
    """
    with path.open("rb") as file:
        if not is_sealed(path):
            return file.read()
        return b"".join(_opened(file, str(path)))


def _sealed(plain: IO[bytes], key: SealKey) -> Iterator[bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = _MAGIC + key.id.encode().ljust(_IDENT) + os.urandom(_SALT)
    cipher = AESGCM(key.derived(_USE, head))
    yield head
    number, chunk = 0, plain.read(_CHUNK)
    while True:
        following = plain.read(_CHUNK)
        yield cipher.encrypt(_nonce(number, last=not following), chunk, head)
        if not following:
            return
        number, chunk = number + 1, following


def _opened(file: IO[bytes], where: str) -> Iterator[bytes]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = file.read(_HEAD)
    if len(head) < _HEAD:
        raise altered(where)
    ident = head[len(_MAGIC) : len(_MAGIC) + _IDENT].decode("ascii", "replace").strip()
    cipher = AESGCM(key_of(ident, where).derived(_USE, head))
    number, chunk = 0, file.read(_CHUNK + _TAG)
    while True:
        following = file.read(_CHUNK + _TAG)
        try:
            yield cipher.decrypt(_nonce(number, last=not following), chunk, head)
        except (InvalidTag, ValueError) as error:
            raise altered(where) from error
        if not following:
            return
        number, chunk = number + 1, following


def _nonce(number: int, *, last: bool) -> bytes:
    return struct.pack(">QI", number, int(last))
