"""A sentence-transformers folder read without sentence-transformers, where it is of the one kind that is known here.

That is a BERT, mean pooling, vectors of unit length.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WEIGHTS, _TOKENIZER = "model.safetensors", "tokenizer.json"


@dataclass(frozen=True)
class BertFolder:
    """What is needed to build the encoder's graph; sizes are in the weights."""

    weights: Path
    tokenizer: Path
    layers: int
    heads: int
    epsilon: float
    max_tokens: int


def unknown_part(folder: Path) -> str | None:
    """What in the folder is not of the known kind; None where all is."""
    try:
        _read(folder)
    except _UnknownPartError as error:
        return str(error)
    return None


def bert_folder(folder: Path) -> BertFolder:
    """The folder's parts, once `unknown_part` has found nothing.

    Raises:
        ValueError: it is not of the known kind.
    """
    return _read(folder)


class _UnknownPartError(ValueError):
    pass


def _read(folder: Path) -> BertFolder:
    modules = [str(module.get("type")).rpartition(".")[2] for module in _json(folder, "modules.json")]
    if modules not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise _UnknownPartError(f"the encoder consists of {', '.join(modules)}")
    paths = [str(module.get("path", "")) for module in _json(folder, "modules.json")]
    pooling = _json(folder / paths[1], "config.json")
    modes = {name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True}
    if modes != {"pooling_mode_mean_tokens"} and pooling.get("pooling_mode") != "mean":
        raise _UnknownPartError("the encoder pools otherwise than by the mean of all tokens")
    root = folder / paths[0]
    config, limits = _json(root, "config.json"), _json(root, "sentence_bert_config.json")
    needed = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
    for name, value in needed.items():
        if config.get(name, value if name != "model_type" else None) != value:
            raise _UnknownPartError(f"the encoder's {name} is {config.get(name)!r} and not {value!r}")
    if (folder / "config_sentence_transformers.json").is_file():
        prompts = _json(folder, "config_sentence_transformers.json")
        if prompts.get("default_prompt_name"):
            raise _UnknownPartError("the encoder puts a prompt before each text")
    if limits.get("do_lower_case"):
        raise _UnknownPartError("the encoder lowers the case before its tokenizer")
    longest = limits.get("max_seq_length")
    if not isinstance(longest, int) or not 2 < longest <= int(config["max_position_embeddings"]):
        raise _UnknownPartError("the encoder's max_seq_length is not told")
    if not (root / _TOKENIZER).is_file():
        raise _UnknownPartError(f"the encoder has no {_TOKENIZER}")
    _check_weights(root / _WEIGHTS)
    return BertFolder(
        root / _WEIGHTS,
        root / _TOKENIZER,
        int(config["num_hidden_layers"]),
        int(config["num_attention_heads"]),
        float(config["layer_norm_eps"]),
        longest,
    )


def _json(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _UnknownPartError(f"the encoder has no readable {name}") from error


def _check_weights(path: Path) -> None:
    # A safetensors file starts with the size of its JSON header, 8 bytes little-endian.
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    except (OSError, ValueError, struct.error, MemoryError) as error:
        raise _UnknownPartError(f"the encoder has no readable {_WEIGHTS}") from error
    words = header.get("embeddings.word_embeddings.weight")
    if words is None or words.get("dtype") != "F32":
        raise _UnknownPartError("the encoder's weights are not a BERT's in float32")
