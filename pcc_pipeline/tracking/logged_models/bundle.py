"""A trained model, and the folder of files that stands for it in the artifact store.

`classifier.skops`, `lexical.skops` (unless the model takes whole vectors), `encoder/` (unless the encoder is the
bundled one) and `manifest.json` with every file's SHA-256. The manifest's own SHA-256 is kept outside the artifact
store, so that no file there can be changed unseen. `served_model` reads it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcc_pipeline.encoder.sentence_encoder import (
    SentenceEncoder,
    bundled_folder,
    file_sha256,
    folder_digest,
)
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.full_vectors import FULL_WIDTH, full_vectors
from pcc_pipeline.imports import import_without
from pcc_pipeline.model.decision import DECIDES_ALL, DecisionRule
from pcc_pipeline.model.probabilities import class_probabilities, decided, uncalibrated
from pcc_pipeline.tracking.logged_models import served_model


@dataclass(frozen=True)
class TrainedModel:
    """What training leaves behind, and all that it takes to classify.

    Attributes:
        classifier: fitted, with `predict_proba` over vectors of 584 numbers.
        lexical: the fitted lexical half; None for a model that takes whole vectors.
        vector_width: 384 where the model completes sentence vectors (or texts), 584 where it takes whole vectors.
        encoder_digest: of the encoder that made the sentence half; empty if no encoder did.
        decision: which rows are left to a person, and which labels belong to a row's set.

    Raises:
        ModelError: the parts do not fit each other.
    """

    classifier: Any
    lexical: Any | None
    classes: tuple[str, ...]
    model_version: str
    embedding_model: str
    encoder_digest: str
    vector_width: int
    positive_label: str | None = None
    decision: DecisionRule = DECIDES_ALL

    def __post_init__(self) -> None:
        if self.vector_width not in (SENTENCE_WIDTH, FULL_WIDTH):
            raise ModelError(f"a model takes {SENTENCE_WIDTH} or {FULL_WIDTH} numbers, not {self.vector_width}")
        if (self.lexical is None) != (self.vector_width == FULL_WIDTH):
            raise ModelError(
                f"a model for vectors of {SENTENCE_WIDTH} numbers needs a lexical half, one for {FULL_WIDTH} has none"
            )
        if unknown := {str(label) for label in self.classifier.classes_} - set(self.classes):
            raise ModelError(f"the classifier gives {len(unknown)} labels that are not among the model's classes")

    def probabilities(self, vectors: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Probabilities float64 (n, K), columns in the order of `classes`.

        Args:
            vectors: (n, 384) sentence halves, or (n, 584), used as they are.
            texts: the n texts; unused for whole vectors.

        Raises:
            FeatureError: the vectors have another width than this model can take.
        """
        return class_probabilities(self.classifier, self.classes, full_vectors(vectors, self.lexical, texts))

    def both_probabilities(self, vectors: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The same, and what they are without the model's calibrators."""
        whole = full_vectors(vectors, self.lexical, texts)
        answered = class_probabilities(self.classifier, self.classes, whole)
        plain = uncalibrated(self.classifier)
        return answered, answered if plain is self.classifier else class_probabilities(plain, self.classes, whole)


def write_bundle(model: TrainedModel, encoder_folder: Path | None, folder: Path) -> str:
    """Write a model's files into the empty `folder`; returns the SHA-256 of the manifest.

    Args:
        encoder_folder: where the encoder's files lie; None, or the bundled encoder's own folder, copies nothing.

    Raises:
        ModelError: the encoder is not the one of the training, or the model's types could not be read back.
    """
    _dump(model.classifier, folder / served_model.CLASSIFIER)
    if model.lexical is not None:
        _dump(model.lexical, folder / served_model.LEXICAL)
        _copy_encoder(model, encoder_folder, folder / served_model.ENCODER)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        # A reader that knows nothing of rules must not decide what the model leaves to a person.
        "format": served_model.FORMATS[model.decision.abstains],
        "model_version": model.model_version,
        "embedding_model": model.embedding_model,
        "encoder_digest": model.encoder_digest,
        "classes": list(model.classes),
        "positive_label": model.positive_label,
        "vector_width_in": model.vector_width,
        "decision": model.decision.document(),
        "files": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
    }
    written = (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
    (folder / served_model.MANIFEST).write_bytes(written)
    return hashlib.sha256(written).hexdigest()


def open_bundle(folder: Path, manifest_digest: str | None, where: str) -> TrainedModel:
    """The model in a bundle, once every digest is right.

    Raises:
        ModelError: the bundle is incomplete or was altered; the message names `where` it came from.
    """
    _import_skops()
    try:
        bundle = served_model.read_bundle(folder, manifest_digest)
    except served_model.BundleError as error:
        raise ModelError(
            str(error), where=where, fix="do not use this model: find out who changed it, and train or log it anew"
        ) from error
    manifest = bundle.manifest
    return TrainedModel(
        # A model of an earlier release may have been logged before it was made to decide every row.
        classifier=decided(bundle.classifier),
        lexical=bundle.lexical,
        classes=tuple(manifest["classes"]),
        model_version=manifest["model_version"],
        embedding_model=manifest["embedding_model"],
        encoder_digest=manifest["encoder_digest"],
        vector_width=manifest["vector_width_in"],
        positive_label=manifest["positive_label"],
        decision=DecisionRule.of(manifest.get("decision", {})),
    )


def _import_skops() -> Any:
    """Import skops without what modules of scikit-learn that it looks through bring along for nothing.

    Torch is 190 MB and seconds; Dask's arrays and pytest, where those are installed, half a second.
    """
    import sklearn.base  # noqa: F401 # first: SciPy asks for torch while it is imported, and stumbles over a hidden one

    return import_without("skops.io", "torch", "dask", "pytest")


def _dump(part: Any, path: Path) -> None:
    skops_io = _import_skops()
    path.write_bytes(_same_bytes(skops_io.dumps(part)))
    # Found now, at training, and not by whoever wants to serve the model.
    if unknown := set(skops_io.get_untrusted_types(file=path)) - set(served_model.TRUSTED_TYPES):
        raise ModelError(
            f"the model holds types that the reader does not trust: {', '.join(sorted(unknown))}",
            where=path.name,
            fix="use a model type of pcc_pipeline, or add reviewed types to TRUSTED_TYPES in tracking/served_model.py",
        )


def _same_bytes(written: bytes) -> bytes:
    """The same skops file with nothing in it of the process that wrote it.

    skops 0.16 names objects and files by their addresses in memory, and a zip file dates its members: here both count
    from 1 in the schema's order. What a number, text or truth is shared with says nothing of the model, so these get no
    name. The padding inside records (a tree's nodes) is memory that nobody wrote, and becomes zeros.
    """
    names: dict[str, str] = {}
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(written)) as old, zipfile.ZipFile(content, "w") as new:
        schema = json.loads(old.read("schema.json"))
        _renumber(schema, {}, names)
        parts = {name: _without_padding(old.read(was)) for was, name in names.items()}
        for name, data in {"schema.json": json.dumps(schema, indent=2).encode(), **parts}.items():
            # Uncompressed, a forest takes several times the room; the highest levels take twice the time for a sixth.
            new.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, compresslevel=1)
    return content.getvalue()


def _renumber(node: Any, ids: dict[int, int], names: dict[str, str]) -> None:
    """Give the schema's objects and files new names, in place; `names` are filled with old and new of the files."""
    if isinstance(node, dict):
        if node.get("__loader__") == "JsonNode":
            node.pop("__id__", None)
        elif "__id__" in node:
            node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
        if "__loader__" in node and isinstance(node.get("file"), str):
            node["file"] = names.setdefault(node["file"], f"{len(names) + 1}{Path(node['file']).suffix}")
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _renumber(inner, ids, names)


def _without_padding(data: bytes) -> bytes:
    if not data.startswith(b"\x93NUMPY"):
        return data
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if not values.dtype.names:
        return data
    clean, written = np.zeros(values.shape, dtype=values.dtype), io.BytesIO()
    for name in values.dtype.names:
        clean[name] = values[name]
    np.save(written, clean, allow_pickle=False)
    return written.getvalue()


def _copy_encoder(model: TrainedModel, encoder_folder: Path | None, target: Path) -> None:
    digest = folder_digest(encoder_folder) if encoder_folder else SentenceEncoder().digest
    if digest != model.encoder_digest:
        raise ModelError(
            f"the encoder {model.embedding_model} is not the one that the model's vectors were made with",
            where=str(encoder_folder or bundled_folder()),
            fix="embed the data and train again with one and the same preprocessing.embedding_model",
        )
    if encoder_folder is None or encoder_folder.resolve() == bundled_folder().resolve():
        return
    for path in sorted(encoder_folder.rglob("*")):
        if path.is_file() and path.suffix in served_model.ENCODER_FILES:
            copy = target / path.relative_to(encoder_folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
