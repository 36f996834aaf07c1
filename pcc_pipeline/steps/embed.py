"""`embed`: a file in, the same rows with their sentence vectors out, in batches and in bounded memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import EMBEDDINGS, CheckedBatch, Contract, ContractChecker
from pcc_pipeline.data.dataset import Fingerprint, check_rejections, join_rejected
from pcc_pipeline.data.vector_origin import origin_of, signed
from pcc_pipeline.errors import DataError
from pcc_pipeline.features.cache import EmbeddingCache
from pcc_pipeline.features.embedding import EmbeddingCounts, Progress, embed
from pcc_pipeline.features.encoder import SentenceEncoder
from pcc_pipeline.steps.datasets import cache_of, encoder_of, progress_bar, read
from pcc_pipeline.steps.recorded import used
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.runs import step_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedFile:
    """One embedded file."""

    source: str
    output: Path
    digest: str
    counts: EmbeddingCounts
    total_rows: int
    rejected: pd.DataFrame

    @property
    def summary(self) -> list[str]:
        found = self.counts
        return [
            f"embedded   {self.output}",
            f"           {found.rows:,} rows, {found.unique:,} different texts, {found.hits:,} from the cache, "
            f"{found.encoded:,} encoded at {found.texts_per_second:,.0f} texts/s, {len(self.rejected):,} rows rejected",
        ]


@dataclass(frozen=True)
class EmbedOutcome:
    """The data and, where it is given, the test data."""

    files: tuple[EmbeddedFile, ...]

    @property
    def digest(self) -> str:
        """The data's fingerprint."""
        return self.files[0].digest

    @property
    def digests(self) -> tuple[str, ...]:
        """The same of each file."""
        return tuple(file.digest for file in self.files)

    @property
    def summary(self) -> list[str]:
        return [line for file in self.files for line in file.summary]


def run(params: Params, *, labels_required: bool = False) -> EmbedOutcome:
    """Embed `data.path` and, where it is given, `data.test_path`, each into a Parquet file in `output.embedded_dir`.

    Raises:
        DataError, FeatureError, StorageError: bad rows, encoder or address; nothing is left under a final name.
    """
    addresses = [address for address in (params.data.path, params.data.test_path) if address is not None]
    with step_run("embed", params) as opened:
        encoder = encoder_of(params)
        opened.log(
            payloads.Params(used(params, "embed")),
            payloads.Tags({"pcc.encoder_digest": encoder.digest, "pcc.encoder_backend": encoder.backend}),
        )
        with cache_of(params, encoder) as cache:
            files = [_embed_file(address, params, encoder, cache, labels_required) for address in addresses]
        outcome = EmbedOutcome(tuple(files))
        for side, file in zip(("data", "test_data"), outcome.files, strict=False):
            logger.info("embedded %s: %s", file.source, file.summary[1].strip())
            opened.log(payloads.Metrics(_metrics(f"embed/{side}", file)))
        rejected = join_rejected([file.rejected for file in outcome.files])
        opened.log(payloads.Tags({"pcc.data_digest": outcome.digest}), payloads.Table("rejected.parquet", rejected))
        target = Path(params.output.rejected)
        with replacing(target) as partial:
            rejected.to_parquet(partial, index=False)
    return outcome


def _embed_file(
    address: str, params: Params, encoder: SentenceEncoder, cache: EmbeddingCache | None, labels_required: bool
) -> EmbeddedFile:
    output = Path(params.output.embedded_dir) / f"{address.rstrip('/').rpartition('/')[2].partition('.')[0]}.parquet"
    if Path(address).resolve() == output.resolve():
        raise DataError("the output would replace its own input", where=address, fix="set output.embedded_dir")
    counts = EmbeddingCounts()
    rejected: list[pd.DataFrame] = []
    checker: ContractChecker | None = None
    fingerprint: Fingerprint | None = None
    with replacing(output) as partial, _Writer(partial) as writer, progress_bar(None, f"embed {address}") as bar:
        for batch in read(address):
            if checker is None or fingerprint is None:
                contract = _contract(params, batch, labels_required)
                checker = ContractChecker(contract, source=address)
                fingerprint = Fingerprint(contract.label_column, contract.group_column)
            checked = checker.check(batch)
            fingerprint.update(checked.good)
            rejected.append(checked.rejected)
            vectors, done = _vectors(checked, encoder, cache, bar.update)
            counts += done
            writer.write(checked.good, vectors, encoder.digest if checked.vectors is None else origin_of(batch))
        if checker is None or fingerprint is None:
            raise DataError("the data file has no rows", where=address, fix="give a file with at least one row")
        all_rejected = join_rejected(rejected)
        check_rejections(all_rejected, checker.rows, address, params.data.max_rejected_fraction)
        writer.close()
    return EmbeddedFile(address, output, fingerprint.hexdigest(), counts, checker.rows, all_rejected)


def _contract(params: Params, first: pd.DataFrame, labels_required: bool) -> Contract:
    # A file may be embedded to be scored, so labels are checked where they are there.
    label = params.data.label_column
    known = labels_required or label in first.columns
    return Contract(label if known else None, params.data.required_columns, params.data.group_column)


def _vectors(
    checked: CheckedBatch, encoder: SentenceEncoder, cache: EmbeddingCache | None, progress: Progress
) -> tuple[np.ndarray, EmbeddingCounts]:
    if checked.vectors is not None:
        return checked.vectors, EmbeddingCounts(rows=len(checked.vectors))
    return embed([str(text) for text in checked.good["text"]], encoder, cache, progress)


class _Writer:
    """Writes batches as row groups; the columns' types are those of the first batch. The file says whose vectors it
    holds, where that is known.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parquet: pq.ParquetWriter | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, good: pd.DataFrame, vectors: np.ndarray, encoder_digest: str | None) -> None:
        table = pa.Table.from_pandas(good, preserve_index=False)
        flat = pa.array(np.ascontiguousarray(vectors).ravel(), type=pa.float32())
        table = table.append_column(EMBEDDINGS, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        if self._parquet is None:
            # Vectors neither repeat nor shrink: a dictionary and compression would cost time for nothing.
            columns = [name for name in table.column_names if name != EMBEDDINGS]
            self._parquet = pq.ParquetWriter(
                self._path,
                signed(table.schema, encoder_digest),
                use_dictionary=columns,
                compression=dict.fromkeys(columns, "snappy"),
            )
        try:
            self._parquet.write_table(table.cast(self._parquet.schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise DataError(
                "a column changes its type in the middle of the file",
                where=str(self._path),
                fix="give each column one type, or drop the columns that are not in the data contract",
            ) from error

    def close(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None


def _metrics(prefix: str, outcome: EmbeddedFile) -> dict[str, float]:
    found = outcome.counts
    return {
        f"{prefix}/rows": outcome.total_rows,
        f"{prefix}/unique_texts": found.unique,
        f"{prefix}/cache_hits": found.hits,
        f"{prefix}/texts_per_second": found.texts_per_second,
        f"{prefix}/rejected_rows": len(outcome.rejected),
    }
