"""Tokens of many texts, made by several threads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.torch_backend import GpuBackend, TorchBackend, _Tokenizer

TEXTS = [*sample(300)["text"], "my order is late " * 100, "", "  padded  "]


@pytest.fixture(scope="module")
def reference() -> TorchBackend:
    return TorchBackend(SentenceEncoder().folder, 32)


@pytest.mark.parametrize("threads", [1, 4])
def test_tokens_are_those_of_the_encoders_own_tokenizer(reference: TorchBackend, threads: int) -> None:
    own = reference._model.tokenizer
    expected = own(TEXTS, truncation=True, max_length=256)["input_ids"]
    assert _Tokenizer(own, 256, threads).tokens(TEXTS) == expected
    # One that runs in Python throughout has no faster part.
    slow = SimpleNamespace(pad_token_id=own.pad_token_id)
    tokenizer = _Tokenizer(slow, 256, threads)
    tokenizer._slow = own
    assert tokenizer.tokens(TEXTS) == expected


@pytest.mark.long
def test_passes_of_many_texts_give_the_vectors_of_float32(reference: TorchBackend) -> None:
    """Several passes of several lengths, padded, as a GPU has them."""
    backend = GpuBackend(SentenceEncoder().folder, 1, threads=2, device="cpu")
    assert abs(backend.encode(TEXTS) - reference.encode(TEXTS)).max() < 2e-6
