"""Rows of files with their sentence vectors, batch by batch: what `embed` does with a file, or with a part."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import CheckedBatch, Contract
from pcc_pipeline.data.dataset import CheckedFile
from pcc_pipeline.data.vector_file import GrowingVectors
from pcc_pipeline.data.vector_origin import origin_of
from pcc_pipeline.encoder.caches.entries import VectorCache
from pcc_pipeline.encoder.embed_texts import EmbeddingCounts, Progress, embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.persons.manifest import Manifest
from pcc_pipeline.steps.embedding.embedded_file import EmbeddedFileWriter
from pcc_pipeline.steps.inputs.datasets import contract_of, slices_of
from pcc_pipeline.steps.records.persons import add_batch


class EmbeddedRows(NamedTuple):
    """What is known of a file once its rows are written.

    Attributes:
        made: the vectors that were made, where they are kept; many of them in a file.
    """

    file: CheckedFile
    counts: EmbeddingCounts
    made: GrowingVectors


@dataclass(frozen=True)
class RowEmbedder:
    """What embeds files, one after another.

    Attributes:
        for_training: labels are demanded, and rows and vectors are kept.
    """

    params: Params
    encoder: SentenceEncoder
    cache: VectorCache | None
    for_training: bool = False

    def embed(
        self,
        batches: Iterator[pd.DataFrame],
        address: str,
        writer: EmbeddedFileWriter,
        manifest: Manifest | None,
        progress: Progress = lambda _: None,
    ) -> EmbeddedRows:
        """Write the good rows of a file with their vectors: those that they bring, or the encoder's.

        Args:
            batches: none are a file without rows.
            manifest: is given who stands in the file.

        Raises:
            DataError: they cannot be read.
            FeatureError: the encoder fails.
            StorageError: they cannot be written.
        """
        counts, file, made = EmbeddingCounts(), None, GrowingVectors()
        for batch in batches:
            if file is None:
                file = self._checked_file(address, batch.columns)
            checked = file.add(batch)
            vectors, done = self._vectors(checked, progress)
            counts += done
            add_batch(manifest, checked, "embedded", address)
            if self.for_training and checked.vectors is None:
                made.add(vectors)
            origin = self.encoder.digest if checked.vectors is None else origin_of(batch)
            writer.write(checked.good, vectors, origin)
        return EmbeddedRows(file or self._checked_file(address, ()), counts, made)

    def _checked_file(self, address: str, columns: Collection[object]) -> CheckedFile:
        # A file may be embedded to be scored, so labels are checked where they are there.
        labelled = self.for_training or self.params.data.label_column in columns
        contract = contract_to_embed(address, self.params, labelled=labelled, for_training=self.for_training)
        return CheckedFile(contract, address, kept=self.for_training)

    def _vectors(self, checked: CheckedBatch, progress: Progress) -> tuple[np.ndarray, EmbeddingCounts]:
        if checked.vectors is not None:
            return checked.vectors, EmbeddingCounts(rows=len(checked.vectors))
        return embed([str(text) for text in checked.good["text"]], self.encoder, self.cache, progress)


def contract_to_embed(address: str, params: Params, *, labelled: bool, for_training: bool) -> Contract:
    """What is asked of a file that is embedded."""
    return contract_of(params, labelled=labelled, slices=slices_of(params, address) if for_training else ())
