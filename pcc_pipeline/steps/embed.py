"""`embed`: a file in, the same rows with their sentence vectors out, in batches and in bounded memory."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import CheckedBatch, Contract
from pcc_pipeline.data.dataset import CheckedFile, join_rejected
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.data.vector_origin import origin_of
from pcc_pipeline.encoder.cache import EmbeddingCache
from pcc_pipeline.encoder.embed_texts import EmbeddingCounts, Progress, embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import DataError
from pcc_pipeline.persons.manifest import Manifest
from pcc_pipeline.sealing.parquet import write_frame
from pcc_pipeline.steps.inputs.datasets import (
    HandedOn,
    cache_of,
    contract_of,
    encoder_of,
    input_files,
    progress_bar,
    read,
    slices_of,
)
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.embedded_file import EmbeddedFileWriter, embedded_path
from pcc_pipeline.steps.inputs.own_files import demand_own_files
from pcc_pipeline.steps.records.copies import EMBEDDED_TAG
from pcc_pipeline.steps.records.persons import add_batch, manifest_payloads, new_manifest
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.runs import step_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedFile:
    """One embedded file, or several that are one data set; `files` as of `CheckedFile`."""

    source: str
    output: Path
    digest: str
    counts: EmbeddingCounts
    total_rows: int
    rejected: pd.DataFrame
    notes: tuple[str, ...] = ()
    handed_on: HandedOn | None = None
    files: tuple[dict[str, Any], ...] = ()

    @property
    def _counted(self) -> list[str]:
        """What became of the rows; nothing of what did not happen."""
        counts = self.counts
        parts = [f"{counts.rows:,} rows"]
        if counts.unique:
            parts += [f"{counts.unique:,} different texts", f"{counts.hits:,} from the cache"]
        else:
            parts.append("with the vectors that the file brings")
        if counts.encoded:
            speed = counts.texts_per_second
            parts.append(f"{counts.encoded:,} encoded at {speed:,.{0 if speed >= 10 else 1}f} texts/s")
        return [*parts, f"{len(self.rejected):,} rows rejected"]

    @property
    def summary(self) -> list[str]:
        return [
            f"embedded   {self.output}",
            f"           {', '.join(self._counted)}",
            *(f"warning    {note}" for note in self.notes),
        ]


@dataclass(frozen=True)
class EmbedOutcome:
    """The data and, where it is given, the test data.

    Attributes:
        handed_on: the rows by the file's address, where the next steps are to have them.
    """

    files: tuple[EmbeddedFile, ...]
    handed_on: Mapping[str, HandedOn] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The data's fingerprint."""
        return self.files[0].digest

    @property
    def summary(self) -> list[str]:
        return [line for file in self.files for line in file.summary]


def run(params: Params, *, for_training: bool = False) -> EmbedOutcome:
    """Embed `data.path` and, where it is given, `data.test_path`, each into a Parquet file in `output.embedded_dir`.

    Args:
        for_training: labels are demanded, and the rows are handed on in memory, as training would read them. Else
            memory is bounded, however large the files are.

    Raises:
        DataError, FeatureError, StorageError: bad rows, encoder or address; nothing is left under a final name.
    """
    addresses = [address for address in (params.data.path, params.data.test_path) if address is not None]
    with step_run("embed", params) as opened:
        # A file that is given twice is embedded once.
        places: dict[Path, str] = {}
        for address in addresses:
            places.setdefault(embedded_path(address, params.output.embedded_dir), address)
        demand_own_files(
            {"data.path": params.data.path, "data.test_path": params.data.test_path},
            {
                "output.rejected": params.output.rejected,
                **{f"output.embedded_dir, for {address}": output for output, address in places.items()},
            },
        )
        for address in addresses:
            # A file may be embedded to be scored, so labels are checked where they are there.
            demand_input(address, _contract(address, params, labelled=for_training, for_training=for_training))
        if for_training:
            demand_input(params.data.exclude)
        encoder = encoder_of(params)
        opened.log(
            payloads.LoggedParams(used(params, "embed")),
            payloads.Tags(
                {
                    "pcc.encoder_digest": encoder.digest,
                    "pcc.encoder_backend": encoder.backend,
                    EMBEDDED_TAG: json.dumps([place.name for place in places], ensure_ascii=False),
                }
            ),
        )
        manifest = new_manifest(params)
        with cache_of(params, encoder) as cache:
            files = [
                _embed_file(address, output, params, encoder, cache, for_training=for_training, manifest=manifest)
                for output, address in places.items()
            ]
        by_place = dict(zip(places, files, strict=True))
        handed_on = {
            address: handed
            for address in addresses
            if (handed := by_place[embedded_path(address, params.output.embedded_dir)].handed_on) is not None
        }
        outcome = EmbedOutcome(tuple(files), handed_on)
        for side, file in zip(("data", "test_data"), outcome.files, strict=False):
            logger.info("embedded %s: %s", file.source, file.summary[1].strip())
            opened.log(payloads.Metrics(_metrics(f"embed/{side}", file)))
        if parts := [part for file in outcome.files for part in file.files]:
            opened.log(payloads.Json("data_files.json", parts))
        rejected = join_rejected([file.rejected for file in outcome.files])
        opened.log(
            payloads.Inputs([one for file in files for one in input_files(file.source, "embedding", file)]),
            payloads.Tags({"pcc.data_digest": outcome.digest}),
            payloads.Table("rejected.parquet", rejected),
            *manifest_payloads(manifest),
        )
        target = Path(params.output.rejected)
        with replacing(target) as partial:
            write_frame(rejected, partial, sealed=params.output.encrypts)
    return outcome


def _embed_file(
    address: str,
    output: Path,
    params: Params,
    encoder: SentenceEncoder,
    cache: EmbeddingCache | None,
    *,
    for_training: bool,
    manifest: Manifest | None = None,
) -> EmbeddedFile:
    notes, limit = ReadNotes(), params.data.max_rejected_fraction
    counts = EmbeddingCounts()
    file: CheckedFile | None = None
    made: list[np.ndarray] = []
    with (
        replacing(output) as partial,
        EmbeddedFileWriter(partial, sealed=params.output.encrypts) as writer,
        progress_bar(None, f"embed {address}") as bar,
    ):
        for batch in read(address, notes):
            if file is None:
                labelled = for_training or params.data.label_column in batch.columns
                contract = _contract(address, params, labelled=labelled, for_training=for_training)
                file = CheckedFile(contract, address, kept=for_training)
            checked = file.add(batch)
            vectors, done = _vectors(checked, encoder, cache, bar.update)
            counts += done
            add_batch(manifest, checked, "embedded", address)
            if for_training and checked.vectors is None:
                made.append(vectors)
            writer.write(checked.good, vectors, encoder.digest if checked.vectors is None else origin_of(batch))
        if file is None:
            raise DataError("the data file has no rows", where=address, fix="give a file with at least one row")
        rejected = file.rejected(limit)
        writer.close()
    handed_on = None
    if for_training:
        whole = np.concatenate(made) if made else None
        handed_on = HandedOn(file.dataset(limit, notes), whole, encoder.digest, encoder.backend)
    return EmbeddedFile(
        address,
        output,
        file.digest,
        counts,
        file.total_rows,
        rejected,
        (*notes.lines, *file.notes_on_kept_out),
        handed_on,
        file.files,
    )


def _contract(address: str, params: Params, *, labelled: bool, for_training: bool) -> Contract:
    return contract_of(params, labelled=labelled, slices=slices_of(params, address) if for_training else ())


def _vectors(
    checked: CheckedBatch, encoder: SentenceEncoder, cache: EmbeddingCache | None, progress: Progress
) -> tuple[np.ndarray, EmbeddingCounts]:
    if checked.vectors is not None:
        return checked.vectors, EmbeddingCounts(rows=len(checked.vectors))
    return embed([str(text) for text in checked.good["text"]], encoder, cache, progress)


def _metrics(prefix: str, outcome: EmbeddedFile) -> dict[str, float]:
    counts = outcome.counts
    return {
        f"{prefix}/rows": outcome.total_rows,
        f"{prefix}/unique_texts": counts.unique,
        f"{prefix}/cache_hits": counts.hits,
        f"{prefix}/texts_per_second": counts.texts_per_second,
        f"{prefix}/rejected_rows": len(outcome.rejected),
    }
