"""From an address to checked rows with their sentence vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.contract import TIMESTAMP, Contract
from pcc_pipeline.data.dataset import Dataset, load
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.data.vector_column import Vectors
from pcc_pipeline.data.vector_file import GrowingVectors
from pcc_pipeline.data.vector_origin import ENCODER_DIGEST, FILE, origin
from pcc_pipeline.encoder.caches.entries import VectorCache
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import NoRowsError
from pcc_pipeline.masking import in_utf8
from pcc_pipeline.model.fitting import Rows
from pcc_pipeline.steps.inputs.addresses import SAMPLE, files_of
from pcc_pipeline.steps.inputs.caches import cache_places
from pcc_pipeline.steps.inputs.suppressed import keeps_out
from pcc_pipeline.storage.objects import local_copy
from pcc_pipeline.tracking.payloads import InputFile

# What is made of them on the way, in the cache and the encoder, takes five times the room of their vectors.
_TEXTS_AT_A_TIME = 10_000


def read(
    address: str,
    notes: ReadNotes | None = None,
    *,
    one: bool = False,
    named: bool = False,
    may_be_empty: bool = False,
) -> Iterator[pd.DataFrame]:
    """The raw rows at an address, in batches that know who made their vectors and, of several, their file.

    A file without rows among several is told of, and is none.

    Args:
        notes: takes what the rows do not show.
        one: the address is a file as `files_of` names it, and no list or pattern whatever its name holds.
        named: they know their file where it is the only one, too.
        may_be_empty: there need be no row at all, and so no batch.

    Raises:
        DataError: a file cannot be read.
        NoRowsError: there are no rows.
    """
    files, empty = [address] if one else files_of(address), 0
    notes = notes or ReadNotes()
    for file in files:
        try:
            for batch in _read_one(file, notes):
                if named or len(files) > 1:
                    batch.attrs[FILE] = in_utf8(file)  # for tables
                yield batch
        except NoRowsError:
            if len(files) == 1 and not may_be_empty:
                raise
            empty += 1
            notes.add(f"{file}: it has columns and no rows")
    if empty == len(files) and not may_be_empty:
        raise NoRowsError(
            f"none of the {empty:,} data files has rows", where=address, fix="give files with at least one row"
        )


def _read_one(file: str, notes: ReadNotes) -> Iterator[pd.DataFrame]:
    if file == SAMPLE:
        yield sample()
        return
    with local_copy(file) as path:
        digest = origin(path)
        for batch in read_batches(path, notes=notes):
            batch.attrs[ENCODER_DIGEST] = digest
            yield batch


class ReadFile(Protocol):
    """A file that was read, or several that are one data set: a Dataset, a CheckedFile."""

    @property
    def digest(self) -> str:
        """The Fingerprint of all good rows."""

    @property
    def total_rows(self) -> int:
        """Good and rejected."""

    @property
    def files(self) -> tuple[dict[str, Any], ...]:
        """Of several files, each one's record; see `CheckedFile.files`."""


def input_files(address: str, use: str, read: ReadFile) -> list[InputFile]:
    """For a run's record: the file, or each of several that are one data set with its own digest."""
    if not read.files:
        return [InputFile(address, use, read.digest, read.total_rows)]
    return [InputFile(part["file"], use, part["digest"], part["rows"]) for part in read.files]


def contract_of(params: Params, *, labelled: bool = True, slices: Sequence[str] = ()) -> Contract:
    """What `params.data` asks of a file; `slices` as in a Contract."""
    data = params.data
    return Contract(
        data.label_column if labelled else None,
        data.required_columns,
        data.group_column,
        data.normalise_labels,
        tuple(slices),
        data.subject_column,
        keeps_out=keeps_out(params),
    )


def unlabelled(params: Params) -> Contract:
    """What is asked of a file that is answered or watched: groups and subjects serve the training alone."""
    data = params.data
    return Contract(None, data.required_columns, named_by=data.subject_column, keeps_out=keeps_out(params))


def slices_of(params: Params, address: str | None) -> tuple[str, ...]:
    """`evaluation.slices` for the file that a training takes its test rows from; of another it asks nothing."""
    return params.evaluation.slices if address == (params.data.test_path or params.data.path) else ()


def load_dataset(
    address: str,
    params: Params,
    known_labels: Sequence[str] = (),
    slices: Sequence[str] = (),
    *,
    whole: bool = False,
) -> Dataset:
    """The labelled rows at `address` that keep the contract, and the rejected ones with their reasons.

    Args:
        known_labels: a model's labels, whose spelling wins where `data.normalise_labels` makes labels one.
        slices: as in a Contract.
        whole: with the rows of erased persons.
    """
    notes, limit, contract = ReadNotes(), params.data.max_rejected_fraction, contract_of(params, slices=slices)
    if whole:
        contract = replace(contract, keeps_out=None)
    return load(read(address, notes), contract, address, limit, notes=notes, known_labels=known_labels)


@dataclass(frozen=True)
class HandedOn:
    """A file as `embed` read it in this process, for the steps after it: what they would read, and vectors for it.

    Attributes:
        read: the file, its labels as they stand there; with vectors where it brings them.
        made: else the vectors of its texts, by the configured encoder.
        encoder_digest, encoder_backend: that encoder's.
        listed: of the list of erased persons by which it was read, the digest.
    """

    read: Dataset
    made: Vectors | None
    encoder_digest: str
    encoder_backend: str
    listed: str

    def with_vectors(self, dataset: Dataset) -> Dataset:
        """The same rows, which may have other labels now, with vectors."""
        if self.made is None:
            return dataset
        return replace(dataset, vectors=self.made, encoder_digest=self.encoder_digest)


def encoder_of(params: Params, model: str | None = None) -> SentenceEncoder:
    """The configured encoder, or that of another name; its weights load at the first text that needs them."""
    options = params.preprocessing
    return SentenceEncoder(
        model or options.embedding_model, options.batch_size, options.backend, _cache_dir(params), options.threads
    )


def cache_of(params: Params, encoder: SentenceEncoder) -> AbstractContextManager[VectorCache | None]:
    """The open cache of vectors, or None where it is switched off."""
    places = cache_places(params)
    if not places:
        return nullcontext()
    return places[-1].open(encoder.space, SENTENCE_WIDTH, sealed=params.output.encrypts)


def _cache_dir(params: Params) -> Path | None:
    folder = params.preprocessing.cache_dir
    return None if folder is None else local_path(folder)


def progress_bar(total: int | None, what: str, unit: str = "rows") -> tqdm[Any]:
    """A bar on standard error, shown where somebody watches."""
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True)


def encoded(dataset: Dataset, params: Params, encoder: SentenceEncoder, what: str) -> Dataset:
    """The data set with the encoder's vectors of its texts.

    Many vectors lie in a file, as those do that a file brings. The encoder's memory is given back: what follows needs
    it for other things.
    """
    texts, grown = dataset.texts, GrowingVectors()
    with cache_of(params, encoder) as cache, progress_bar(len(texts), what) as bar:
        for start in range(0, len(texts), _TEXTS_AT_A_TIME):
            grown.add(embed(texts[start : start + _TEXTS_AT_A_TIME], encoder, cache, bar.update)[0])
    encoder.release()
    return replace(dataset, vectors=grown.whole(), encoder_digest=encoder.digest)


def rows_of(dataset: Dataset) -> Rows:
    """Texts, vectors and labels of a data set that has vectors."""
    assert dataset.vectors is not None, "it was encoded, or brought them"
    return Rows(dataset.texts, dataset.vectors, dataset.labels)


def newest_timestamp(dataset: Dataset, rows: np.ndarray) -> str | None:
    """The newest `timestamp` of some rows, by their places, in ISO 8601; None where they have none."""
    if TIMESTAMP not in dataset.frame:
        return None
    newest = pd.to_datetime(dataset.frame[TIMESTAMP].iloc[rows], utc=True).max()
    return None if pd.isna(newest) else str(newest.isoformat())
