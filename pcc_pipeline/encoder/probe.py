"""A few texts that show whether a backend computes what float32 computes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcc_pipeline.files import replacing

logger = logging.getLogger(__name__)

LOWEST_COSINE = 0.999
# Of all lengths from none to beyond what the encoder reads; other alphabets, signs, broken words, numbers.
TEXTS = (
    "",
    "?",
    "stop",
    "Please delete my account.",
    "I want a copy of all personal data that you hold about me, under article 15 of the GDPR.",
    "UNSUBSCRIBE!!! me from ur newsletr asap, 3rd time i ask u :(((",
    "Where is my parcel 4711-0815? It was due on 2025-03-14, 17:30.",
    "Bitte löschen Sie mein Konto und alle Daten, die Sie über mich gespeichert haben.",
    "Je ne souhaite plus recevoir vos courriels ; retirez-moi de la liste, s'il vous plaît.",
    "请删除我的账户。 アカウントを削除してください。 احذف حسابي",
    "\U0001f600\U0001f64f — “quoted”, naïve\tand\nbroken\x00 ​ lines  ",
    '<p>Dear Sir or Madam,</p> {\'id\': 17, "path": "C:\\\\tmp"} https://example.org/a?b=c&d=e#f',
    "do not sell my information " * 12,
    "My order came late, the box was open, and nobody answers the phone. What do you do with my address now? " * 20,
    "x" * 2000,
)


def lowest_cosine(vectors: np.ndarray, expected: np.ndarray) -> float:
    """The smallest cosine over the rows of two (n, width) tables; -1 where shapes differ or a number is not finite."""
    if vectors.shape != expected.shape or not np.isfinite(vectors).all():
        return -1.0
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return float(np.min((vectors * expected).sum(axis=1) / np.maximum(norms, 1e-12)))


def file_name(digest: str) -> str:
    """Of the file with the vectors of TEXTS by the encoder of this digest; changes with the texts."""
    return f"probe-{digest[:16]}-{hashlib.sha256(repr(TEXTS).encode()).hexdigest()[:8]}.npy"


def shipped_file(digest: str) -> Path:
    """Where the package keeps the bundled encoder's; made by `numpy.save(file, TorchBackend(...).encode(TEXTS))`."""
    return Path(__file__).parent / file_name(digest)


def reference(digest: str, cache_dir: Path | None, compute: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """The vectors of TEXTS in float32: shipped, kept from before, or computed now and kept."""
    kept = None if cache_dir is None else cache_dir / file_name(digest)
    for file in (shipped_file(digest), kept):
        if file is not None and file.is_file() and (stored := _read(file)) is not None:
            return stored
    vectors = compute(TEXTS)
    if kept is not None:
        _write(kept, vectors)
    return vectors


def _read(file: Path) -> np.ndarray | None:
    try:
        vectors: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        logger.info("the probe's vectors in %s cannot be read and are computed anew: %s", file, error)
        return None
    return vectors if vectors.ndim == 2 and len(vectors) == len(TEXTS) else None


def _write(file: Path, vectors: np.ndarray) -> None:
    try:
        with replacing(file) as partial, partial.open("wb") as opened:
            np.save(opened, vectors)
    except OSError as error:
        # They are only computed again next time; a folder that cannot be written is told by the cache itself.
        logger.warning("the probe's vectors cannot be kept in %s: %s", file.parent, error)
