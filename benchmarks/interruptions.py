"""Ends steps by signals at random moments, once and twice, and looks whether all is as it should be afterwards.

    python -m benchmarks.interruptions --times 100                      on SQLite
    python -m benchmarks.interruptions --times 100 --server             on the server of MLFLOW_TRACKING_URI
    python -m benchmarks.interruptions --times 20 --phase registering   one phase

Run by hand; `tests/pipeline/test_interruptions.py` does a few of each phase. A process that has imported everything is
forked for each step, so that one takes a second or two: the forked child runs the entry point's own `main`, in a
session of its own, and ends as a program ends. Where a phase is short the child says when it begins, and the signal
comes at a random moment of the given time after it. Looked at are: exit code, runs and the runs within them, aliases,
locks, the database's lock, processes, temporary files, half-written outputs, the publication, and what the terminal
says. Not to be run under `nohup`: steps leave a SIGHUP ignored that was ignored when they began.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from pcc_pipeline.command_line.running import leave

REPOSITORY = Path(__file__).parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MODEL = "pcc-interrupted"
# Modules that a step imports on its way; imported before the forks, they cost nothing in each.
_IMPORTED = (
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "sqlalchemy",
    "skops.io",
    "sklearn.linear_model",
    "sklearn.ensemble",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "pandas",
    "pyarrow.parquet",
    "loky",
    "pcc_pipeline.steps.pipeline",
    "pcc_pipeline.manage.queries",
    "pcc_pipeline.manage.decisions",
    "pcc_pipeline.steps.score",
    "pcc_pipeline.manage.resume",
    "pcc_pipeline.encoder.sentence_encoder",
    "embed",
    "main",
    "monitor",
    "score",
    "train",
    "evaluate",
    "promote",
    "manage_models",
)
_END_OF_A_STEP = 120.0
_MODULES = "modules.txt"
_ROWS, _TEXTS = "cases.parquet", "texts.parquet"


@dataclass(frozen=True)
class Phase:
    """What is interrupted.

    Attributes:
        entry: the entry point, with its arguments.
        begins: `module:name` of the function whose call begins the phase; empty for the whole step.
        lasts: seconds after the beginning in which the signal comes; 0 for as long as an undisturbed step takes.
        data: the file that it reads: rows with vectors, or texts alone, which are encoded; empty for none.
    """

    entry: str
    arguments: tuple[str, ...]
    begins: str = ""
    lasts: float = 0.0
    data: str = _ROWS


_SEARCH = ("--search-method", "grid", "--set", "search.n_jobs=2")
_TRAIN = ("--search-method", "none")
# Whatever came before, this moves the champion.
_PROMOTE = ("--model", f"models:/{MODEL}@previous", "--force", "true", "--reason", "interrupted")
PHASES = {
    "everything": Phase("main", ("--promote", "auto", *_TRAIN)),
    "training": Phase("train", _TRAIN),
    "starting": Phase("train", _TRAIN, "pcc_pipeline.tracking.runs:start", 0.2),
    "searching": Phase("train", _SEARCH, "pcc_pipeline.search.pools.workers:WorkerPool.run_all", 3.0),
    "registering": Phase("train", _TRAIN, "pcc_pipeline.tracking.delivery.writer:Writer.demand", 0.8),
    "closing": Phase("train", _TRAIN, "pcc_pipeline.tracking.runs:_close", 0.15),
    "evaluating": Phase("evaluate", (), data=""),
    "promoting": Phase("promote", _PROMOTE, "pcc_pipeline.tracking.registry.champion:promote", 0.3, ""),
    "publishing": Phase("promote", _PROMOTE, "pcc_pipeline.steps.promote:publish_champion", 0.4, ""),
    "rolling back": Phase(
        "promote", ("--rollback", "true"), "pcc_pipeline.tracking.registry.champion:roll_back", 0.5, ""
    ),
    "embedding": Phase("embed", ("--set", "preprocessing.cache_dir=null"), data=_TEXTS),
    "scoring": Phase("score", ()),
    "monitoring": Phase("monitor", ()),
}


@dataclass(frozen=True)
class Seen:
    """A store at one moment: run id -> (status, step, parent, error, action); alias -> run id of its version."""

    runs: Mapping[str, tuple[str, str, str, str, str]]
    aliases: Mapping[str, str]
    locks: tuple[str, ...]


def _is_lock(tag: str) -> bool:
    """Whether a registered model's tag is a place in a queue, or the beat of who has one."""
    return "turn." in tag or "beat." in tag


class Store(Protocol):
    """Where runs are kept, read beside MLflow's client."""

    @property
    def environment(self) -> Mapping[str, str]: ...
    def look(self) -> Seen: ...
    def faults(self) -> Iterator[str]: ...


class Database:
    """An SQLite database, read beside MLflow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{path}"}

    def look(self) -> Seen:
        with contextlib.closing(sqlite3.connect(self._path, timeout=5)) as database:
            tags: dict[str, dict[str, str]] = {}
            for run, key, value in database.execute("SELECT run_uuid, key, value FROM tags"):
                tags.setdefault(run, {})[key] = value
            runs = {
                run: _run(status, tags.get(run, {}))
                for run, status in database.execute("SELECT run_uuid, status FROM runs")
            }
            aliases = database.execute(
                "SELECT a.alias, v.run_id FROM registered_model_aliases a JOIN model_versions v "
                "ON v.name = a.name AND v.version = a.version"
            )
            tags_of_models = [key for (key,) in database.execute("SELECT key FROM registered_model_tags")]
            return Seen(runs, dict(aliases), tuple(filter(_is_lock, tags_of_models)))

    def faults(self) -> Iterator[str]:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=0.5, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            yield f"the database is not free: {error}"


class Server:
    """A tracking server, asked by its REST interface; no client of MLflow's lives in the process that is forked."""

    def __init__(self, environment: Mapping[str, str], experiment: str) -> None:
        names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        self.environment = {name: environment[name] for name in names if name in environment}
        self.environment = {**self.environment, "MLFLOW_EXPERIMENT_NAME": experiment}
        self._experiment = experiment

    def look(self) -> Seen:
        reply = self._ask("experiments/get-by-name", experiment_name=self._experiment)
        runs: dict[str, tuple[str, str, str, str, str]] = {}
        token = ""
        while reply:
            body = {"experiment_ids": [reply["experiment"]["experiment_id"]], "max_results": 1000, "page_token": token}
            page = self._ask("runs/search", body)
            for run in page.get("runs", []):
                tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
                runs[run["info"]["run_id"]] = _run(run["info"]["status"], tags)
            token = page.get("next_page_token", "")
            if not token:
                break
        models = self._ask("registered-models/search", max_results=1000).get("registered_models", [])
        aliases = {}
        for alias in next((model.get("aliases", []) for model in models if model["name"] == MODEL), []):
            version = self._ask("model-versions/get", name=MODEL, version=alias["version"])["model_version"]
            aliases[alias["alias"]] = version["run_id"]
        tags_of_models = [tag["key"] for model in models for tag in model.get("tags", []) if model["name"] == MODEL]
        return Seen(runs, aliases, tuple(filter(_is_lock, tags_of_models)))

    def faults(self) -> Iterator[str]:
        return iter(())

    def _ask(self, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        address = f"{self.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/{path}"
        if query:
            address += "?" + urllib.parse.urlencode(query)
        request = urllib.request.Request(address, None if body is None else json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        account = ":".join(self.environment.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
        request.add_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return {}
            raise


def _run(status: str, tags: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    names = ("pcc.step", "mlflow.parentRunId", "pcc.error", "pcc.action")
    step, parent, error, action = (tags.get(name, "") for name in names)
    return status, step, parent, error, action


@dataclass
class Ended:
    """A step that was started, and how it ended.

    Attributes:
        code: as a shell gives it, or minus the signal that killed the process.
        sent: the signals that were sent to it, before it ended.
    """

    code: int
    said: str
    sent: tuple[signal.Signals, ...]
    seconds: float
    group: int


@dataclass
class Harness:
    """One folder with one store, in which steps run one after another.

    Attributes:
        folder: empty; gets the data, the outputs and what the steps say.
    """

    folder: Path
    store: Store
    seed: int = 0
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # moments, no secrets
        self._temporary = self.folder / "temporary"
        self._temporary.mkdir()
        (self.folder / "params.yaml").write_text(
            f"registry: {{model_name: {MODEL}, gates: [], publish: {{target: published}}}}\n"
            "model: {cv_folds: 2, hyperparameters: {max_iter: 60}, search_space: {C: [0.1, 10]}}\n"
        )
        self._durations: dict[str, float] = {}
        self._seen: Seen | None = None  # the store as it is, where nothing was run since it was looked at

    def prepare(self) -> None:
        """Rows with vectors, so that no encoder is needed, and two versions, one of them champion."""
        _forked(lambda: _write_rows(self.folder))
        self.undisturbed("everything")
        # What it imported on its way is there for all forks that follow.
        for name in (self.folder / _MODULES).read_text().split("\n"):
            if name not in sys.modules:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        self.undisturbed("everything")

    def undisturbed(self, name: str) -> None:
        ended = self.run(PHASES[name], ())
        self._seen = None
        assert ended.code == 0, f"{name} fails undisturbed: {ended.said}"
        self._durations[name] = ended.seconds
        self.faults += [f"{name}, undisturbed: {fault}" for fault in self._leftovers(ended)]

    def interrupt(self, name: str, twice: bool) -> None:
        """Interrupt a phase once, or twice, and note what is not right afterwards."""
        phase = PHASES[name]
        if not phase.lasts and name not in self._durations:
            # The first time files and libraries are read from the disk, and it lasts longer than any other.
            for _ in range(2):
                self.undisturbed(name)
        before = self._seen or self.store.look()
        kinds = self._random.choices(SIGNALS, k=2 if twice else 1)
        lasts = phase.lasts or 1.05 * self._durations[name]
        waits = [self._random.uniform(0, lasts), *([self._random.uniform(0, 0.4)] if twice else [])]
        ended = self.run(phase, tuple(zip(kinds, waits, strict=True)))
        shown = " then ".join(f"{kind.name} after {wait:.2f} s" for kind, wait in zip(kinds, waits, strict=True))
        after = self._seen = self.store.look()
        faults = [*self._leftovers(ended), *self.store.faults(), *_contradictions(ended, before, after)]
        self.counts[f"{name}: {'twice' if twice else 'once'}"] += 1
        self.counts[f"{name}: exit code {ended.code}"] += 1
        if faults:
            log = self.folder / f"fault-{len(self.faults)}.log"
            log.write_text(ended.said)
            for fault in faults:
                self.faults.append(f"{name}, {shown}: {fault} ({log.name})")
                print(self.faults[-1], flush=True)

    def run(self, phase: Phase, signals: Sequence[tuple[signal.Signals, float]]) -> Ended:
        reading, writing = os.pipe()
        log = self.folder / "said.log"
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            self._child(phase, log, writing)
        os.close(writing)
        os.read(reading, 1)  # the phase has begun, or the process has ended
        os.close(reading)
        sent = []
        for kind, wait in signals:
            time.sleep(wait)
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
            os.kill(pid, kind)
            sent.append(kind)
        until = time.monotonic() + _END_OF_A_STEP
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGABRT)  # faulthandler shows where it hangs
                self.faults.append(f"{phase.entry} does not end")
                break
            time.sleep(0.02)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, log.read_text(errors="replace"), tuple(sent), time.monotonic() - began, pid)

    def _child(self, phase: Phase, log: Path, writing: int) -> None:
        """The step, in a process that ends as a program does: this does not return."""
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in the background without
        os.chdir(self.folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115 # to the end of the process
        import faulthandler

        faulthandler.enable()
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PCC_"))]:
            del os.environ[name]
        os.environ.update(self.store.environment)
        os.environ["TMPDIR"] = tempfile.tempdir = str(self._temporary)

        def begin() -> None:
            with contextlib.suppress(OSError):
                os.write(writing, b".")

        if phase.begins:
            _call_before(phase.begins, begin)
        else:
            begin()
        data = ("--data", phase.data) if phase.data else ()
        code = importlib.import_module(phase.entry).main(["--params-file", "params.yaml", *data, *phase.arguments])
        (self.folder / _MODULES).write_text("\n".join(sys.modules))
        leave(code)

    def _leftovers(self, ended: Ended) -> Iterator[str]:
        """What no step may leave, however it ends."""
        until = time.monotonic() + 5
        while processes := [process for process in psutil.process_iter() if _session(process) == ended.group]:
            if time.monotonic() > until:
                yield f"processes go on: {[process.cmdline()[-3:] for process in processes]}"
                for process in processes:
                    process.kill()
                break
            time.sleep(0.05)
        if left := sorted(path.name for path in self._temporary.iterdir()):
            yield f"temporary files stay: {left}"
            shutil.rmtree(self._temporary)
            self._temporary.mkdir()
        outputs = self.folder / "outputs"
        if left := sorted(str(path) for path in outputs.rglob(".partial-*")):
            yield f"half-written outputs stay: {left}"
        if (outputs / "unlogged").exists():
            yield "something was kept though MLflow was there"
        published = self.folder / "published"
        for folder in sorted(published.iterdir()) if published.exists() else ():
            if folder.name.startswith(".") or not (folder / "metadata.json").is_file():
                yield f"half a publication stays: {folder.name}"
                shutil.rmtree(folder)


def _contradictions(ended: Ended, before: Seen, after: Seen) -> Iterator[str]:
    """What the store, the exit code and the terminal say that does not go together."""
    said, new = ended.said, {run: facts for run, facts in after.runs.items() if run not in before.runs}
    if after.locks:
        yield f"a lock stays: {after.locks}"
    if "Traceback" in said or "Exception ignored" in said:
        yield "the terminal shows a traceback"
    interrupted = ended.code in {128 + kind for kind in ended.sent}
    if not interrupted and not (ended.code == 0 or (not new and -ended.code in ended.sent)):
        yield f"exit code {ended.code}"
    if interrupted != ("ended from outside (SIG" in said):
        yield f"exit code {ended.code}, and the terminal says something else"
    for run, (status, step, _, error, _) in new.items():
        if (status, bool(error)) not in (("FINISHED", False), ("KILLED", True)):
            yield f"the run {run} ({step}) is {status} with the error {error!r}"
        if error and error not in {f"ended from outside ({kind.name})" for kind in ended.sent}:
            yield f"the run {run} ({step}) has the error {error!r}"
        if (status == "KILLED") != (f"the run {run} ({step}) is closed as KILLED" in said):
            yield f"the run {run} ({step}) is {status}, and the terminal does not say so"
        if f"the run {run} ({step}) had done its work" in said and status != "FINISHED":
            yield f"the run {run} ({step}) had done its work, and is {status}"
    if "could not be closed" in said or "could not be told" in said or "MLflow is away" in said:
        yield "the terminal says that MLflow was away"
    if ended.code == 0 and any(status != "FINISHED" for status, *_ in new.values()):
        yield "exit code 0 with a run that is not FINISHED"
    challenger, champion, previous = (after.aliases.get(name, "") for name in ("challenger", "champion", "previous"))
    if challenger != before.aliases.get("challenger") and after.runs[challenger][0] != "FINISHED":
        yield f"challenger moved to the run {challenger}, which is {after.runs[challenger][0]}"
    moved = (champion, previous) != (before.aliases.get("champion", ""), before.aliases.get("previous", ""))
    recorded = [action for *_, action in new.values() if action in ("promoted", "forced", "rolled back")]
    if moved and not recorded:
        yield "champion or previous moved, and no run says so"
    if moved and champion != before.aliases.get("champion") and previous != before.aliases.get("champion", ""):
        yield "previous is not the champion before this one"


def _session(process: psutil.Process) -> int:
    try:
        return 0 if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return 0


def _call_before(place: str, call: Callable[[], None]) -> None:
    module_name, _, path = place.partition(":")
    owner: object = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)

    def replaced(*arguments: Any, **options: Any) -> Any:
        call()
        return function(*arguments, **options)

    setattr(owner, name, replaced)


def _write_rows(folder: Path) -> None:
    import numpy as np

    from pcc_pipeline.data.sample.messages import sample

    rows = sample(240)
    random_state = np.random.default_rng(0)
    labels = sorted(set(rows["intent"]))
    centres = random_state.normal(size=(len(labels), 584))
    vectors = [centres[labels.index(label)] + random_state.normal(size=584) * 2 for label in rows["intent"]]
    rows.to_parquet(folder / _TEXTS, index=False)
    with_vectors = rows.assign(embeddings=[vector.astype(np.float32).tolist() for vector in vectors])
    with_vectors.to_parquet(folder / _ROWS, index=False)


def _forked(work: Callable[[], None]) -> None:
    """Do something in a forked child, so that this process keeps neither threads nor connections of it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # a forked child must not go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "see above"


def import_everything() -> None:
    """What a step imports, so that the forks need not."""
    if str(REPOSITORY / "entrypoints") not in sys.path:
        sys.path.insert(0, str(REPOSITORY / "entrypoints"))
    for name in _IMPORTED:
        importlib.import_module(name)
    # MLflow reads the records of all installed packages, once in a process, before it logs a model.
    from mlflow.utils.requirements_utils import _init_packages_to_modules_map

    _init_packages_to_modules_map()
    import matplotlib.font_manager  # noqa: F401 # reads the list of fonts


def new_database(folder: Path) -> Database:
    """An SQLite store without runs."""

    def make() -> None:
        from mlflow import MlflowClient

        os.chdir(folder)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    _forked(make)
    return Database(folder / "mlflow.db")


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100, help="of each phase; every other is interrupted twice")
    parser.add_argument("--phase", action="append", choices=tuple(PHASES), help="default: all; repeatable")
    parser.add_argument("--server", action="store_true", help="on the server of MLFLOW_TRACKING_URI")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="empty; default: a temporary one, removed at the end")
    options = parser.parse_args()
    import_everything()
    with contextlib.ExitStack() as stack:
        folder, own = options.folder or Path(tempfile.mkdtemp()), os.getpid()
        if options.folder is None:
            # A forked step leaves through here as well, and must leave the folder.
            stack.callback(lambda: shutil.rmtree(folder) if os.getpid() == own else None)
        folder.mkdir(exist_ok=True)
        server = Server(os.environ, f"interruptions-{os.getpid()}") if options.server else None
        harness = Harness(folder, server or new_database(folder), options.seed)
        harness.prepare()
        for name in options.phase or PHASES:
            began = time.monotonic()
            for turn in range(options.times):
                harness.interrupt(name, twice=turn % 2 == 1)
            # A new run starts and promotes at once.
            harness.undisturbed("everything")
            print(f"{name}: {options.times} in {time.monotonic() - began:.0f} s", flush=True)
        for line, count in sorted(harness.counts.items()):
            print(f"  {line}: {count}")
        print("\n".join([f"{len(harness.faults)} faults", *harness.faults]))
        return int(bool(harness.faults))


if __name__ == "__main__":
    sys.exit(main())
