"""The encoder by OpenVINO on the processor, in the precision that it is fastest in.

The graph is built from the folder's weights: neither torch nor transformers is loaded, and nothing is converted. Texts
of one token count go through together. So nothing is padded, and a text's vector does not depend on its neighbours.
"""

from __future__ import annotations

import locale
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from pcc_pipeline.encoder.bert_folder import BertFolder, bert_folder
from pcc_pipeline.encoder.token_batches import Positions, token_batches
from pcc_pipeline.imports import import_without

# A pass is that of `batch_size` texts of this many tokens; messages have about half of it, and the longest eight times.
_TOKENS_PER_TEXT = 32
# Code made for a shape is kept for later passes: 200 pieces serve as well as the 5,000 of the default, which add some
# hundred MB over texts of all lengths.
_OPTIONS = {"PERFORMANCE_HINT": "THROUGHPUT", "CPU_RUNTIME_CACHE_CAPACITY": "200"}
_PRECISIONS = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


class OpenVinoBackend:
    """A BERT with mean pooling.

    Args:
        folder: one in which `bert_folder.unknown_part` finds nothing.
        batch_size: work per forward pass, in texts of 32 tokens.
        threads: how many compute; None is one for each core.
    """

    # While one call's last passes leave cores idle, another's fill them.
    at_once = 2

    def __init__(self, folder: Path, batch_size: int, threads: int | None = None) -> None:
        # `import openvino` alone would report the import over the network.
        openvino = import_without("openvino", "openvino_telemetry")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer

        parts = bert_folder(folder)
        # A fast tokenizer fails if two threads use it at once.
        self._tokenizing = threading.Lock()
        self._tokenizer = Tokenizer.from_file(str(parts.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(parts.max_tokens)
        options = _OPTIONS if threads is None else {**_OPTIONS, "INFERENCE_NUM_THREADS": str(threads)}
        with _plain_letters():
            self._model = openvino.Core().compile_model(_graph(parts), "CPU", options)
            self._queues: SimpleQueue[Any] = SimpleQueue()
            for _ in range(self.at_once):
                self._queues.put(openvino.AsyncInferQueue(self._model))
            # The plugin's own choice: bfloat16 where the processor has it, half precision on ARM, else float32.
            precision = self._model.get_property("INFERENCE_PRECISION_HINT").to_string()
        self._budget = batch_size * _TOKENS_PER_TEXT
        self.name = f"openvino-{_PRECISIONS.get(precision, precision)}"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        with self._tokenizing:
            encoded = self._tokenizer.encode_batch_fast([text.strip() for text in texts])
        tokens = [encoding.ids for encoding in encoded]
        vectors = np.empty((len(texts), self._model.output(0).partial_shape[1].get_length()), dtype=np.float32)

        def keep(request: Any, positions: Positions) -> None:
            vectors[positions] = request.get_output_tensor(0).data

        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        passes = self._queues.get()
        try:
            passes.set_callback(keep)
            for positions in token_batches(lengths, self._budget, equal=True):
                ids = np.array([tokens[position] for position in positions], dtype=np.int32)
                passes.start_async({0: ids}, positions)
        finally:
            passes.wait_all()
            self._queues.put(passes)
        return vectors


@contextmanager
def _plain_letters() -> Iterator[None]:
    """The C library's upper and lower case as in English meanwhile, in the whole process.

    OpenVINO 2026.4 compares names by it (`EnumNames::as_enum`), and in Turkish "INSIDE" has another "i" than "inside".
    """
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _graph(parts: BertFolder) -> Any:
    """Token ids int32 (batch, length), without padding, to unit vectors (batch, width).

    Devlin et al. 2019, with the layer norms after the residual sums, as in transformers' BertModel.
    """
    import openvino
    from openvino import opset13 as op
    from safetensors import safe_open

    with safe_open(str(parts.weights), framework="numpy") as weights:

        def plain(values: Any, kind: type = np.int64) -> Any:
            return op.constant(np.asarray(values, dtype=kind))

        def table(name: str) -> Any:
            return weights.get_tensor(name)

        def linear(x: Any, name: str) -> Any:
            weighted = op.matmul(x, op.constant(table(f"{name}.weight")), False, True)
            return op.add(weighted, op.constant(table(f"{name}.bias")))

        def normed(x: Any, name: str) -> Any:
            centred = op.mvn(x, plain([-1]), True, parts.epsilon, "inside_sqrt")
            scaled = op.multiply(centred, op.constant(table(f"{name}.weight")))
            return op.add(scaled, op.constant(table(f"{name}.bias")))

        ids = op.parameter([-1, -1], np.int32, "ids")
        words = table("embeddings.word_embeddings.weight")
        width = words.shape[1]
        # One text each, so all tokens are of type 0.
        places = table("embeddings.position_embeddings.weight") + table("embeddings.token_type_embeddings.weight")[0]
        length = op.gather(op.shape_of(ids), plain([1]), plain(0))
        there = op.slice(op.constant(places), plain([0]), length, plain([1]), plain([0]))
        x = normed(op.add(op.gather(op.constant(words), ids, plain(0)), there), "embeddings.LayerNorm")
        per_head = width // parts.heads

        def split(x: Any, order: Sequence[int]) -> Any:
            return op.transpose(op.reshape(x, plain([0, 0, parts.heads, per_head]), True), plain(order))

        for layer in range(parts.layers):
            name = f"encoder.layer.{layer}"
            attention = f"{name}.attention"
            query = split(linear(x, f"{attention}.self.query"), [0, 2, 1, 3])
            key = split(linear(x, f"{attention}.self.key"), [0, 2, 1, 3])
            value = split(linear(x, f"{attention}.self.value"), [0, 2, 1, 3])
            scores = op.matmul(op.multiply(query, plain(per_head**-0.5, np.float32)), key, False, True)
            mixed = op.matmul(op.softmax(scores, -1), value, False, False)
            joined = op.reshape(op.transpose(mixed, plain([0, 2, 1, 3])), plain([0, 0, width]), True)
            x = normed(op.add(linear(joined, f"{attention}.output.dense"), x), f"{attention}.output.LayerNorm")
            hidden = op.gelu(linear(x, f"{name}.intermediate.dense"), "erf")
            x = normed(op.add(linear(hidden, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")
        unit = op.normalize_l2(op.reduce_mean(x, plain([1])), plain([1]), 1e-12, "max")
    return openvino.Model([op.result(unit)], [ids])
