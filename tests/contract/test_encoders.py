"""What every backend of the encoder keeps: shapes, order, unit length, and the vectors of float32."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder import probe
from pcc_pipeline.encoder.choose import REFERENCE, Backend
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.encoder.torch_backend import GpuBackend, HalfBackend, TorchBackend


def _openvino(folder: Path, batch_size: int) -> Backend:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed: pip install -c constraints.txt -e '.[openvino]'")
    from pcc_pipeline.encoder.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(folder, batch_size)


BACKENDS: dict[str, Callable[[Path, int], Backend]] = {
    "torch": TorchBackend,
    "openvino": _openvino,
    "half": HalfBackend,
    # All but the device, which is a GPU where there is one.
    "gpu": lambda folder, batch_size: GpuBackend(
        folder, batch_size, device=None if torch.cuda.is_available() else "cpu"
    ),
}
TEXTS = [
    *probe.TEXTS,
    *sample(40)["text"][:30],
    "\n",
    " padded by spaces ",
    "e\u0301 and é",
    "\u202eright to left\u202c",
    "x " * 5000,
    "\U0001f9d1\u200d\U0001f4bb" * 50,
]


@cache
def backend_of(kind: str, batch_size: int = 32) -> Backend:
    return BACKENDS[kind](SentenceEncoder().folder, batch_size)


@cache
def float32_vectors() -> np.ndarray:
    return backend_of("torch").encode(TEXTS)


# On a processor the way of a GPU, in float32, computes what torch does, in as much time; and one without units for
# bfloat16 takes minutes for what the others do in seconds.
OTHERS = ["openvino", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("gpu", "half"))]


@pytest.fixture(params=["torch", *OTHERS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_vectors_are_float32_rows_of_unit_length(kind: str) -> None:
    vectors = backend_of(kind).encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), SENTENCE_WIDTH), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=2e-3)


@pytest.mark.parametrize("kind", OTHERS, indirect=True)
def test_every_text_has_the_vector_of_float32(kind: str) -> None:
    assert probe.lowest_cosine(backend_of(kind).encode(TEXTS), float32_vectors()) >= probe.LOWEST_COSINE


def test_vectors_stand_in_the_order_of_the_texts(kind: str) -> None:
    """Whatever the order; a vector in another's row would be far from its own."""
    order = list(range(len(TEXTS)))
    random.Random(1).shuffle(order)
    vectors = backend_of(kind).encode([TEXTS[position] for position in order])
    assert probe.lowest_cosine(vectors, float32_vectors()[order]) >= probe.LOWEST_COSINE


def test_a_vector_does_not_depend_on_its_neighbours(kind: str) -> None:
    together = backend_of(kind).encode(TEXTS)
    alone = np.vstack([backend_of(kind).encode([text]) for text in TEXTS[::2]])
    small = backend_of(kind, 1).encode(TEXTS[1::2])
    np.testing.assert_allclose(alone, together[::2], atol=2e-6)
    np.testing.assert_allclose(small, together[1::2], atol=2e-6)


def test_the_same_texts_give_the_same_vectors(kind: str) -> None:
    texts = TEXTS[::3]
    np.testing.assert_array_equal(backend_of(kind).encode(texts), backend_of(kind).encode(texts))


def test_all_signs_beyond_what_the_encoder_reads_change_nothing(kind: str) -> None:
    long = "my order is late " * 100
    first, second = backend_of(kind).encode([long, long + " and something else entirely " * 50])
    np.testing.assert_allclose(first, second, atol=2e-6)


def test_its_name_says_by_what_and_how_exactly(kind: str) -> None:
    name = backend_of(kind).name
    if kind == "openvino":
        assert name in ("openvino-float32", "openvino-bfloat16", "openvino-float16")
    else:
        assert name == {"torch": REFERENCE, "gpu": REFERENCE, "half": "torch-bfloat16"}[kind]


@pytest.mark.parametrize("choice", ["auto", "torch"])
def test_threads_may_share_an_encoder(choice: str) -> None:
    encoder = SentenceEncoder(backend=choice)  # type: ignore[arg-type] # parametrize knows only str
    parts = [TEXTS[start::4] for start in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder.encode, parts))
    for start, vectors in enumerate(found):
        assert probe.lowest_cosine(vectors, float32_vectors()[start::4]) >= probe.LOWEST_COSINE
