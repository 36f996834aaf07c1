"""The keys by which manifests name cases and persons: of the environment, or of a file for its owner alone.

A manifest holds HMAC-SHA-256 (RFC 2104), cut to 128 bits, of case ids and subjects. Who has a message or a name can
make a plain hash of it and look whether it was there; who has no key cannot. A new key writes from then on, and the
earlier ones go on reading what they wrote.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pcc_pipeline.errors import ConfigError
from pcc_pipeline.files import write_durably
from pcc_pipeline.sealing import keys as sealing

VARIABLE = "PCC_LINEAGE_KEY"
# Bytes of a hash. At 10^12 rows two of them are equal by chance with a probability of 10^-15.
WIDTH = 16
_KEY_BYTES = 32
# What SHA-256 takes at a time.
_BLOCK = 64
_HEAD = "# keys of pcc_pipeline's lineage, newest first: who has them can tell who stood in a run's rows; keep a copy\n"

Kind = Literal["case", "subject"]


@dataclass(frozen=True)
class Key:
    """One key; its `id` stands with what it wrote, and tells nothing of it."""

    secret: bytes

    @property
    def id(self) -> str:
        return hashlib.sha256(b"id of a lineage key\0" + self.secret).hexdigest()[:8]

    def hashes(self, kind: Kind, values: Iterable[str | None]) -> bytes:
        """`WIDTH` bytes a value, in order; of None, zeros. A case and a subject of one name have different hashes."""
        digest, prefix = _hmac_sha256(self.secret), f"{kind}\0".encode()
        nobody = bytes(WIDTH)
        return b"".join(
            nobody if value is None else digest(prefix + value.encode("utf-8", "surrogatepass"))[:WIDTH]
            for value in values
        )


def _hmac_sha256(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA256 by one key (RFC 2104), of which the two blocks that hold the key are hashed once.

    `hmac.digest` takes two and a half times as long for a short message.
    """
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(message: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(message)
        second.update(first.digest())
        return second.digest()

    return digest


@dataclass(frozen=True)
class Keys:
    """All keys that there are, newest first."""

    all: tuple[Key, ...] = ()

    @property
    def writing(self) -> Key | None:
        """The key of new manifests; None where there is none."""
        return self.all[0] if self.all else None

    def by_id(self, ident: str) -> Key | None:
        """The key that wrote; None where it is not here."""
        return next((key for key in self.all if key.id == ident), None)


def read_keys(file: Path, environment: Mapping[str, str]) -> Keys:
    """The keys of the environment, then those of the file; none where neither is there.

    Raises:
        ConfigError: a key is not 64 hexadecimal digits; or others may read the file.
    """
    keys = _parsed(environment.get(VARIABLE, "").split(), VARIABLE)
    try:
        text, mode = file.read_text(encoding="ascii"), file.stat().st_mode
    except FileNotFoundError:
        return Keys(tuple(keys))
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it holds no keys"
        raise ConfigError(f"the keys of lineage cannot be read: {what}", where=str(file), fix=_fix(file)) from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            "others may read the keys of lineage", where=str(file), fix=f"chmod 600 {file}, and ask who has read it"
        )
    words = [line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return Keys(tuple(dict.fromkeys([*keys, *_parsed(words, str(file))])))


def use_keys(file: Path) -> None:
    """Let the keys of the environment and this file seal and open files, from now on; they are read when one is met."""
    place = file.absolute()
    sealing.use(lambda: [sealing.SealKey(key.id, key.secret) for key in read_keys(place, os.environ).all])


def add_key(file: Path, *, now: datetime | None = None) -> Key:
    """A new key, which writes from now on; the earlier ones stay in the file.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    earlier = read_keys(file, {})
    key, made = Key(secrets.token_bytes(_KEY_BYTES)), (now or datetime.now(UTC)).isoformat(timespec="seconds")
    lines = file.read_text(encoding="ascii").removeprefix(_HEAD) if earlier.all else ""
    try:
        write_durably(file, f"{_HEAD}{key.secret.hex()} {made}\n{lines}")
    except OSError as error:
        raise ConfigError(
            f"the key of lineage cannot be written: {error.strerror}", where=str(file), fix="set lineage.key_file"
        ) from error
    return key


def _parsed(words: Iterable[str], where: str) -> list[Key]:
    keys = []
    for place, word in enumerate(words, start=1):
        try:
            secret = bytes.fromhex(word)
        except ValueError:
            secret = b""
        if len(secret) != _KEY_BYTES:
            raise ConfigError(
                f"key {place} is not {2 * _KEY_BYTES} hexadecimal digits", where=where, fix="pcc lineage key makes one"
            )
        keys.append(Key(secret))
    return keys


def _fix(file: Path) -> str:
    return f"mend the permissions of {file}, or set lineage.key_file"
