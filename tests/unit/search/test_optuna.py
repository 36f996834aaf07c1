"""Studies: who may open one, what keeps it from being resumed, where it may lie, when a trial is pruned."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pcc_pipeline.errors import SearchError
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.optuna_searcher import OptunaSearcher
from pcc_pipeline.search.optuna_storage import StudyPlace
from pcc_pipeline.search.plan import Scoring, SearchPlan
from pcc_pipeline.search.pools.workers import WorkerPool
from pcc_pipeline.search.spaces import Categorical, Interval
from pcc_pipeline.search.trials import WORKER_DIED, Trial

SPACE = {"x": Interval(0.1, 10.0, log=True), "kind": Categorical(("a", "b"))}


def place(storage: str | None, tmp_path: Path, name: str = "mine") -> StudyPlace:
    return StudyPlace.of(storage and storage.format(tmp=tmp_path), name, tmp_path / "studies")


def searcher(at: StudyPlace, identity: dict[str, str] | None = None, n_iter: int = 5, **options: Any) -> OptunaSearcher:
    plan = SearchPlan("optuna", "any", options.pop("space", SPACE), n_iter=n_iter, seed=1, **options)
    return OptunaSearcher(at, identity or {"data": "1"}, plan)


def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
    return {"f1": -abs(hyperparameters["x"] - 1) - fold}


def run(at: OptunaSearcher, objective: Any = objective, n_folds: int = 2) -> Any:
    with WorkerPool(1) as pool:
        return run_search(at, Scoring(objective, n_folds, lambda s: s["f1"]), pool, None, lambda trial: None)


STORAGES = [None, "{tmp}/deep/mine.log", "sqlite:///{tmp}/studies.db"]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_study_has_one_owner_at_a_time(storage: str | None, tmp_path: Path) -> None:
    first = searcher(place(storage, tmp_path))
    with pytest.raises(SearchError, match=r"study 'mine' is in use by process \d+\. Such a file takes one") as error:
        searcher(place(storage, tmp_path))
    assert "another search.study_name" in error.value.fix
    assert "search.storage of the kind postgresql" in error.value.fix
    first.close()
    searcher(place(storage, tmp_path)).close()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [b"no JSON\n", *lines],
        lambda lines: [*lines[:2], b'{"a": 1}\n', *lines[2:]],
        lambda lines: [b"[1]\n", *lines],
        lambda lines: [b"\xff\xfe\n", *lines],
        lambda lines: [b'{"op_code": 99}\n', *lines],
        lambda lines: [line.replace(b'"identity"', b'"idendity"') for line in lines],
        lambda lines: [line.replace(b"fold_scores", b"fold_scares") for line in lines][:-3],
    ],
    ids=["a strange line", "a foreign object", "a list", "no text", "an unknown operation", "a name", "its end"],
)
def test_a_damaged_journal_is_one_message_that_says_what_to_do(tmp_path: Path, change: Any) -> None:
    """Or it is read, as far as it goes; never a traceback of Optuna's, and the study is free afterwards."""
    first = searcher(place(None, tmp_path))
    run(first)
    first.close()
    (journal,) = (tmp_path / "studies").glob("*.log")
    journal.write_bytes(b"".join(change(journal.read_bytes().splitlines(keepends=True))))
    said = []
    for _ in range(2):
        try:
            searcher(place(None, tmp_path)).close()
        except SearchError as error:
            said.append(str(error))
    assert all(re.search(r"(?s)damaged.*move it away|made with other data", text) for text in said), said


def test_whatever_bits_flip_in_a_journal_the_study_opens_or_one_message_is_told(tmp_path: Path) -> None:
    first = searcher(place(None, tmp_path))
    run(first)
    first.close()
    (journal,) = (tmp_path / "studies").glob("*.log")
    whole, random, refused = journal.read_bytes(), Random(5), 0
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(3):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        journal.write_bytes(content)
        try:
            searcher(place(None, tmp_path)).close()
        except SearchError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("storage", STORAGES)
def test_a_study_resumes_from_every_kind_of_storage(storage: str | None, tmp_path: Path) -> None:
    first = searcher(place(storage, tmp_path))
    before = run(first)
    # Asked and never told, as a killed process leaves it.
    first.n_trials += 1
    cut_off = first.ask()
    first.close()
    second = searcher(place(storage, tmp_path), n_iter=7)
    assert [(t.number, t.score, t.fold_scores, t.std, t.started_at) for t in second.finished()] == [
        (t.number, t.score, t.fold_scores, t.std, t.started_at) for t in before.trials
    ]
    after = run(second)
    second.close()
    assert cut_off is not None
    assert [t.number for t in after.trials] == [0, 1, 2, 3, 4, 6, 7]
    assert after.trials[5].hyperparameters == cut_off.hyperparameters


def test_a_candidate_that_was_lost_with_its_worker_is_tried_again_when_the_study_is_resumed(tmp_path: Path) -> None:
    first = searcher(place(None, tmp_path))
    lost = first.ask()
    assert lost is not None
    first.tell(Trial(lost.number, lost.hyperparameters, "failed", (), None, None, 0.0, WORKER_DIED, 0.0))
    first.close()
    for _ in range(2):  # queued once, however often the study is opened
        second = searcher(place(None, tmp_path))
        assert second.finished() == ()
        second.close()
    second = searcher(place(None, tmp_path))
    again, other = second.ask(), second.ask()
    second.close()
    assert again is not None
    assert other is not None
    assert again.hyperparameters == lost.hyperparameters
    assert other.hyperparameters != lost.hyperparameters


def test_two_studies_share_a_database(tmp_path: Path) -> None:
    one, two = (searcher(place("sqlite:///{tmp}/studies.db", tmp_path, name)) for name in ("one", "two"))
    assert len(run(one).trials) == len(run(two).trials) == 5
    one.close()
    two.close()


def test_a_study_of_other_data_is_not_resumed_and_the_difference_is_named(tmp_path: Path) -> None:
    at = place(None, tmp_path)
    searcher(at, {"data": "1", "seed": "4", "scoring": "f1"}).close()
    with pytest.raises(SearchError, match="other data or settings: data was 1, is 2; seed was 4, is unknown") as error:
        searcher(at, {"data": "2", "scoring": "f1"})
    assert "another search.study_name" in error.value.fix
    # The refusal let go of the study.
    searcher(at, {"data": "1", "seed": "4", "scoring": "f1"}).close()


def test_a_kill_between_queueing_and_failing_doubles_nothing(tmp_path: Path) -> None:
    at = place(None, tmp_path)
    first = searcher(at)
    cut_off = first.ask()
    assert cut_off is not None
    first._study.enqueue_trial(cut_off.hyperparameters, user_attrs={"runs_again": cut_off.number})
    first.close()
    second = searcher(at)
    xs = [trial.hyperparameters["x"] for trial in run(second).trials]
    second.close()
    assert xs.count(cut_off.hyperparameters["x"]) == 1
    assert len(xs) == 5


def test_a_finished_study_is_only_read(tmp_path: Path) -> None:
    at = place(None, tmp_path)
    first = searcher(at)
    run(first)
    first.close()
    second = searcher(at, n_iter=3)
    assert second.n_trials == 5
    assert all(trial.resumed for trial in run(second).trials)
    second.close()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("somewhere", "neither a database's URL nor a path that ends in .log"),
        ("gs:/bucket/study.log", "neither a database's URL nor a path that ends in .log"),
        ("sqlite:///{tmp}/no/such/folder/x.db", "storage cannot be used: FileNotFoundError"),
        ("nosuch://user:secret@host/db", "storage cannot be used: NoSuchModuleError"),
        ("postgresql+psycopg://user:my/secret@127.0.0.1:1/db", "storage cannot be used: .*onnection"),
        ("postgresql+psycopg://user:p@secret@127.0.0.1:1/db", "storage cannot be used: OperationalError\n"),
        ("postgresql+psycopg://u@127.0.0.1:1/db?sslpassword=secret", r"(?s)cannot be used.*db\?sslpassword=\*\*\*"),
        ("postgresql://user:secret@host:secret/db", "is not a database's URL"),
        ("postgresql:/user:secret@host", r"(?s)neither.*postgresql:/user:\*\*\*@host"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(
    storage: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SearchError, match=message) as error:
        searcher(place(storage, tmp_path))
    assert "secret" not in str(error.value)


def test_a_hopeless_trial_is_pruned_after_two_folds_or_more(tmp_path: Path) -> None:
    at = searcher(place(None, tmp_path), n_iter=20, pruning=True)
    states = [(trial.state, len(trial.fold_scores)) for trial in run(at, n_folds=4).trials]
    at.close()
    assert states[:5] == [("complete", 4)] * 5
    pruned = [folds for state, folds in states if state == "pruned"]
    assert pruned
    assert min(pruned) >= 2
    resumed = searcher(place(None, tmp_path), n_iter=20, pruning=True)
    assert [(trial.state, len(trial.fold_scores)) for trial in resumed.finished()] == states
    resumed.close()


def test_importances_follow_the_logarithm_of_a_logarithmic_range(tmp_path: Path) -> None:
    at = searcher(place(None, tmp_path), n_iter=30, sampler="qmc")
    run(at, lambda h, fold: {"f1": float(h["x"] < 1) + 0.01 * (h["kind"] == "a")})
    importances = at.importances()
    at.close()
    assert importances is not None
    assert importances["x"] > 0.9


@pytest.mark.parametrize("constant", ["score", "values"])
def test_there_are_no_importances_where_nothing_varied(constant: str, tmp_path: Path) -> None:
    space = {"kind": Categorical(("a",))} if constant == "values" else SPACE
    at = searcher(place(None, tmp_path), space=space)
    run(at, lambda hyperparameters, fold: {"f1": 0.5 if constant == "score" else 1.0 + fold})
    assert at.importances() is None
    at.close()
