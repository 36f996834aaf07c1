"""Embedded rows in parts: the task of one input, and what all of them have in common."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.encoder.caches.entries import VectorCache
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import FeatureError
from pcc_pipeline.steps.embedding.embedded_file import EmbeddedFileWriter
from pcc_pipeline.steps.embedding.rows import RowEmbedder
from pcc_pipeline.steps.inputs.datasets import cache_of, encoder_of, read
from pcc_pipeline.steps.parts.folder import Part, PartsFolder
from pcc_pipeline.steps.parts.task import PartTask
from pcc_pipeline.steps.records.persons import new_manifest

_opened: dict[str, tuple[SentenceEncoder, VectorCache | None, ExitStack]] = {}
_opening = threading.Lock()


def job_of(params: Params, encoder: SentenceEncoder) -> dict[str, Any]:
    """What all parts have in common: the encoder, and what is asked of rows."""
    return {
        "kind": "embedded rows",
        "encoder_digest": encoder.digest,
        "label_column": params.data.label_column,
        "encrypted": params.output.encrypts,
    }


@dataclass(frozen=True)
class EmbedTask(PartTask):
    """Embeds one input into its part. It is sent to workers, and each of them loads the encoder once.

    Attributes:
        encoder_digest: of the encoder that all have.
    """

    encoder_digest: str

    def let_go(self) -> None:
        """Give back what this process has open for it."""
        with _opening:
            if (opened := _opened.pop(self._key, None)) is not None:
                opened[2].close()

    def made(self, folder: PartsFolder, name: str, source: str) -> Part:
        params, notes, manifest = self.params, ReadNotes(), new_manifest(self.params)
        embedder = RowEmbedder(params, *self._encoder())
        with (
            folder.writing(name) as partial,
            EmbeddedFileWriter(partial, sealed=params.output.encrypts) as writer,
        ):
            batches = read(source, notes, named=True)
            file, counts, _ = embedder.embed(batches, source, writer, manifest)
            rejected = file.all_rejected
            part = Part(
                name,
                self.job,
                source,
                rows=file.total_rows - len(rejected),
                rejected=len(rejected),
                digest=file.digest,
                kept_out=file.kept_out,
                encoded=counts.encoded,
                notes=(*notes.lines, *file.notes_on_kept_out),
            )
            writer.close(part.metadata())
            # Before the part, which says that all of it is there.
            folder.keep_rejected(name, rejected, sealed=params.output.encrypts)
            if manifest is not None:
                folder.keep_lineage(name, manifest.to_bytes())
        return part

    def _encoder(self) -> tuple[SentenceEncoder, VectorCache | None]:
        with _opening:
            if self._key not in _opened:
                encoder, stack = encoder_of(self.params), ExitStack()
                if encoder.digest != self.encoder_digest:
                    raise FeatureError(
                        "a worker has another encoder than the run that sent it its task",
                        where=f"preprocessing.embedding_model: {self.params.preprocessing.embedding_model}",
                        fix="put the same files where the workers run",
                    )
                for _, _, other in _opened.values():
                    other.close()
                _opened.clear()
                _opened[self._key] = encoder, stack.enter_context(cache_of(self.params, encoder)), stack
            encoder, cache, _ = _opened[self._key]
            return encoder, cache

    @property
    def _key(self) -> str:
        # A worker of Dask outlives a run, and the next one may encode in another way.
        return f"{self.encoder_digest} {self.params.model_dump_json()}"
