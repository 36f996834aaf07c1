"""One suite for every Searcher: what the driver and the training step rely on."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.errors import ModelError, SearchError
from pcc_pipeline.model.families import FAMILIES
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.plan import Scoring, SearchPlan, StudyRecord
from pcc_pipeline.search.pools.workers import WorkerPool
from pcc_pipeline.search.searchers import Searcher, make_searcher
from pcc_pipeline.search.spaces import space_of
from pcc_pipeline.search.trials import SearchOutcome, Trial

# Workers need not be able to import this module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SPACE = {
    "C": {"low": 0.01, "high": 100.0, "log": True, "grid": [0.1, 1, 10]},
    "max_iter": {"low": 50, "high": 400, "grid": [50, 400]},
    "solver": ["lbfgs", "saga"],
}
N_ITER = 11  # one more than the random start of tpe and gp
METHODS = ["none", "grid", "random", "optuna-tpe", "optuna-gp", "optuna-qmc"]
# Starting workers takes seconds: the one that remembers what it asked stands for the others.
BY_WORKERS = [
    "optuna-tpe",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("none", "grid", "random", "optuna-gp", "optuna-qmc")),
]
PROMISED = {"none": 1, "grid": 12}
Make = Callable[..., Searcher]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(method: str, tmp_path: Path) -> Iterator[Make]:
    """Makes a searcher of the method; each call its own study unless `name` says otherwise."""
    made: list[Searcher] = []

    def build(seed: int = 7, n_iter: int = N_ITER, name: str | None = None, **search: Any) -> Searcher:
        kind, _, sampler = method.partition("-")
        space = {} if kind == "none" else space_of("LogisticRegression", SPACE)
        fixed = {"tol": 0.01, "C": 5.0}
        plan = SearchPlan(kind, "LogisticRegression", space, fixed, n_iter, seed, sampler or "tpe", **search)
        study = StudyRecord(name or f"study-{len(made)}", tmp_path / "studies", {"data": "abc", "scoring": "f1"})
        made.append(make_searcher(plan, study))
        return made[-1]

    yield build
    for searcher in made:
        searcher.close()


def bowl(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
    """Best at C=1, a little better with many iterations."""
    return {"f1": 1 - abs(math.log10(hyperparameters["C"])) / 4 + hyperparameters.get("max_iter", 0) / 1e5 - fold / 100}


def run(
    searcher: Searcher,
    objective: Callable[[dict[str, Any], int], dict[str, float]] = bowl,
    n_jobs: int = 1,
    n_folds: int = 2,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> SearchOutcome:
    with WorkerPool(n_jobs) as pool:
        return run_search(searcher, Scoring(objective, n_folds, lambda s: s["f1"], "f1"), pool, None, on_trial)


def found(outcome: SearchOutcome) -> list[tuple[Any, ...]]:
    """All that must be the same in two runs of one search."""
    return [(t.number, t.hyperparameters, t.state, t.fold_scores, t.score, t.std, t.reason) for t in outcome.trials]


def test_asks_come_to_an_end_at_the_promised_number(make: Make, method: str) -> None:
    searcher = make()
    assert searcher.n_trials == PROMISED.get(method, N_ITER)
    assert len(run(searcher).trials) == searcher.n_trials
    assert searcher.ask() is None


def test_numbers_ascend_and_none_comes_twice(make: Make) -> None:
    numbers = [trial.number for trial in run(make()).trials]
    assert numbers == sorted(set(numbers))


def test_every_candidate_lies_in_the_space_and_keeps_the_fixed_values(make: Make, method: str) -> None:
    domains = FAMILIES["LogisticRegression"].domains
    for trial in run(make()).trials:
        values = trial.hyperparameters
        assert values["tol"] == 0.01
        assert [name for name, value in values.items() if domains[name].fault(value)] == []
        if method == "none":
            assert values == {"tol": 0.01, "C": 5.0}
        else:
            assert 0.01 <= values["C"] <= 100
            assert 50 <= values["max_iter"] <= 400
            assert type(values["max_iter"]) is int
            assert values["solver"] in SPACE["solver"]


def test_the_same_seed_gives_the_same_search(make: Make) -> None:
    assert found(run(make())) == found(run(make()))


def test_another_seed_gives_another_search(make: Make, method: str) -> None:
    same = found(run(make(seed=7))) == found(run(make(seed=8)))
    assert same == (method in ("none", "grid"))


@pytest.mark.long
@pytest.mark.parametrize("method", BY_WORKERS, indirect=True)
def test_two_workers_give_the_same_search_twice(make: Make) -> None:
    """Whatever the timing: candidates depend on n_jobs at most."""
    assert found(run(make(), n_jobs=2)) == found(run(make(), n_jobs=2))


@pytest.mark.parametrize("method", BY_WORKERS, indirect=True)
def test_the_number_of_workers_does_not_matter_to_a_search_without_memory(make: Make) -> None:
    if make().adaptive:
        pytest.skip("an adaptive search proposes by what it knows, and more workers know less")
    assert found(run(make(), n_jobs=1)) == found(run(make(), n_jobs=2))


@pytest.mark.parametrize("method", BY_WORKERS, indirect=True)
def test_an_adaptive_search_hears_of_trials_in_order(make: Make) -> None:
    searcher, told = make(), []
    run(searcher, n_jobs=2, on_trial=lambda trial: told.append(trial.number))
    assert len(told) == searcher.n_trials
    assert not searcher.adaptive or told == sorted(told)


def test_a_trial_that_fails_is_marked_and_the_search_goes_on(make: Make, method: str) -> None:
    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        if hyperparameters.get("solver") == "saga":
            raise ModelError("saga cannot do it", fix="take another")
        return bowl(hyperparameters, fold)

    outcome = run(make(), objective)
    for trial in outcome.trials:
        failed = trial.hyperparameters.get("solver") == "saga"
        assert trial.state == ("failed" if failed else "complete")
        assert trial.reason == ("saga cannot do it" if failed else "")
        assert (trial.score is None) == failed
    assert outcome.best.hyperparameters.get("solver") != "saga"
    assert method == "none" or {t.state for t in outcome.trials} == {"complete", "failed"}


def test_a_search_in_which_all_fails_counts_the_reasons(make: Make) -> None:
    def objective(_hyperparameters: dict[str, Any], _fold: int) -> dict[str, float]:
        raise ModelError("no luck today")

    searcher = make()
    with pytest.raises(SearchError, match=f"{searcher.n_trials} x no luck today"):
        run(searcher, objective)


def test_the_best_is_the_greatest_score_and_the_first_of_equals(make: Make) -> None:
    outcome = run(make(), lambda hyperparameters, fold: {"f1": 0.5})
    assert outcome.best == outcome.trials[0]
    outcome = run(make())
    assert outcome.best.score == max(trial.score or 0 for trial in outcome.trials)


@pytest.mark.parametrize("method", BY_WORKERS, indirect=True)
def test_a_worker_that_is_killed_fails_its_trial_only(make: Make, tmp_path: Path) -> None:
    mark = tmp_path / "killed"

    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        if fold == 1:
            # Of two workers that come here at once, one makes the mark.
            with suppress(FileExistsError):
                mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return bowl(hyperparameters, fold)

    searcher = make()
    if searcher.n_trials == 1:
        with pytest.raises(SearchError, match="1 x the worker process died"):
            run(searcher, objective, n_jobs=2)
        return
    outcome = run(searcher, objective, n_jobs=2)
    assert [t.reason for t in outcome.trials if t.state == "failed"] == ["the worker process died (out of memory?)"]
    assert len(outcome.trials) == searcher.n_trials


@pytest.mark.parametrize("method", ["optuna-tpe", "optuna-gp", "optuna-qmc"], indirect=True)
class TestStudies:
    def test_a_study_resumes_and_finished_trials_count(self, make: Make) -> None:
        first = make(n_iter=6, name="mine")
        before = run(first)
        first.close()
        after = run(make(n_iter=11, name="mine"))
        assert [t.resumed for t in after.trials] == [True] * 6 + [False] * 5
        assert found(after)[:6] == found(before)

    def test_a_study_in_two_sittings_equals_one_in_one(self, make: Make) -> None:
        first = make(n_iter=5, name="mine")
        run(first)
        first.close()
        assert found(run(make(name="mine"))) == found(run(make(name="other")))

    def test_importances_are_shares_of_the_searched_hyperparameters(self, make: Make) -> None:
        importances = run(make()).importances
        assert importances is not None
        assert set(importances) <= set(SPACE)
        assert sum(importances.values()) == pytest.approx(1)
        assert importances["C"] == max(importances.values())

    @pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.long)])
    def test_a_study_killed_in_the_middle_loses_nothing_and_doubles_nothing(
        self, make: Make, method: str, tmp_path: Path, n_jobs: int
    ) -> None:
        if n_jobs == 2 and method != "optuna-tpe":
            pytest.skip("one sampler shows what workers do")
        script = tmp_path / "search.py"
        script.write_text(_KILLED.format(studies=str(tmp_path / "studies"), sampler=method[7:], n_jobs=n_jobs))
        ready = tmp_path / "ready"
        with subprocess.Popen([sys.executable, str(script), str(ready)], stderr=subprocess.PIPE, text=True) as process:
            watch = threading.Timer(60, process.kill)
            watch.start()
            while not ready.exists() and process.poll() is None:
                # The search stands still in its sixth trial by now, or is about to.
                threading.Event().wait(0.02)
            os.kill(process.pid, signal.SIGKILL)
            _, errors = process.communicate()
            watch.cancel()
        assert ready.exists(), errors
        if n_jobs == 1:
            torn = tmp_path / "studies" / "mine.log"
            with torn.open("ab") as journal:
                journal.write(b'{"op_code": 8, "worker')
        resumed = make(name="mine")
        known = len(resumed.finished())
        assert known >= 4
        outcome = run(resumed, n_jobs=n_jobs)
        assert len(outcome.trials) == N_ITER
        assert [t.resumed for t in outcome.trials] == [True] * known + [False] * (N_ITER - known)
        # The trials cut off ran again, with the values they had, as if the search had not been cut off.
        whole = run(make(name="whole"), n_jobs=n_jobs)
        assert [t.hyperparameters for t in outcome.trials] == [t.hyperparameters for t in whole.trials]
        assert [t.score for t in outcome.trials] == [t.score for t in whole.trials]


def test_where_pruning_is_allowed_hopeless_trials_end_after_two_folds_or_more(make: Make, method: str) -> None:
    if method == "none":
        assert not make().prunes
        return
    outcome = run(make(n_iter=20, pruning=True), n_folds=4)
    pruned = [trial for trial in outcome.trials if trial.state == "pruned"]
    assert pruned
    assert {len(trial.fold_scores) for trial in pruned} <= {2, 3}
    assert all(trial.score is None and trial.reason.startswith("pruned after fold") for trial in pruned)
    assert [trial.state for trial in outcome.trials[:5]] == ["complete"] * 5
    assert outcome.best.score == max(trial.score for trial in outcome.trials if trial.score is not None)


def test_without_leave_no_trial_is_pruned(make: Make) -> None:
    assert {trial.state for trial in run(make(), n_folds=4).trials} == {"complete"}


_KILLED = """
import math, sys, threading
from pathlib import Path
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.plan import Scoring, SearchPlan, StudyRecord
from pcc_pipeline.search.searchers import make_searcher
from pcc_pipeline.search.spaces import space_of
from pcc_pipeline.search.pools.workers import WorkerPool

SPACE = {{
    "C": {{"low": 0.01, "high": 100.0, "log": True, "grid": [0.1, 1, 10]}},
    "max_iter": {{"low": 50, "high": 400, "grid": [50, 400]}},
    "solver": ["lbfgs", "saga"],
}}
done = []

def main():
    searcher = make_searcher(
        SearchPlan("optuna", "LogisticRegression", space_of("LogisticRegression", SPACE), {{"tol": 0.01, "C": 5.0}},
                   11, 7, "{sampler}"),
        StudyRecord("mine", Path("{studies}"), {{"data": "abc", "scoring": "f1"}}),
    )
    ready = Path(sys.argv[1])
    folder = ready.parent / "begun"
    folder.mkdir()

    def objective(h, fold):
        (folder / str(h["C"])).touch()
        if len(list(folder.iterdir())) > 5:
            ready.touch()
            threading.Event().wait()
        return {{"f1": 1 - abs(math.log10(h["C"])) / 4 + h["max_iter"] / 1e5 - fold / 100}}

    with WorkerPool({n_jobs}) as pool:
        run_search(searcher, Scoring(objective, 2, lambda s: s["f1"]), pool, None, lambda trial: None)

main()
"""


def test_a_choice_of_features_is_searched_as_any_hyperparameter(method: str, tmp_path: Path) -> None:
    kind, _, sampler = method.partition("-")
    space = {
        "feature_selection": ["none", "l1", "recursive"],
        "n_features": {"low": 50, "high": 300, "grid": [50, 300]},
    }
    chosen = {} if kind == "none" else {"search_space": space}
    model = {"search_method": kind, "n_iter": 5, "feature_selection": "l1", "n_features": 70, **chosen}
    plan = SearchPlan.of(Params.model_validate({"model": model, "search": {"sampler": sampler or "tpe"}}))
    with closing(make_searcher(plan, StudyRecord("choice", tmp_path, {}))) as searcher:
        tried = [trial.hyperparameters for trial in run(searcher, lambda values, fold: {"f1": 0.5}).trials]
    # Of a grid the candidate that chooses none comes once, for all numbers of features.
    assert len(tried) == 1 if kind == "none" else 5
    pairs = {(values["feature_selection"], values["n_features"]) for values in tried}
    assert all(type(n) is int and 50 <= n <= 300 for _, n in pairs)
    assert pairs == {("l1", 70)} if kind == "none" else len(pairs) > 2


@pytest.mark.parametrize(
    ("fixed", "searched"),
    [({"penalty": "l1", "max_iter": 50}, {"C"}), ({"C": 2, "penalty": "l1", "solver": "saga"}, set())],
)
def test_what_hyperparameters_fix_the_familys_own_space_does_not_search(
    method: str, tmp_path: Path, fixed: dict[str, Any], searched: set[str]
) -> None:
    kind, _, sampler = method.partition("-")
    model = {"search_method": kind, "n_iter": 5, "hyperparameters": fixed}
    plan = SearchPlan.of(Params.model_validate({"model": model, "search": {"sampler": sampler or "tpe"}}))
    with closing(make_searcher(plan, StudyRecord("fixed", tmp_path, {}))) as searcher:
        tried = [trial.hyperparameters for trial in run(searcher, lambda values, fold: {"f1": 0.5}).trials]
    assert all(values.items() >= fixed.items() for values in tried)
    if kind != "none":
        assert {values.get("solver") for values in tried} == {fixed.get("solver", "liblinear")}
    # Where nothing is left to search, the same candidate would be measured again and again.
    assert len(tried) == (5 if searched and kind != "none" else 1)
    assert len({values.get("C") for values in tried}) == len(tried)
    if not searched and kind.startswith("optuna"):
        with closing(make_searcher(plan, StudyRecord("fixed", tmp_path, {}))) as again:
            assert (len(again.finished()), again.ask()) == (1, None)
