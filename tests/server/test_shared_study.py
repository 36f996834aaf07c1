"""A study in PostgreSQL that several runs search: one budget, no claim of a living run lost, one end."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pcc_pipeline.errors import SearchError
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.plan import Participant, Scoring, SearchPlan, StudyRecord
from pcc_pipeline.search.pools.workers import WorkerPool
from pcc_pipeline.search.searchers import make_searcher
from pcc_pipeline.search.shared_study import searcher as shared_searcher
from pcc_pipeline.search.shared_study import workers
from pcc_pipeline.search.shared_study.conclusion import ConcludedElsewhereError
from pcc_pipeline.search.spaces import Categorical, Interval
from pcc_pipeline.search.trials import WORKER_DIED, Candidate, Trial

pytestmark = pytest.mark.server

SPACE = {"x": Interval(0.1, 10.0, log=True), "kind": Categorical(("a", "b"))}
Join = Callable[..., Any]


@pytest.fixture
def join(study_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    """`join()` makes a run that works on this test's study, as if it had a machine of its own."""
    # Nobody can see whether a process of another machine is there.
    monkeypatch.setattr(workers, "process_mark", lambda: "")
    monkeypatch.setattr(workers, "_BEAT_SECONDS", 0.2)
    monkeypatch.setattr(shared_searcher, "_LOOK_SECONDS", 0.1)
    name, made = uuid.uuid4().hex, []

    def build(
        run_id: str = "", n_iter: int = 6, data: str = "1", age: float = 0.0, pruning: bool = False, **settings: str
    ) -> Any:
        plan = SearchPlan("optuna", "any", SPACE, n_iter=n_iter, seed=1, pruning=pruning)
        identity = {
            "data_digest": data,
            **({"encoder_digest": settings.pop("encoder")} if "encoder" in settings else {}),
        }
        participant = Participant(run_id or uuid.uuid4().hex, age, {"model.n_iter": str(n_iter), **settings})
        made.append(make_searcher(plan, StudyRecord(name, tmp_path, identity, study_storage, participant)))
        return made[-1]

    yield build
    for one in made:
        one.close()


def die(run: Any) -> None:
    """As a machine without current: it says nothing any more."""
    run._workers._ended.set()
    run._workers._thread.join()


def told(candidate: Candidate, score: float = 0.5, reason: str = "") -> Trial:
    state = "failed" if reason else "complete"
    return Trial(
        candidate.number, candidate.hyperparameters, state, ({"f1": score},), None if reason else score, None, 0.1,
        reason, time.time(),
    )  # fmt: skip


def asked(run: Any, times: int) -> list[Candidate]:
    candidates = [run.ask() for _ in range(times)]
    assert None not in candidates
    return candidates


def test_runs_share_one_budget_and_no_two_try_the_same(join: Join) -> None:
    runs = [join(), join(), join()]
    candidates = [runs[turn % 3].ask() for turn in range(6)]
    assert [run.ask() for run in runs] == [None] * 3
    assert len({candidate.number for candidate in candidates}) == 6
    assert len({candidate.hyperparameters["x"] for candidate in candidates}) == 6
    for turn, candidate in enumerate(candidates):
        assert runs[turn % 3].tell(told(candidate))
    assert [run.ask() for run in runs] == [None] * 3
    assert [len(run.finished()) for run in runs] == [4] * 3


def test_a_run_alone_draws_what_it_draws_from_any_other_storage(join: Join, tmp_path: Path) -> None:
    plan = SearchPlan("optuna", "any", SPACE, n_iter=14, seed=1)
    journal = make_searcher(plan, StudyRecord("journal", tmp_path, {"data_digest": "1"}))
    drawn = []
    for one in (journal, join(n_iter=14)):
        drawn.append([])
        while candidate := one.ask():
            drawn[-1].append(candidate.hyperparameters)
            one.tell(told(candidate, -abs(candidate.hyperparameters["x"] - 1)))
    journal.close()
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 14


def test_what_a_dead_run_had_under_way_is_tried_again_elsewhere(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, living = join(), join()
    first, second = asked(dead, 2)
    dead.tell(told(first))
    rest = asked(living, 4)
    assert living.ask() is None
    die(dead)
    monkeypatch.setattr(workers, "STALE_SECONDS", 1.0)
    time.sleep(0.7)
    assert living.ask() is None, "not heard of for less than it takes"
    time.sleep(0.6)
    (again,) = asked(living, 1)
    assert again.hyperparameters == second.hyperparameters
    assert again.number != second.number
    # It was not dead, but stood still: it says what became of its candidate, which nobody wants any more.
    assert not dead.tell(told(second))
    for candidate in (*rest, again):
        assert living.tell(told(candidate))
    assert living.ask() is None
    assert living.await_others(willing=True) is False
    assert len(living.finished()) + living.tried == 6


def test_a_run_that_wakes_up_after_it_was_taken_for_dead_claims_anew(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STALE_SECONDS", 0.5)
    asleep, other = join(), join()
    (lost,) = asked(asleep, 1)
    die(asleep)
    time.sleep(0.8)
    (again,) = asked(other, 1)
    assert again.hyperparameters == lost.hyperparameters
    # It wakes up, and has not beaten yet.
    monkeypatch.setattr(workers, "STALE_SECONDS", 60.0)
    fresh = asked(asleep, 2)
    rest = asked(other, 3)
    assert other.ask() is None
    assert not asleep.tell(told(lost))
    assert all(asleep.tell(told(candidate)) for candidate in fresh)
    assert all(other.tell(told(candidate)) for candidate in (again, *rest))
    assert asleep.await_others(willing=True) is False
    asleep.demand_turn()


def test_a_run_that_beats_is_never_taken_for_dead(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STALE_SECONDS", 1.0)
    slow, other = join(), join()
    candidates = asked(slow, 3)
    for _ in range(12):
        time.sleep(0.25)
        with other._workers.alone() as alone:
            assert [peer.worker for peer in alone.peers()] == [slow._workers.worker]
    assert all(slow.tell(told(candidate)) for candidate in candidates)


def test_who_was_cut_off_itself_does_not_judge_others_by_what_it_missed(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STALE_SECONDS", 1.0)
    silent, judge = join(), join()
    asked(silent, 1)
    die(silent)
    time.sleep(1.2)
    judge._workers.in_touch_since = None
    with judge._workers.alone() as alone:
        assert len(alone.peers()) == 1
        judge._workers.in_touch_since = alone.now()
        assert len(alone.peers()) == 1
    time.sleep(1.2)
    with judge._workers.alone() as alone:
        assert alone.peers() == ()


def test_a_process_of_this_machine_that_was_killed_is_known_at_once(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, living = join(), join()
    (lost,) = asked(dead, 1)
    asked(living, 5)
    assert living.ask() is None
    die(dead)
    monkeypatch.setattr(workers, "process_lives", lambda mark: False)
    (again,) = asked(living, 1)
    assert again.hyperparameters == lost.hyperparameters


def test_a_claim_that_was_cut_off_amid_the_asking_costs_no_candidate(join: Join) -> None:
    cut_off, other = join(), join()
    cut_off._study.ask()  # as a process that is killed before it writes that this is its own
    assert len(asked(other, 6)) == 6
    assert other.ask() is None


def test_a_process_that_stands_still_under_the_lock_loses_it_and_asks_again(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_LOCK_SECONDS", 1)
    slow, other = join(n_iter=3), join(n_iter=3)
    drawn, stood = slow._drawn, []

    def stands_still(place: int) -> Any:
        if not stood:
            stood.append(place)
            time.sleep(1.5)
            stood.extend(asked(other, 3))  # the whole budget
        return drawn(place)

    slow._drawn = stands_still
    assert slow.ask() is None
    assert len(stood) == 4
    assert all(other.tell(told(candidate)) for candidate in stood[1:])
    states = [trial.state.name for trial in other._trials()]
    assert states.count("COMPLETE") == 3
    assert states.count("RUNNING") == 0


def test_the_run_that_ends_last_concludes_and_the_others_wait_for_it(join: Join) -> None:
    first, second = join("first", 2), join("second", 2)
    (mine,), (theirs,) = asked(first, 1), asked(second, 1)
    first.tell(told(mine))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.await_others, willing=True)
        time.sleep(0.5)
        assert not waiting.done()
        second.tell(told(theirs))
        assert waiting.result(10) is False
        elsewhere = pool.submit(second.await_others, willing=True)
        time.sleep(0.5)
        assert not elsewhere.done()
        first.demand_turn()
        first.conclude("first", "7")
        with pytest.raises(ConcludedElsewhereError) as conclusion:
            elsewhere.result(10)
    assert (conclusion.value.conclusion.run_id, conclusion.value.conclusion.version) == ("first", "7")
    assert conclusion.value.tried == 1


def test_another_run_takes_over_from_one_that_dies_as_it_concludes(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STALE_SECONDS", 1.0)
    first, second = join("first", 1), join("second", 1)
    first.tell(told(*asked(first, 1)))
    assert first.await_others(willing=True) is False
    die(first)
    assert second.await_others(willing=True) is False
    assert second.left_by == "first"
    with pytest.raises(SearchError, match="taken for dead: another one concludes the study"):
        first.demand_turn()
    second.demand_turn()


def test_a_run_that_leaves_gives_back_what_it_had(join: Join) -> None:
    leaving, staying = join(), join()
    given_back = {candidate.hyperparameters["x"] for candidate in asked(leaving, 6)}
    assert staying.ask() is None
    leaving.close()
    assert {candidate.hyperparameters["x"] for candidate in asked(staying, 6)} == given_back


def test_a_machine_that_comes_when_all_is_done_is_one_of_them(join: Join) -> None:
    first, second = join("first", 1), join("second", 1)
    first.tell(told(*asked(first, 1)))
    assert first.await_others(willing=True) is False
    first.conclude("first", "1")
    for one in (first, second):
        one.close()
    late = join("late", 1)
    assert late.ask() is None
    with pytest.raises(ConcludedElsewhereError):
        late.await_others(willing=True)
    late.close()
    further = join("further", 2)
    assert len(asked(further, 1)) == 1, "a larger n_iter goes on"


@pytest.mark.parametrize(("age", "concludes"), [(0.0, True), (3600.0, False)])
def test_a_run_after_one_that_was_alone_concludes_anew_unless_it_had_begun_before(
    join: Join, age: float, concludes: bool
) -> None:
    alone = join("alone", 1)
    alone.tell(told(*asked(alone, 1)))
    assert alone.await_others(willing=True) is False
    alone.conclude("alone", "1")
    alone.close()
    again = join("again", 1, age=age)
    if concludes:
        assert again.await_others(willing=True) is False
    else:
        with pytest.raises(ConcludedElsewhereError):
            again.await_others(willing=True)


def test_a_run_that_may_start_nothing_more_waits_for_those_that_may(join: Join) -> None:
    late, other = join(), join()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(late.await_others, willing=False)
        time.sleep(0.5)
        assert not waiting.done()
        other.tell(told(*asked(other, 1)))
        other.close()
        assert waiting.result(10) is False
    assert len(late.finished()) == 1


def test_a_candidate_that_was_lost_with_a_worker_process_counts_until_the_study_is_opened_anew(join: Join) -> None:
    first = join()
    lost, *others = asked(first, 6)
    first.tell(told(lost, reason=WORKER_DIED))
    second = join()
    assert second.ask() is None
    for candidate in others:
        first.tell(told(candidate))
    for one in (first, second):
        one.close()
    assert [candidate.hyperparameters for candidate in asked(join(), 1)] == [lost.hyperparameters]


def test_other_data_other_settings_and_another_encoder_are_refused(join: Join) -> None:
    join(calibration="isotonic", encoder="e1")
    with pytest.raises(SearchError, match="made with other data or settings: data_digest was 1, is 2"):
        join(data="2", calibration="isotonic", encoder="e1")
    with pytest.raises(SearchError, match="encoder_digest was e1, is e2"):
        join(calibration="isotonic", encoder="e2")
    with pytest.raises(SearchError, match=r"being searched by run .* calibration was isotonic, is none") as error:
        join(calibration="none", encoder="e1")
    assert "same options, data and libraries" in error.value.fix
    join(calibration="isotonic", encoder="e1")


def test_a_study_of_one_run_alone_lets_no_other_in(study_storage: str, tmp_path: Path) -> None:
    plan = SearchPlan("optuna", "any", SPACE, n_iter=2)
    unnamed = make_searcher(plan, StudyRecord("v20260101_000000", tmp_path, {}, study_storage))
    for participant in (None, Participant("r", 0.0)):
        with pytest.raises(SearchError, match="in use by another process"):
            make_searcher(plan, StudyRecord("v20260101_000000", tmp_path, {}, study_storage, participant))
    unnamed.close()


@pytest.mark.parametrize("pruning", [False, pytest.param(True, marks=pytest.mark.long)])
def test_many_at_once_try_exactly_the_budget_and_one_concludes(join: Join, pruning: bool) -> None:
    """Six runs, each in a thread; two of them are left in the middle of a candidate, as by a kill."""
    n_iter, given_up = 40, []

    class Killed(BaseException):
        pass

    def work(place: int) -> str:
        run = join(f"run-{place}", n_iter, pruning=pruning)

        def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
            time.sleep(0.01)
            if place < 2 and run.tried >= 3:
                given_up.append(hyperparameters["x"])
                raise Killed
            return {"f1": -abs(hyperparameters["x"] - 1) - fold}

        try:
            with WorkerPool(1) as pool:
                outcome = run_search(run, Scoring(objective, 3, lambda s: s["f1"]), pool, None, lambda trial: None)
        except Killed:
            run.close()
            return "killed"
        except ConcludedElsewhereError as ended:
            return f"told of {ended.conclusion.run_id}"
        assert len(outcome.trials) == n_iter
        assert len({trial.number for trial in outcome.trials}) == n_iter
        assert set(given_up) <= {trial.hyperparameters["x"] for trial in outcome.trials}
        assert len({str(trial.hyperparameters) for trial in outcome.trials}) == n_iter
        run.demand_turn()
        run.conclude(f"run-{place}", "1")
        return "concluded"

    with ThreadPoolExecutor(6) as pool:
        ends = list(pool.map(work, range(6)))
    assert ends[:2] == ["killed", "killed"]
    assert sorted(ends[2:])[0] == "concluded"
    assert [end for end in ends[2:] if end != "concluded"] == [f"told of run-{ends.index('concluded')}"] * 3
