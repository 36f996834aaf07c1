"""A data set in parts, from its inputs to the manifest: this run's share of the tasks, and who ends last."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.errors import ConfigError, DataError, PccError, StorageError
from pcc_pipeline.masking import in_utf8
from pcc_pipeline.persons.manifest import joined
from pcc_pipeline.plurals import counted
from pcc_pipeline.processes import available_cores
from pcc_pipeline.search.pools.dask_cluster import demand_cluster
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.datasets import progress_bar
from pcc_pipeline.steps.inputs.early_checks import demand_files
from pcc_pipeline.steps.parts.engines import engine_of
from pcc_pipeline.steps.parts.folder import Part, PartsFolder, Whole
from pcc_pipeline.steps.records.persons import payloads_of
from pcc_pipeline.tracking.payloads import InputFile, Inputs, Json, Payload

# So many files may fail before the others are left, too.
_MOST_FAILED = 10
# So many files are looked at first.
_MOST_LOOKED_AT = 100
# So many inputs MLflow lists one by one.
_MOST_INPUTS = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartsWritten:
    """What a run did of a data set in parts.

    Attributes:
        parts: of the inputs that were its own, those that stood before included.
        inputs: of all runs.
        missing: parts that do not stand yet; 0 where the manifest is written.
        shard: which share of the inputs was its own, as `3/16`; None for all.
    """

    folder: str
    parts: tuple[Part, ...]
    inputs: int
    missing: int
    shard: str | None = None

    @property
    def made(self) -> tuple[Part, ...]:
        """Those that this run made."""
        return tuple(part for part in self.parts if part.made)

    @property
    def digest(self) -> str:
        """Of the good rows of its parts."""
        return _digest_of(part.digest for part in self.parts)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the inputs, each with its name."""
        return tuple(
            note if note.startswith(part.source) else f"{part.source}: {note}"
            for part in self.parts
            for note in part.notes
        )

    @property
    def counts(self) -> Counter[str]:
        """Label -> rows of its parts."""
        return sum((Counter(part.counts) for part in self.parts), Counter())

    @property
    def lines(self) -> list[str]:
        """For the summary."""
        before = len(self.parts) - len(self.made)
        own = f"shard {self.shard}: " if self.shard else ""
        lines = [
            f"{own}{counted(len(self.parts), 'part')} in {self.folder}"
            + (f", {before:,} stood before" if before else "")
        ]
        if self.missing:
            lines.append(f"{self.missing:,} of {self.inputs:,} parts do not stand yet: whoever ends last writes")
            lines[-1] += " _manifest.json"
        else:
            lines.append(f"whole: _manifest.json lists {counted(self.inputs, 'part')}")
        return lines


def demand_inputs(params: Params, contract: Contract) -> None:
    """Look at the first of this run's own files before anything slow begins, and for the cluster, if one is named.

    What is wrong with a few of many files is told by their own tasks, and stops none of the others.

    Raises:
        DataError, StorageError: as `early_checks.demand_input`, of the first one, where none of the files that are
            looked at can be used, or so many cannot that the run would end by them.
        ConfigError: no scheduler of Dask answers, or Dask is not installed.
    """
    demand_cluster(params.compute)
    sources = files_of(params.data.path)
    looked_at, faults = own_inputs(sources, params)[:_MOST_LOOKED_AT], []
    for source in looked_at:
        try:
            demand_files([source], contract, may_be_empty=len(sources) > 1)
        except (DataError, StorageError) as error:
            faults.append(error)
            if len(faults) == min(_MOST_FAILED, len(looked_at)):
                raise faults[0] from None


def own_inputs(sources: Sequence[str], params: Params) -> list[str]:
    """This run's share of the inputs, by `compute.shard`."""
    number, of = params.compute.part_of
    return list(sources[number - 1 :: of])


def run_parts(
    params: Params,
    folder: PartsFolder,
    job: str,
    sources: Sequence[str],
    task: Callable[[str], Part],
    what: str,
    seen: Callable[[Part], None] = lambda _: None,
) -> PartsWritten:
    """Do the tasks of this run's share of the inputs, and write the manifest if all parts stand then.

    Args:
        sources: all inputs, in their order.
        what: the work, as the progress names it.
        seen: called with each part as it comes.

    Raises:
        PccError: an input cannot be used; the parts that stand stay.
    """
    folder.demand_inputs_among(sources)
    own, parts, failed = own_inputs(sources, params), dict[str, Part](), dict[str, PccError]()
    with progress_bar(len(own), what, "file") as bar:
        for source, result in engine_of(params.compute).run(task, own):
            if isinstance(result, Part):
                parts[source] = result
                seen(result)
                bar.update()
                logger.debug("%s: %d rows in %s", source, result.rows, result.name)
                continue
            failed[source] = result
            logger.error("%s: %s", source, result.what)
            if len(failed) >= _MOST_FAILED:
                break
    if failed:
        raise _failure(failed, len(own), len(parts))
    whole = folder.finish(sources, job, params.data.max_rejected_fraction)
    return PartsWritten(
        folder.address,
        tuple(parts[source] for source in own),
        len(sources),
        0 if isinstance(whole, Whole) else whole,
        params.compute.shard,
    )


def _failure(failed: dict[str, PccError], inputs: int, stand: int) -> PccError:
    source, first = next(iter(failed.items()))
    if inputs == 1:
        return first
    message = f"{len(failed):,} of {inputs:,} files failed, this one first: {first.what}"
    fix = f"{first.fix}; then begin again: {stand:,} parts stand already" if first.fix else "begin again"
    return type(first)(message, where=where_in(source, first), fix=fix)


def where_in(source: str, error: PccError) -> str:
    """Where an error of one of several files is, which may name a column alone."""
    return error.where if in_utf8(source) in error.where else ", ".join(filter(None, (source, error.where)))


def lineage_payloads(folder: PartsFolder, parts: Sequence[Part]) -> list[Payload]:
    """The manifests of persons of these parts that no run has in its own yet, as one of this run."""
    contents = list(folder.lineage({part.name for part in parts}).values())
    return payloads_of(joined(contents, folder.address)) if contents else []


def demand_whole(params: Params, option: str, parts_option: str, *, tell: bool = True) -> None:
    """See that no share is asked for where one file is written, and tell that one process writes it.

    Several processes may be asked for: the same configuration serves `monitor`, which has them look at the files.

    Args:
        option: names the file, or the folder that gets it.
        parts_option: names a folder that gets a part for each file instead.
        tell: tell of the one process, where several are asked for.

    Raises:
        ConfigError: a share is asked for.
    """
    settings, way = params.compute, f"{parts_option}=FOLDER/ gets a part for each file"
    if settings.shard is not None:
        raise ConfigError(
            "compute.shard is for a data set in parts, and one file is written",
            where=f"compute.shard: {settings.shard}, {option}",
            fix=f"leave compute.shard out; or {way}",
        )
    if tell and settings.engine == "local" and settings.workers != 1:
        logger.info("one process writes one file; %s, and compute.workers processes share these", way)


def inputs_payload(address: str, written: PartsWritten, use: str) -> list[Payload]:
    """The files that a run read, for its record: each, or, of very many, the data set as one; and its parts."""
    parts = written.parts
    files = [InputFile(part.source, use, part.digest, part.rows + part.rejected) for part in parts]
    return [Inputs(as_listed(files, address)), Json("data_files.json", [part.line() for part in parts])]


def as_listed(files: list[InputFile], address: str) -> list[InputFile]:
    """The files of a data set as a run lists them: each, or, of very many, the data set at its address as one."""
    if len(files) <= _MOST_INPUTS:
        return files
    return [
        InputFile(address, files[0].use, _digest_of(file.digest for file in files), sum(file.rows for file in files))
    ]


def _digest_of(digests: Iterable[str]) -> str:
    return sha256("".join(digests).encode()).hexdigest()


def with_threads(params: Params) -> Params:
    """The configuration for workers: those of this machine share its cores."""
    settings = params.compute
    if settings.address is not None or params.preprocessing.threads is not None:
        return params
    workers = available_cores() if settings.workers == -1 else settings.workers
    if workers == 1:
        return params
    threads = max(1, available_cores() // workers)
    return params.model_copy(update={"preprocessing": params.preprocessing.model_copy(update={"threads": threads})})
