"""`embed`: rows in, the same rows with their sentence vectors out, in batches and in bounded memory.

Into a file for each data set, or into a folder with a part for each file, which several machines may share.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.data.dataset import join_rejected
from pcc_pipeline.data.notes import ReadNotes
from pcc_pipeline.encoder.embed_texts import EmbeddingCounts
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.persons.manifest import Manifest
from pcc_pipeline.plurals import counted
from pcc_pipeline.sealing.parquet import write_frame
from pcc_pipeline.steps.embedding.embedded_file import EmbeddedFileWriter, embedded_path
from pcc_pipeline.steps.embedding.rows import RowEmbedder, contract_to_embed
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.datasets import HandedOn, cache_of, encoder_of, input_files, progress_bar, read
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.own_files import demand_own_files, demand_own_folder
from pcc_pipeline.steps.inputs.suppressed import list_digest
from pcc_pipeline.steps.parts.embedding import EmbedTask, job_of
from pcc_pipeline.steps.parts.folder import PARTS_TAG, PartsFolder, is_parts_address
from pcc_pipeline.steps.parts.running import (
    PartsWritten,
    demand_inputs,
    demand_whole,
    inputs_payload,
    lineage_payloads,
    run_parts,
    with_threads,
)
from pcc_pipeline.steps.parts.surroundings import Surroundings
from pcc_pipeline.steps.records.copies import EMBEDDED_TAG
from pcc_pipeline.steps.records.persons import manifest_payloads, new_manifest
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.storage.objects import replacing
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.runs import StepRun, step_run

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
        parts = [counted(counts.rows, "row")]
        if counts.unique:
            parts += [counted(counts.unique, "different text"), f"{counts.hits:,} from the cache"]
        else:
            parts.append("with the vectors that the file brings")
        if counts.encoded:
            speed = counts.texts_per_second
            parts.append(f"{counts.encoded:,} encoded at {speed:,.{0 if speed >= 10 else 1}f} texts/s")
        return [*parts, f"{counted(len(self.rejected), 'row')} rejected"]

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
        parts: what was written into a folder of parts, in place of files; `seconds`: how long that took.
    """

    files: tuple[EmbeddedFile, ...]
    handed_on: Mapping[str, HandedOn] = field(default_factory=dict)
    parts: PartsWritten | None = None
    seconds: float = 0.0

    @property
    def digest(self) -> str:
        """The data's fingerprint; of parts, that of theirs."""
        return self.files[0].digest if self.parts is None else self.parts.digest

    @property
    def summary(self) -> list[str]:
        if self.parts is not None:
            made = self.parts.made
            rows, encoded = sum(part.rows for part in made), sum(part.encoded for part in made)
            speed = rows / self.seconds if self.seconds else 0.0
            rejected = sum(part.rejected for part in self.parts.parts)
            first, *more = self.parts.lines
            return [
                f"embedded   {first}",
                f"           {rows:,} rows at {speed:,.0f}/s, {encoded:,} texts encoded, {rejected:,} rows rejected",
                *(f"           {line}" for line in more),
                *(f"warning    {note}" for note in self.parts.notes),
            ]
        return [line for file in self.files for line in file.summary]


def run(params: Params, *, for_training: bool = False) -> EmbedOutcome:
    """Embed `data.path` and, where it is given, `data.test_path`, each into a Parquet file in `output.embedded_dir`.

    With `output.embedded_parts` each file of `data.path` goes into a part of its own there.

    Args:
        for_training: labels are demanded, and the rows are handed on in memory, as training would read them. Else
            memory is bounded, however large the files are.

    Raises:
        DataError, FeatureError, StorageError: bad rows, encoder or address; nothing is left under a final name.
    """
    addresses = [address for address in (params.data.path, params.data.test_path) if address is not None]
    with step_run("embed", params) as opened:
        if params.output.embedded_parts is not None and not for_training:
            return _into_parts(params, opened, params.output.embedded_parts)
        demand_whole(params, "output.embedded_dir", "output.embedded_parts", tell=not for_training)
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
            contract = contract_to_embed(address, params, labelled=for_training, for_training=for_training)
            demand_input(address, contract)
        if for_training:
            demand_input(params.data.exclude, may_be_empty=True)
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
            embedder = RowEmbedder(params, encoder, cache, for_training)
            files = [_embed_file(embedder, address, output, manifest) for output, address in places.items()]
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


def _into_parts(params: Params, opened: StepRun, name: str) -> EmbedOutcome:
    """A part for each file of this run's share of `data.path`."""
    address = params.data.path
    if not is_parts_address(name):
        raise ConfigError(
            "parts are written into a folder, whose address ends in a slash",
            where=f"output.embedded_parts: {name}",
            fix=f"write {name}/",
        )
    if params.data.test_path is not None:
        raise ConfigError(
            "a folder of parts is one data set, and two are given",
            where=f"data.test_path: {params.data.test_path}",
            fix="embed the test data into another folder, by a run of its own",
        )
    demand_own_folder({"data.path": address}, name, "output.embedded_parts")
    demand_inputs(params, contract_to_embed(address, params, labelled=False, for_training=False))
    encoder, folder, began = encoder_of(params), PartsFolder(name), time.perf_counter()
    opened.log(
        payloads.LoggedParams(used(params, "embed")),
        payloads.Tags({"pcc.encoder_digest": encoder.digest, "pcc.encoder_backend": encoder.backend, PARTS_TAG: name}),
    )
    job = folder.begin(job_of(params, encoder))
    task = EmbedTask(with_threads(params), name, job, Surroundings.here(params), encoder.digest)
    with ExitStack() as stack:
        stack.callback(task.let_go)
        written = run_parts(params, folder, job, files_of(address), task, f"embed {address}")
    outcome = EmbedOutcome((), parts=written, seconds=time.perf_counter() - began)
    made = written.made
    opened.log(
        payloads.Metrics(
            {
                "embed/data/rows": sum(part.rows for part in written.parts),
                "embed/data/rejected_rows": sum(part.rejected for part in written.parts),
                "embed/data/encoded": sum(part.encoded for part in made),
            }
        ),
        payloads.Tags({"pcc.data_digest": outcome.digest}),
        *inputs_payload(address, written, "embedding"),
        *lineage_payloads(folder, written.parts),
    )
    folder.lineage_is_kept({part.name for part in written.parts})
    return outcome


def _embed_file(embedder: RowEmbedder, address: str, output: Path, manifest: Manifest | None) -> EmbeddedFile:
    params, notes = embedder.params, ReadNotes()
    listed = list_digest(params)  # before it is read by it: an older list is noticed, a newer one would hide rows
    limit = params.data.max_rejected_fraction
    with (
        replacing(output) as partial,
        EmbeddedFileWriter(partial, sealed=params.output.encrypts) as writer,
        progress_bar(None, f"embed {address}") as bar,
    ):
        file, counts, made = embedder.embed(read(address, notes), address, writer, manifest, bar.update)
        rejected = file.rejected(limit)
        writer.close()
    handed_on = None
    if embedder.for_training:
        encoder = embedder.encoder
        handed_on = HandedOn(file.dataset(limit, notes), made.whole(), encoder.digest, encoder.backend, listed)
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


def _metrics(prefix: str, outcome: EmbeddedFile) -> dict[str, float]:
    counts = outcome.counts
    return {
        f"{prefix}/rows": outcome.total_rows,
        f"{prefix}/unique_texts": counts.unique,
        f"{prefix}/cache_hits": counts.hits,
        f"{prefix}/texts_per_second": counts.texts_per_second,
        f"{prefix}/rejected_rows": len(outcome.rejected),
    }
