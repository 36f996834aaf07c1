"""The folder of a data set in parts: what it is a data set of, the parts that stand, and at last the manifest.

    _job.json                       what all parts have in common: a model, an encoder, columns, what makes a row good
    _rejected/part-<digest>.parquet the rows of an input that broke the contract, where there are any
    _lineage/part-<digest>.parquet  who stood in them, until a run has it in its own manifest of persons
    part-<digest>.parquet           the rows of one input; its metadata say which, and count them
    _manifest.json                  last: every part with its input, once all stand

A part takes its name, which is made of its input's address and content, only when it is whole. So a task may be done
twice, or cut off and done again, by anybody at any time: the part is the same. What begins with an underscore is no
data to Spark, Dask, Arrow and us.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.errors import ConfigError, DataError, StorageError
from pcc_pipeline.masking import in_utf8
from pcc_pipeline.sealing.parquet import parquet_file, write_frame
from pcc_pipeline.steps.inputs.addresses import SAMPLE
from pcc_pipeline.steps.inputs.parts_manifest import JOB, MANIFEST, PART, changed, some
from pcc_pipeline.steps.parts.recounting import counted_anew, written_anew
from pcc_pipeline.storage.objects import (
    BUCKET_SCHEME,
    AbsentError,
    ObjectStore,
    local_copy,
    open_store,
    scratch,
    state_of,
    writing,
)

# Of a run that writes into such a folder: its address.
PARTS_TAG = "pcc.parts_folder"
_REJECTED, _LINEAGE = "_rejected/", "_lineage/"
# In a part's metadata.
_RECORD = "pcc.part"
_DIGITS = 24


def is_parts_address(address: str) -> bool:
    """Whether an address names a folder for parts: by the slash at its end."""
    return address.endswith("/")


@dataclass(frozen=True)
class Part:
    """One input's part.

    Attributes:
        job: which job it is of.
        rows, rejected, kept_out: good rows, rows that broke the contract, and rows of erased persons.
        digest: of the input's good rows; see `data.dataset.Fingerprint`.
        counts: label -> rows that were decided so, of predictions.
        challenger_rows: those that a challenger answered.
        encoded: texts that the encoder was given, of embedded rows.
        notes: what to know of the input that its rows do not show.
        made: now, and not by an earlier run or another process.
    """

    name: str
    job: str
    source: str
    rows: int
    rejected: int
    digest: str
    kept_out: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    challenger_rows: int = 0
    encoded: int = 0
    notes: tuple[str, ...] = ()
    made: bool = field(default=True, compare=False)

    def metadata(self) -> dict[str, str]:
        """What the part's file says of itself."""
        known = asdict(self)
        del known["made"]
        return {_RECORD: in_utf8(json.dumps(known, ensure_ascii=False))}

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes], where: str) -> Self:
        """As a file says it; rows may have been taken out of it since.

        Raises:
            DataError: it says nothing.
        """
        try:
            known = json.loads(metadata[_RECORD.encode()])
            return cls(**{**known, "notes": tuple(known["notes"]), "made": False})
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                "this file is no part that pcc_pipeline wrote, or was changed since",
                where=where,
                fix="remove it, and begin again: it is made anew",
            ) from error

    def line(self) -> dict[str, Any]:
        """For the manifest."""
        known = asdict(self)
        for name in ("job", "made"):
            del known[name]
        return {name: value for name, value in known.items() if value or name in ("rows", "rejected")}


@dataclass(frozen=True)
class Whole:
    """All parts of a data set."""

    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def rejected(self) -> int:
        return sum(part.rejected for part in self.parts)

    @property
    def counts(self) -> Counter[str]:
        return sum((Counter(part.counts) for part in self.parts), Counter())


def folders_of_parts(tables: Iterable[str]) -> list[str]:
    """The addresses of the folders of parts that tables are of, by their names; each once."""
    folders = (
        table.removesuffix(PurePosixPath(table).name) for table in tables if PART.fullmatch(PurePosixPath(table).name)
    )
    return list(dict.fromkeys(folder.removesuffix(_REJECTED) for folder in folders))


class PartsFolder:
    """A local folder or a `gs://bucket/prefix/` that parts go to.

    Args:
        address: ends in a slash.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @property
    def rejected_address(self) -> str:
        """Where rejected rows are kept."""
        return self.address + _REJECTED

    @cached_property
    def _store(self) -> ObjectStore:
        return open_store(self.address.rstrip("/"))

    def begin(self, job: Mapping[str, Any]) -> str:
        """Say what the folder is a data set of; the job's digest.

        Raises:
            ConfigError: it holds another data set, or other files.
            StorageError: it cannot be listed or written.
        """
        names = self._names()
        if JOB not in names:
            if others := [name for name in names if not name.startswith(".")]:
                raise ConfigError(
                    f"a data set in parts has a folder of its own, and this one holds {some(others)}",
                    where=self.address,
                    fix="name a folder that is empty or not there yet",
                )
            # Of two jobs that begin at once the first one's stands, and the other is told below.
            with writing(self.address + JOB, shared=True, first=True) as path:
                path.write_text(_json(job), encoding="utf-8")
        there = self._read(JOB)
        if there != json.loads(_json(job)):
            names = [name for name in {**there, **job} if there.get(name) != job.get(name)]
            changes = "; ".join(f"{name} is {there.get(name)} there and {job.get(name)} now" for name in names)
            raise ConfigError(
                f"the folder holds another data set: {changes}",
                where=self.address,
                fix="name another folder, or remove this one",
            )
        return hashlib.sha256(_json(job).encode()).hexdigest()[:16]

    def demand_inputs_among(self, sources: Collection[str]) -> None:
        """See that a whole data set here has no inputs but these: rows of others would stand among them.

        Raises:
            ConfigError: it has.
        """
        if MANIFEST in self._names(MANIFEST):
            others = sorted({line["source"] for line in self._read(MANIFEST)["parts"]} - set(sources))
            if others:
                raise self._other_inputs(others)

    def name_of(self, source: str) -> str:
        """What the part of an input is called.

        Raises:
            StorageError: the input cannot be read.
        """
        digest = hashlib.sha256(source.encode(errors="surrogateescape") + b"\0")
        if source == SAMPLE:
            pass
        elif source.startswith(BUCKET_SCHEME):
            digest.update(f"{state_of(source).generation}".encode())
        else:
            with local_copy(source) as path:
                try:
                    with path.open("rb") as file:
                        digest.update(hashlib.file_digest(file, "sha256").digest())
                except OSError as error:
                    raise StorageError(
                        f"cannot read: {error.strerror}", where=source, fix="check that it exists, and its permissions"
                    ) from error
        return f"part-{digest.hexdigest()[:_DIGITS]}.parquet"

    def standing(self, name: str) -> Part | None:
        """A part that stands already.

        Raises:
            DataError: what has its name is no part.
        """
        return self._part(name) if name in self._names(name) else None

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write a part to, which stands under its name when the block ends well.

        A part that stands by then stays: a worker that was slow, and was taken for dead, changes nothing afterwards.
        """
        with writing(self.address + name, shared=True, first=True) as path:
            yield path

    def keep_rejected(self, name: str, rejected: pd.DataFrame, *, sealed: bool) -> None:
        """The rejected rows of an input, before its part stands; none are no file."""
        if len(rejected):
            with writing(self.address + _REJECTED + name, shared=True) as path:
                write_frame(rejected, path, sealed=sealed)

    def keep_lineage(self, name: str, content: bytes) -> None:
        """The manifest of persons of an input, before its part stands."""
        with writing(self.address + _LINEAGE + name) as path:
            path.write_bytes(content)

    def lineage(self, names: Collection[str] | None = None) -> dict[str, bytes]:
        """Part -> its manifest of persons, of those parts, or of all, that no run has in its own yet."""
        try:
            pending = {name.removeprefix(_LINEAGE) for name in self._names(_LINEAGE)}
        except AbsentError:  # the bucket is gone
            return {}
        return {name: self._content(_LINEAGE + name) for name in sorted(pending) if names is None or name in names}

    def lineage_is_kept(self, names: Collection[str]) -> None:
        """A run has the manifests of persons of these parts."""
        for name in names:
            self._store.remove(_LINEAGE + name)

    def finish(self, sources: Sequence[str], job: str, max_rejected_fraction: float) -> Whole | int:
        """Write the manifest if the part of every input stands; else how many do not.

        Whoever ends last does. Two that both find all there write the same.

        Raises:
            ConfigError: there are parts of other inputs, or two of one.
            DataError: too many rows were rejected, of all.
        """
        names = [name for name in self._names("part-") if PART.fullmatch(name)]
        if len(names) < len(sources):
            return len(sources) - len(names)
        parts = {name: self._part(name) for name in names}
        if foreign := [name for name, part in parts.items() if part.job != job]:
            raise ConfigError(
                f"there are parts of another job: {some(foreign)}",
                where=self.address,
                fix="two jobs began here at the same time: remove the folder, and begin one",
            )
        by_source: dict[str, list[str]] = {}
        for name, part in parts.items():
            by_source.setdefault(part.source, []).append(name)
        if missing := set(sources) - set(by_source):
            return len(missing)
        if others := sorted(set(by_source) - set(sources)):
            raise self._other_inputs(others)
        if double := {source: by_source[source] for source in sources if len(by_source[source]) > 1}:
            raise self._changed_inputs(double)
        whole = Whole(tuple(parts[by_source[source][0]] for source in sources))
        if whole.rejected > max_rejected_fraction * (whole.rows + whole.rejected):
            raise DataError(
                f"{whole.rejected:,} of {whole.rows + whole.rejected:,} rows are rejected, more than "
                f"data.max_rejected_fraction allows ({max_rejected_fraction:g})",
                where=self.rejected_address,
                fix="see there for the reasons; mend the files, or allow more",
            )
        # Of parts that a person removed, since their inputs were changed.
        for name in {name.removeprefix(_REJECTED) for name in self._names(_REJECTED)} - set(names):
            self._store.remove(_REJECTED + name)
        self._write_manifest(whole)
        return whole

    def recount(self) -> None:
        """After rows were taken out of parts or rejected rows: what they say of themselves, and then the manifest.

        Parts whose files hold what they say stay as they are, so that it can be cut off and done again.
        """
        outer = set(self._names("_"))
        if JOB not in outer:
            return
        challenger = self._read(JOB).get("challenger_version")
        for name in self._names("part-"):
            if PART.fullmatch(name):
                self._recount_part(name, outer, challenger)
        if MANIFEST in outer:
            self._write_manifest(Whole(tuple(self._part(line["name"]) for line in self._read(MANIFEST)["parts"])))

    def _recount_part(self, name: str, outer: Collection[str], challenger: str | None) -> None:
        part, before = self._part(name), self._part(name, as_written=True)
        if _REJECTED + name in outer:
            part = replace(part, rejected=self._metadata(_REJECTED + name).num_rows)
        if part == before:
            return
        with local_copy(self.address + name) as path, writing(self.address + name, shared=True) as partial:
            written_anew(path, partial, counted_anew(path, part, challenger))

    def tables(self) -> list[str]:
        """The addresses of all tables: parts, whether or not the data set is whole, and rejected rows."""
        names = [name.removeprefix(_REJECTED) for name in self._names(_REJECTED)]
        parts = [name for name in self._names("part-") if PART.fullmatch(name)]
        return [self.address + name for name in parts] + [f"{self.address}{_REJECTED}{name}" for name in names]

    def _write_manifest(self, whole: Whole) -> None:
        document = {
            "job": self._read(JOB),
            "rows": whole.rows,
            "rejected": whole.rejected,
            **({"labels": dict(whole.counts)} if whole.counts else {}),
            "parts": [part.line() for part in whole.parts],
        }
        with writing(self.address + MANIFEST, shared=True) as path:
            path.write_text(_json(document), encoding="utf-8")

    def _other_inputs(self, others: list[str]) -> ConfigError:
        return ConfigError(
            f"the folder holds parts of {len(others):,} inputs that are not among these: {some(others)}",
            where=self.address,
            fix="name another folder, or give these inputs, too",
        )

    def _changed_inputs(self, double: Mapping[str, Sequence[str]]) -> ConfigError:
        of_now = {self.name_of(source) for source in double}
        old = [name for names in double.values() for name in names if name not in of_now]
        shown = ", ".join(f"{len(names)} parts of {source}" for source, names in double.items())
        return ConfigError(
            f"there are {shown}: {'it was' if len(double) == 1 else 'they were'} changed meanwhile",
            where=self.address,
            fix=f"remove the parts of what stood there before, and begin again: {', '.join(old)}",
        )

    def _names(self, prefix: str = "") -> list[str]:
        return self._store.names(prefix)

    def _content(self, name: str) -> bytes:
        with self._store.reading(name) as source:
            return source.read()

    def _read(self, name: str) -> dict[str, Any]:
        try:
            document = json.loads(self._content(name))
        except ValueError as error:
            raise changed(self.address + name) from error
        if not isinstance(document, dict):
            raise changed(self.address + name)
        return document

    def _part(self, name: str, *, as_written: bool = False) -> Part:
        """A part with the rows that it has; or with those that it was written with."""
        where = self.address + name
        try:
            known = self._metadata(name)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError("this part is damaged", where=where, fix="remove it, and begin again") from error
        part = Part.of(known.metadata or {}, where)
        return part if as_written else replace(part, rows=known.num_rows)

    def _metadata(self, name: str) -> Any:
        if not self.address.startswith(BUCKET_SCHEME):
            with parquet_file(local_path(self.address) / name) as file:
                return file.metadata
        with self._store.reading(name) as source:
            if source.read(4) != b"PARE":
                # Some thousand bytes at its end, not the whole object.
                return pq.ParquetFile(source).metadata
        with scratch() as folder:
            self._store.download(name, folder / name)
            with parquet_file(folder / name) as file:
                return file.metadata


def _json(document: Mapping[str, Any]) -> str:
    return in_utf8(json.dumps(document, ensure_ascii=False, indent=1)) + "\n"
