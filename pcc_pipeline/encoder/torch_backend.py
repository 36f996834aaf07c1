"""The encoder by torch: sentence-transformers as it is, and 16 bits for a GPU or for a processor that has bfloat16."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcc_pipeline.encoder.choose import REFERENCE
from pcc_pipeline.encoder.token_batches import token_batches

# A pass is that of `batch_size` texts of this many tokens: on a GPU, 32 of them fill the large ones.
_TOKENS_PER_TEXT = {"cuda": 1024, "cpu": 32}


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

        self._model = _sentence_transformer(folder, "cuda" if torch.cuda.is_available() else "cpu", threads)
        self._batch_size = batch_size

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = self._model.encode(
            list(texts), batch_size=self._batch_size, show_progress_bar=False, normalize_embeddings=True
        )
        return np.asarray(vectors, dtype=np.float32)


class HalfBackend:
    """16-bit numbers in passes of bounded tokens.

    A GPU computes in float16 throughout; what goes to it goes from pinned memory, while it computes. A processor
    multiplies in bfloat16 and keeps weights and norms in float32, without which the vectors are not exact enough.

    Args:
        folder: a sentence-transformers model.
        batch_size: work per forward pass, in texts of 1,024 tokens on a GPU and of 32 on a processor.
        device: cuda or cpu.
        threads: as of TorchBackend.
    """

    at_once = 1

    def __init__(self, folder: Path, batch_size: int, device: str, threads: int | None = None) -> None:
        self._model = _sentence_transformer(folder, device, threads)
        self._on_gpu = device == "cuda"
        if self._on_gpu:
            self._model = self._model.half()
        self._budget = batch_size * _TOKENS_PER_TEXT[device]
        self.name = "torch-float16" if self._on_gpu else "torch-bfloat16"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        encode: Any = self._model.tokenizer
        tokens = encode([*texts], truncation=True, max_length=self._model.max_seq_length)["input_ids"]
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        passes: list[tuple[np.ndarray, Any]] = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=not self._on_gpu):
            # A GPU would rather have padding than many small passes; a processor pays for each token.
            for positions in token_batches(lengths, self._budget, equal=not self._on_gpu):
                features = self._padded([tokens[position] for position in positions], encode.pad_token_id)
                vectors = self._model(features)["sentence_embedding"].float()
                passes.append((positions, torch.nn.functional.normalize(vectors, dim=1)))
            # Fetched after the last pass is under way: an earlier fetch would wait for its own pass.
            table = np.empty((len(texts), passes[0][1].shape[1]), dtype=np.float32)
            for positions, vectors in passes:
                table[positions] = vectors.cpu().numpy()
        return table

    def _padded(self, tokens: list[list[int]], padding: int) -> dict[str, Any]:
        import torch

        longest = max(map(len, tokens))
        ids = torch.tensor([part + [padding] * (longest - len(part)) for part in tokens])
        mask = torch.tensor([[1] * len(part) + [0] * (longest - len(part)) for part in tokens])
        features = {"input_ids": ids, "attention_mask": mask}
        if not self._on_gpu:
            return features
        return {name: part.pin_memory().to(self._model.device, non_blocking=True) for name, part in features.items()}


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
