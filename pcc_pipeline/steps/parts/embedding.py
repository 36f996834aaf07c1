"""Embedded rows in parts: the task of one input, and what all of them have in common."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import FeatureError
from pcc_pipeline.steps.embedding.embedded_file import EmbeddedFileWriter
from pcc_pipeline.steps.embedding.rows import RowEmbedder, contract_to_embed
from pcc_pipeline.steps.inputs.datasets import cache_of, encoder_of, read
from pcc_pipeline.steps.parts.folder import Part, PartsFolder
from pcc_pipeline.steps.parts.held import Held
from pcc_pipeline.steps.parts.task import PartTask, rules_of
from pcc_pipeline.steps.records.persons import new_manifest


class _Opened:
    """An encoder and its cache."""

    def __init__(self, params: Params, digest: str) -> None:
        self.encoder = encoder_of(params)
        if self.encoder.digest != digest:
            raise FeatureError(
                "a worker has another encoder than the run that sent it its task",
                where=f"preprocessing.embedding_model: {params.preprocessing.embedding_model}",
                fix="put the same files where the workers run",
            )
        self._stack = ExitStack()
        self.cache = self._stack.enter_context(cache_of(params, self.encoder))

    def close(self) -> None:
        """Give back the cache."""
        self._stack.close()


_opened: Held[_Opened] = Held()


def job_of(params: Params, encoder: SentenceEncoder) -> dict[str, Any]:
    """What all parts have in common: the encoder, and what is asked of rows."""
    contract = contract_to_embed(params.data.path, params, labelled=True, for_training=False)
    return {
        "kind": "embedded rows",
        "encoder_digest": encoder.digest,
        "label_column": params.data.label_column,
        "encrypted": params.output.encrypts,
        # Labels go into parts as they stand.
        **rules_of(replace(contract, normalise_labels=False)),
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
        _opened.let_go(self._key)

    def made(self, folder: PartsFolder, name: str, source: str) -> Part:
        params, notes, manifest = self.params, ReadNotes(), new_manifest(self.params)
        opened = _opened.get(self._key, lambda: _Opened(params, self.encoder_digest))
        embedder = RowEmbedder(params, opened.encoder, opened.cache)
        with (
            folder.writing(name) as partial,
            EmbeddedFileWriter(partial, sealed=params.output.encrypts) as writer,
        ):
            batches = read(source, notes, one=True, named=True, may_be_empty=True)
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

    @property
    def _key(self) -> str:
        return f"{self.encoder_digest} {self.params.model_dump_json()}"
