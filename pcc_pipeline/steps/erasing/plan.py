"""What an erasure will do: all that is held of the persons, and everything that learned from it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.parquet as pq

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.contract import TEXT
from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.errors import PccError
from pcc_pipeline.persons import documents
from pcc_pipeline.persons.holds import Holds
from pcc_pipeline.persons.rows import count_in, rows_of
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.holdings import Holdings, Trace, is_table, under_way
from pcc_pipeline.steps.erasing.published import published_as
from pcc_pipeline.steps.erasing.tables import is_there, kinds_here, tables_of
from pcc_pipeline.steps.erasing.telling.vocabulary import JOBS, file_here, job
from pcc_pipeline.steps.inputs.caches import cache_places
from pcc_pipeline.steps.inputs.datasets import progress_bar, read
from pcc_pipeline.steps.records.persons import READING_STEPS
from pcc_pipeline.storage.objects import local_copy
from pcc_pipeline.tracking.registry.erased import model_is_there
from pcc_pipeline.tracking.runs import SPLIT_FILE
from pcc_pipeline.tracking.store.manifests import KEY_TAG, versions_from
from pcc_pipeline.tracking.store.past_runs import RecordedRun, runs_tagged
from pcc_pipeline.tracking.store.run_files import RunFiles

LEARNED = ("train", "validation")
_ID_DIGITS = 12
# What an alias means to who has never seen the registry; of several the first one says it all.
_ALIASES = {"champion": "in use", "challenger": "candidate, not in use", "previous": "in use before"}


@dataclass(frozen=True)
class RunPart:
    """What is taken out of the files of a run.

    Attributes:
        rows: side -> rows that the run read of the persons.
        tables, documents: file -> rows or entries of theirs.
        split: the run keeps a record of a split that has their rows; `split_lines`: how many lines of it are theirs.
    """

    run_id: str
    step: str
    version: str
    rows: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)
    split: bool = False
    split_lines: int = 0


@dataclass(frozen=True)
class LearnedVersion:
    """A training that learned from their rows, and the version that it made.

    Attributes:
        name, number: empty where none is registered.
        rows: of theirs that it learned from.
        action: replace (trained again without them, then removed), remove, or note: it stays.
        held: why it must stay, where it is held.
    """

    run_id: str
    name: str
    number: str
    pcc_version: str
    aliases: Sequence[str]
    published: Sequence[str]
    rows: int
    action: str
    held: str = ""

    @property
    def title(self) -> str:
        """As a person reads it."""
        return ", ".join(filter(None, [self.called, self.use]))

    @property
    def called(self) -> str:
        """Its name and number."""
        never = f"a model without a name, of the training {self.run_id[:8]}"
        return f"the model {self.name} version {self.number} ({self.pcc_version})" if self.name else never

    @property
    def use(self) -> str:
        """Whether it is in use, in words; empty where nothing says so."""
        return _ALIASES.get(self.alias, f"called {self.alias}") if self.alias else ""

    @property
    def alias(self) -> str:
        """What the registry calls it; of several names the one that says most of its use."""
        return next((alias for alias in (*_ALIASES, *self.aliases) if alias in self.aliases), "")


@dataclass(frozen=True)
class Plan:
    """All of it. It names nobody.

    Attributes:
        subjects, cases: how many were asked for.
        copies: file on this machine or in a bucket -> rows of theirs; `kinds`: what each is, see `tables.kinds_of`.
        pages: page or JSON file on this machine that the last evaluation wrote -> entries of theirs.
        vectors: of their texts in the cache; None where their texts are not known, so that all of it goes.
        inputs: file -> rows of theirs: the owner's, which are never changed.
        elsewhere: copies that runs wrote and that are not on this machine.
        unseen: what could not be looked into, in words.
        unknown: how many of those who were asked for nobody has as they are written.
    """

    policy: str
    subjects: int
    cases: int
    runs: Sequence[RunPart]
    learned: Sequence[LearnedVersion]
    copies: Mapping[str, int]
    vectors: int | None
    inputs: Mapping[str, int]
    elsewhere: Sequence[str]
    unseen: Sequence[str]
    unknown: int = 0
    kinds: Mapping[str, str] = field(default_factory=dict)
    pages: Mapping[str, int] = field(default_factory=dict)

    @property
    def holds_nothing(self) -> bool:
        """Whether there is nothing to remove."""
        return not (self.runs or self.learned or self.copies or self.pages or self.inputs)

    @property
    def rows_of_runs(self) -> int:
        """Rows and entries that are taken out of files of runs."""
        return sum(sum(part.tables.values()) + sum(part.documents.values()) for part in self.runs)

    @property
    def lines_of_splits(self) -> int:
        """Lines that are taken out of the records of splits."""
        return sum(part.split_lines for part in self.runs)

    @property
    def rows_here(self) -> int:
        """Rows and entries that are taken out of files outside of MLflow."""
        return sum(self.copies.values()) + sum(self.pages.values())

    def document(self) -> dict[str, Any]:
        """For machines."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return] # of a dict of plain values

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Plan:
        """Of what `document` gave."""
        return cls(
            **{
                **document,
                # Earlier versions of this program kept the numbers of their rows as well, which nothing needs.
                "runs": [
                    RunPart(**{name: each[name] for name in each if name != "lines"}) for each in document["runs"]
                ],
                "learned": [LearnedVersion(**each) for each in document["learned"]],
            }
        )

    def id_for(self, persons: Sought) -> str:
        """Of this plan for these persons: it changes with whatever is held of them."""
        digest = sha256(json.dumps([self.document(), persons.document()], sort_keys=True).encode())
        return digest.hexdigest()[:_ID_DIGITS]


@dataclass(frozen=True)
class Numbers:
    """How many persons and cases were asked for, and how many of these nobody has as they are written."""

    subjects: int
    cases: int
    unknown: int = 0


@dataclass(frozen=True)
class Before:
    """What earlier erasures of the persons left.

    Attributes:
        plans: of these; where they were, rows may be back.
        kept: versions that learned from their rows and that a hold kept, or that were made after it.
    """

    plans: Sequence[Plan] = ()
    kept: Sequence[LearnedVersion] = ()


def make_plan(
    params: Params, known: Holdings, numbers: Numbers, holds: Holds, before: Before, unsent: Sequence[str] = ()
) -> Plan:
    """Look everywhere for what is held of the persons.

    Args:
        holds: on versions; that nobody of the persons is held was asked before.
        unsent: why MLflow was not told all that runs kept for it.

    Raises:
        DataError: a table or manifest is damaged.
        TrackingError: MLflow does not answer.
    """
    scan = Scan(params, known, before.plans)
    copies = scan.copies()
    runs = scan.runs()
    policy = params.registry.erasure_policy
    learned = [
        _unless_held(_with_folders(version, params), holds)
        for trace in known.traces
        for version in _learned(trace, policy)
    ]
    known_numbers = {(each.run_id, each.name, each.number) for each in learned}
    learned += [
        _unless_held(_with_folders(version, params), holds)
        for version in map(partial(_as_it_stands, policy=policy), before.kept)
        if (version.run_id, version.name, version.number) not in known_numbers
    ]
    inputs: Counter[str] = Counter()
    for trace in known.traces:
        read_by_it: Counter[str] = Counter()
        for (_, file), rows in trace.places.items():
            read_by_it[file] += len(rows)
        inputs |= read_by_it
    texts = texts_of(params, known.persons, inputs, copies)
    caches = cache_places(params)
    vectors = None
    if texts is not None or not caches:
        vectors = sum(cache.count([*map(text_key, texts or ())]) for cache in caches)
    return Plan(
        policy=params.registry.erasure_policy,
        subjects=numbers.subjects,
        cases=numbers.cases,
        runs=runs,
        learned=_with_replacements(learned),
        copies={path: rows for path, rows in copies.items() if rows},
        vectors=vectors,
        inputs={file: rows for file, rows in sorted(inputs.items()) if file not in copies},
        elsewhere=sorted(_elsewhere(known.traces)),
        unseen=[*_under_way(known), *_unseen(known), *scan.unseen, *unsent, *_unseen_copies(params)],
        unknown=numbers.unknown,
        kinds={path: scan.kinds[path] for path, rows in copies.items() if rows and path in scan.kinds},
        pages=scan.pages(),
    )


class Scan:
    """The files of runs that may hold rows of the persons, or name their cases.

    Args:
        earlier: plans of their earlier erasures, whose runs and files are looked at as well.

    Attributes:
        kinds: table outside of MLflow -> what it is, once `copies` was called.
    """

    def __init__(self, params: Params, known: Holdings, earlier: Sequence[Plan] = ()) -> None:
        self._known, self._column = known, params.data.subject_column
        self._pages = [params.output.report, params.output.metrics]
        self.kinds: dict[str, str] = {}
        self._traces = {trace.run.run_id: trace for trace in known.traces}
        every = [run for run in runs_tagged("pcc.step") if run.step in (*READING_STEPS, "promote")]
        without = [run for run in every if KEY_TAG not in run.tags and run.step in READING_STEPS]
        trained = {run_id for run_id, trace in self._traces.items() if trace.run.step == "train"}
        about = [run for run in every if run.tags.get("pcc.training_run") in trained]
        before = {part.run_id for plan in earlier for part in plan.runs}
        cleaned = [run for run in every if run.run_id in before]
        runs = [*(trace.run for trace in known.traces), *without, *about, *cleaned]
        self._cleaned = [address for plan in earlier for address in plan.copies]
        for plan in earlier:
            self.kinds |= plan.kinds
        self._runs = list({run.run_id: run for run in runs}.values())
        # Those whose tables outside of MLflow may hold rows of the persons.
        self._writers = list({run.run_id: run for run in (*(trace.run for trace in known.traces), *without)}.values())
        working = under_way(without)
        blind = Counter(run.step for run in without if run not in working)
        said = "jobs that left no coded list of whose rows they read"
        learned = "; whether the trainings learned from these rows is not known" if blind["train"] else ""
        self.unseen = [f"{said} ({_counts(blind)}): what they wrote was searched by case id{learned}"] if blind else []
        if working:
            said = "jobs under way that have left no coded list yet of whose rows they read"
            steps = Counter(run.step for run in working)
            self.unseen.append(f"{said} ({_counts(steps)}): look again once they have ended, with pcc erase --verify")

    def runs(self) -> list[RunPart]:
        """What each run's files hold of them; runs whose files hold nothing are left out."""
        parts = []
        with progress_bar(len(self._runs), "look through the files of runs") as bar:
            for run in self._runs:
                parts.append(self._part(run))
                bar.update()
        return [part for part in parts if part.rows or part.tables or part.documents]

    def copies(self) -> dict[str, int]:
        """Table that a run wrote outside of MLflow -> the persons' rows in it.

        Raises:
            DataError: one is damaged.
            StorageError: a bucket cannot be read.
        """
        counts = {}
        tables = kinds_here(self._writers)
        self.kinds |= tables
        for address in dict.fromkeys([*tables, *filter(is_there, self._cleaned)]):
            with local_copy(address) as path:
                counts[address] = count_in(path, self._known.persons, self._column)
        return counts

    def pages(self) -> dict[str, int]:
        """Page or JSON file that the last evaluation left on this machine -> the persons' entries in it."""
        files = {name: local_path(name) for name in self._pages}
        counts = {
            name: entries_of(path, self._known.persons)
            for name, path in files.items()
            if path.is_file() and path.suffix in documents.SUFFIXES
        }
        return {name: entries for name, entries in counts.items() if entries}

    def _part(self, run: RecordedRun) -> RunPart:
        trace, files = self._traces.get(run.run_id), RunFiles(run.run_id)
        there = files.names()
        tables, entries = held_in(files, there, self._known.persons, self._column)
        rows: Counter[str] = Counter()
        for (side, _), some in trace.places.items() if trace else ():
            rows[side] += len(some)
        lines = 0
        if split := trace is not None and run.step == "train" and SPLIT_FILE in there:
            with files.fetched(SPLIT_FILE) as path:
                # Lines of the manifest that follow are of rejected rows, and of a test file.
                lines = sum(line < _rows_in(path) for line in trace.lines)
        return RunPart(run.run_id, run.step, run.pcc_version, dict(rows), tables, entries, split, lines)


def _counts(steps: Counter[str]) -> str:
    return ", ".join(counted(number, JOBS[step]) for step, number in sorted(steps.items()))


def _rows_in(path: Path) -> int:
    """The rows of a table; of one that is damaged, which is told of where it is read, none."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError):
        return 0


def held_in(
    files: RunFiles, names: Iterable[str], persons: Sought, subject_column: str | None
) -> tuple[dict[str, int], dict[str, int]]:
    """File of a run -> the persons' rows in tables; and -> their entries in pages and JSON files.

    Raises:
        DataError: a table is damaged.
        TrackingError: MLflow does not answer.
    """
    tables, entries = dict[str, int](), dict[str, int]()
    for name in names:
        if is_table(name):
            with files.fetched(name) as path:
                if rows := count_in(path, persons, subject_column):
                    tables[name] = rows
        elif PurePosixPath(name).suffix in documents.SUFFIXES:
            with files.fetched(name) as path:
                if removed := entries_of(path, persons):
                    entries[name] = removed
    return tables, entries


def entries_of(path: Path, persons: Sought) -> int:
    """How many entries of theirs a page or JSON file has; 0 of a file that is none."""
    try:
        return without_theirs(path, persons)[1]
    except ValueError:  # another program's, under a name like ours
        return 0


def without_theirs(path: Path, persons: Sought) -> tuple[str, int]:
    """A page or JSON file without their entries, and how many these are.

    Raises:
        ValueError: it is none.
    """
    content = path.read_text(encoding="utf-8")
    names = persons.named(documents.cases_in(content, path.suffix))
    return documents.without_cases(content, path.suffix, names) if names else (content, 0)


def texts_of(params: Params, persons: Sought, inputs: Mapping[str, int], copies: Mapping[str, int]) -> set[str] | None:
    """The persons' texts; None where a file that had some is gone, was changed, or names neither cases nor subjects."""
    texts: set[str] = set()
    column = params.data.subject_column
    for file, rows in copies.items():
        if rows and is_there(file):
            with local_copy(file) as path:
                part = rows_of(path, persons, column)
            texts |= {str(text) for text in part[TEXT]} if TEXT in part else set()
    for address, rows in inputs.items():
        seen = 0
        try:
            for batch in read(address, one=is_there(address), may_be_empty=True):
                hit = persons.in_table(batch, column)
                seen += int(hit.sum())
                if TEXT in batch:
                    texts |= {str(text) for text in batch[TEXT][hit]}
        except (PccError, OSError):
            return None
        if seen < rows:
            return None
    return texts


def with_holds(plan: Plan, holds: Holds) -> Plan:
    """The plan without the removal of versions that were held since it was made."""
    return replace(plan, learned=[_unless_held(version, holds) for version in plan.learned])


def with_champions(plan: Plan, champions: Mapping[str, str]) -> Plan:
    """The plan with what is champion now: a version that became it since the plan was made is replaced.

    Args:
        champions: model -> its champion; the others' stay as they are.
    """
    new = {each.name for each in plan.learned if champions.get(each.name) == each.number and not _is_champion(each)}
    learned = [each if each.name not in new else _again(each, champions[each.name]) for each in plan.learned]
    return replace(plan, learned=_with_replacements(learned)) if new else plan


def _again(version: LearnedVersion, champion: str) -> LearnedVersion:
    """As before it was settled which one of its model is replaced."""
    aliases = [alias for alias in version.aliases if alias != "champion"]
    action = "remove" if version.action == "replace" else version.action
    return replace(version, aliases=["champion", *aliases] if version.number == champion else aliases, action=action)


def _is_champion(version: LearnedVersion) -> bool:
    return "champion" in version.aliases


def _with_folders(version: LearnedVersion, params: Params) -> LearnedVersion:
    return replace(version, published=published_as(params, version.run_id, version.published))


def _unless_held(version: LearnedVersion, holds: Holds) -> LearnedVersion:
    hold = holds.keeping(version.name, version.number, version.run_id)
    return version if hold is None else replace(version, action="note", held=hold.words)


def made_since(plan: Plan) -> list[LearnedVersion]:
    """What trainings that had read rows of the persons made after the plan, such as one that was under way elsewhere.

    By their manifests nobody finds these any more, once they are erased.

    Raises:
        TrackingError: MLflow does not answer.
    """
    known = {(each.run_id, each.name, each.number) for each in plan.learned}
    made = list[LearnedVersion]()
    for part in plan.runs:
        rows = sum(part.rows.get(side, 0) for side in LEARNED)
        if part.step != "train" or not rows:
            continue
        versions = versions_from(part.run_id)
        made += [
            LearnedVersion(
                part.run_id, each.name, each.number, each.pcc_version, each.aliases, each.published, rows, "remove"
            )
            for each in versions
            if (part.run_id, each.name, each.number) not in known
        ]
        if not versions and (part.run_id, "", "") not in known and model_is_there(part.run_id):
            made.append(LearnedVersion(part.run_id, "", "", part.version, (), (), rows, "remove"))
    return made


def _as_it_stands(version: LearnedVersion, policy: str) -> LearnedVersion:
    """A version of an earlier plan, with what the registry has of it now."""
    action = "note" if policy == "note" else "remove"
    if not version.name:
        return replace(version, action=action, held="")
    its = (version.name, version.number)
    made = next(each for each in versions_from(version.run_id) if (each.name, each.number) == its)
    return replace(version, aliases=made.aliases, published=made.published, action=action, held="")


def _learned(trace: Trace, policy: str) -> Iterator[LearnedVersion]:
    if trace.run.step != "train":
        return
    rows = sum(len(some) for (side, _), some in trace.places.items() if side in LEARNED)
    if not rows:
        return
    action, run = "note" if policy == "note" else "remove", trace.run
    for made in trace.made:
        yield LearnedVersion(
            run.run_id, made.name, made.number, made.pcc_version, made.aliases, made.published, rows, action
        )
    # A training that was cut off made none, and that of a version which was removed is a record alone.
    if not trace.made and model_is_there(run.run_id):
        yield LearnedVersion(run.run_id, "", "", run.pcc_version, (), (), rows, action)


def _with_replacements(learned: Sequence[LearnedVersion]) -> list[LearnedVersion]:
    """The champion of each model is replaced; where that did not learn from the rows, the challenger."""
    replaced: dict[str, LearnedVersion] = {}
    for alias in ("challenger", "champion"):
        replaced |= {each.name: each for each in learned if alias in each.aliases}
    return [
        replace(each, action="replace") if each.action == "remove" and replaced.get(each.name) is each else each
        for each in learned
    ]


def _elsewhere(traces: Iterable[Trace]) -> Iterator[str]:
    for trace in traces:
        for address in tables_of(trace.run):
            if is_there(address):
                continue
            # Label issues are written only where there were some.
            name = PurePosixPath(address).name
            if trace.run.step == "train" and name not in RunFiles(trace.run.run_id).names():
                continue
            yield f"{file_here(address)}, of {job(trace.run.step, trace.run.run_id)}"


def _under_way(known: Holdings) -> Iterator[str]:
    """What would come of their rows after all was looked through."""
    for run in under_way(trace.run for trace in known.traces):
        yield (
            f"what {job(run.step, run.run_id)} makes, which has read rows of theirs and is under way: let it end, or "
            "end it, and make this plan again; until then it is not carried out"
        )


def _unseen(known: Holdings) -> list[str]:
    absent = sum(known.absent.values())
    return [
        *([f"{counted(absent, 'job')} whose coded lists are of a key that is not here"] if absent else []),
        *([f"{counted(known.gone, 'job')} whose files were removed"] if known.gone else []),
    ]


def _unseen_copies(params: Params) -> list[str]:
    """Of the shared cache; its server alone can write those anew."""
    address = params.document()["preprocessing"]["cache"]
    if address is None:
        return []
    return [
        f"what the shared store of numbers ({address}) saved to its disk before, its logs and its copies (replicas): "
        "ask whoever runs it to have it save anew"
    ]
