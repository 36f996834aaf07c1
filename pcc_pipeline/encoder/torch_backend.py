"""The encoder by torch: sentence-transformers as it is, and passes of bounded tokens for a GPU and for bfloat16."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pcc_pipeline.encoder.choose import REFERENCE
from pcc_pipeline.encoder.token_batches import token_batches
from pcc_pipeline.processes import available_cores

# A pass is that of `batch_size` texts of this many tokens: on a GPU, 32 of them fill the large ones.
_GPU_TOKENS, _PROCESSOR_TOKENS = 1024, 32
# Texts that one thread makes tokens of at a time: below it, handing them over costs more than it gains.
_TEXTS_PER_THREAD = 64


class TorchBackend:
    """sentence-transformers in float32: what the other backends are measured by.

    Args:
        folder: a sentence-transformers model.
        batch_size: texts per forward pass; beyond 64 the padding costs more than it gains.
        threads: how many of torch's threads compute, in the whole process; None leaves that as it is.
    """

    name, at_once = REFERENCE, 1

    def __init__(self, folder: Path, batch_size: int, threads: int | None = None) -> None:
        import torch

        self._model = _sentence_transformer(folder, _gpu() if torch.cuda.is_available() else "cpu", threads)
        self._batch_size = batch_size

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = self._model.encode(
            list(texts), batch_size=self._batch_size, show_progress_bar=False, normalize_embeddings=True
        )
        return np.asarray(vectors, dtype=np.float32)


class _InPasses:
    """A sentence-transformers model whose passes are bounded by tokens, not by texts."""

    at_once = 1

    def __init__(self, folder: Path, device: str, budget: int, threads: int | None, *, equal: bool) -> None:
        self._model = _sentence_transformer(folder, device, threads)
        self._tokenizer = _Tokenizer(self._model.tokenizer, self._model.max_seq_length, threads)
        self._device, self._budget, self._equal = device, budget, equal

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        tokens = self._tokenizer.tokens(texts)
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        passes: list[tuple[np.ndarray, Any]] = []
        with torch.inference_mode(), self._precision():
            for positions in token_batches(lengths, self._budget, equal=self._equal):
                features = self._padded([tokens[position] for position in positions], lengths[positions])
                vectors = self._model(features)["sentence_embedding"].float()
                passes.append((positions, torch.nn.functional.normalize(vectors, dim=1)))
            # Fetched after the last pass is under way: an earlier fetch would wait for its own pass.
            table = np.empty((len(texts), passes[0][1].shape[1]), dtype=np.float32)
            for positions, vectors in passes:
                table[positions] = vectors.cpu().numpy()
        return table

    def _precision(self) -> AbstractContextManager[Any]:
        raise NotImplementedError

    def _padded(self, tokens: Sequence[Sequence[int]], lengths: np.ndarray) -> dict[str, Any]:
        import torch

        there = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(there.shape, self._tokenizer.padding, dtype=np.int64)
        ids[there] = np.fromiter(chain.from_iterable(tokens), np.int64, int(lengths.sum()))
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(there.astype(np.int64))}
        if self._device == "cpu":
            return features
        # From pinned memory it goes over while the GPU computes.
        return {name: part.pin_memory().to(self._device, non_blocking=True) for name, part in features.items()}


class HalfBackend(_InPasses):
    """A processor's bfloat16: products in it, weights and norms in float32, without which it is not exact enough.

    Args:
        folder: a sentence-transformers model.
        batch_size: work per forward pass, in texts of 32 tokens.
        threads: as of TorchBackend.
    """

    name = "torch-bfloat16"

    def __init__(self, folder: Path, batch_size: int, threads: int | None = None) -> None:
        # A processor pays for each token, padding too.
        super().__init__(folder, "cpu", batch_size * _PROCESSOR_TOKENS, threads, equal=True)

    def _precision(self) -> AbstractContextManager[Any]:
        import torch

        return torch.autocast("cpu", torch.bfloat16)


class GpuBackend(_InPasses):
    """A GPU, in float32: the reference's vectors, many times faster, since it is kept busy.

    In float16 a text's vector changes by up to 3e-4 with the texts beside it, in float32 by 2e-7; and the way to the
    GPU takes as long as float32 does on it (benchmarks/RESULTS.md).

    Args:
        folder: a sentence-transformers model.
        batch_size: work per forward pass, in texts of 1,024 tokens.
        threads: how many make tokens of texts; None is one for each core.
        device: torch's name of another one than `devices.own_gpu` gives.
    """

    name = REFERENCE

    def __init__(self, folder: Path, batch_size: int, threads: int | None = None, device: str | None = None) -> None:
        # A GPU would rather have padding than many small passes.
        super().__init__(folder, device or _gpu(), batch_size * _GPU_TOKENS, threads, equal=False)

    def _precision(self) -> AbstractContextManager[Any]:
        return nullcontext()


class _Tokenizer:
    """Texts to tokens, many texts by several threads: a GPU waits for one."""

    def __init__(self, tokenizer: Any, most_tokens: int, threads: int | None) -> None:
        self._slow, self._most, self._fast = tokenizer, most_tokens, _fast_part(tokenizer, most_tokens)
        self.padding = int(tokenizer.pad_token_id or 0)
        self._threads = threads or available_cores()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="tokens")

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if self._fast is None:
            encoded = self._slow([*texts], truncation=True, max_length=self._most)["input_ids"]
            return [list(ids) for ids in encoded]
        if self._threads == 1 or len(texts) <= _TEXTS_PER_THREAD:
            return self._of(texts)
        size = max(_TEXTS_PER_THREAD, -(-len(texts) // self._threads))
        parts = (texts[start : start + size] for start in range(0, len(texts), size))
        return list(chain.from_iterable(self._pool.map(self._of, parts)))

    def _of(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._fast.encode_batch_fast([*texts])]


def _fast_part(tokenizer: Any, most_tokens: int) -> Any:
    """The part of a fast tokenizer that runs outside Python, for this alone; None of a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    own = type(backend).from_str(backend.to_str())
    own.no_padding()
    own.enable_truncation(most_tokens, direction=tokenizer.truncation_side)
    return own


def _gpu() -> str:
    from pcc_pipeline.encoder.devices import own_gpu

    return f"cuda:{own_gpu()}"


def _sentence_transformer(folder: Path, device: str, threads: int | None) -> Any:
    # Offline: a folder's model needs no hub, and a look-up there would only delay or fail the run.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)
    return SentenceTransformer(str(folder), device=device)
