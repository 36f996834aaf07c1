"""How trials come about: failures, pruning, timeout, the order of work."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.errors import SearchError
from pcc_pipeline.evaluation.report import cv_metrics
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.plan import Scoring
from pcc_pipeline.search.pools.workers import WorkerPool
from pcc_pipeline.search.searchers import ListSearcher
from pcc_pipeline.search.trials import SearchOutcome

cloudpickle.register_pickle_by_value(sys.modules[__name__])
Objective = Callable[[dict[str, Any], int], dict[str, float]]


def run(objective: Objective, values: list[Any], n_jobs: int = 1, n_folds: int = 2, **options: Any) -> SearchOutcome:
    searcher = options.pop("searcher", None) or ListSearcher({}, [{"v": value} for value in values], len(values))
    with WorkerPool(n_jobs) as pool:
        return run_search(
            searcher,
            Scoring(objective, n_folds, lambda scores: scores["f1"], "f1"),
            pool,
            options.pop("timeout", None),
            options.pop("on_trial", lambda trial: None),
        )


def plain(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
    return {"f1": hyperparameters["v"] + fold, "accuracy": 0.5}


def test_a_score_is_the_mean_over_folds_with_its_spread() -> None:
    best = run(plain, [1, 3]).best
    assert (best.number, best.score, best.std) == (1, 3.5, pytest.approx(0.5**0.5))
    assert best.fold_scores == ({"f1": 3, "accuracy": 0.5}, {"f1": 4, "accuracy": 0.5})


def test_the_spread_of_a_trial_and_of_the_training_is_one_number() -> None:
    best = run(lambda values, fold: {"f1": [0.2, 0.5, 0.9][fold]}, [1], n_folds=3).best
    expected = np.std([0.2, 0.5, 0.9], ddof=1)
    assert best.std == pytest.approx(expected)
    assert cv_metrics(best.fold_scores)["cv/f1_std"] == pytest.approx(expected)


def test_the_best_score_on_chance_is_above_chance_and_the_corrected_one_is_not() -> None:
    """40 candidates whose scores are chance about 0.5."""
    best, corrected = [], []
    for seed in range(30):
        table = np.random.default_rng(seed).normal(0.5, 0.08, size=(40, 5))
        outcome = run(lambda values, fold, table=table: {"f1": table[values["v"], fold]}, range(40), n_folds=5)
        best.append(outcome.best.score)
        corrected.append(outcome.corrected_score(lambda scores: scores["f1"]))
    assert np.mean(best) > 0.56
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.02)


def test_where_nothing_was_chosen_nothing_is_corrected() -> None:
    assert run(plain, [1]).corrected_score(lambda scores: scores["f1"]) is None
    assert run(plain, [1, 2], n_folds=1).corrected_score(lambda scores: scores["f1"]) is None


def test_one_fold_has_no_spread() -> None:
    assert run(plain, [1], n_folds=1).best.std is None


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_score_that_is_no_number_fails_the_trial_and_names_scoring_and_fold(n_jobs: int) -> None:
    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        return {"f1": math.nan if hyperparameters["v"] == 1 and fold >= 1 else 0.5}

    outcome = run(objective, [0, 1, 2], n_jobs, n_folds=4)
    assert [trial.state for trial in outcome.trials] == ["complete", "failed", "complete"]
    assert outcome.trials[1].reason == "score is not a number: f1 cannot be measured on fold 1"
    assert outcome.trials[1].fold_scores == ({"f1": 0.5},)


def test_no_customers_text_gets_into_a_reason() -> None:
    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        secret = "I'm \"Jane Doe\", don't keep my data"
        kind = hyperparameters["v"]
        if kind == 0:
            raise ValueError(f"could not convert string to float: {secret!r}\nmore")
        if kind == 1:
            raise KeyError(secret)
        if kind == 2:
            raise ValueError(f"np.str_({secret!r}) isn't in {[secret, 'b']!r}")
        if kind == 3:
            raise ZeroDivisionError("x" * 500)
        return {"f1": 1.0}

    reasons = [trial.reason for trial in run(objective, [0, 1, 2, 3, 4]).trials]
    assert reasons[0] == "ValueError: could not convert string to float: …"
    assert reasons[1].startswith("KeyError at test_driver.py:")
    assert reasons[2] == "ValueError: np.str_(…]"
    assert not any("Jane" in reason or "data" in reason for reason in reasons)
    assert len(reasons[3]) == 200


def test_scikit_learns_word_on_a_hyperparameter_is_kept_whole() -> None:
    from sklearn.linear_model import LogisticRegression

    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        LogisticRegression(C=hyperparameters["v"]).fit([[0], [1]], [0, 1])
        return {"f1": float(fold)}

    reason = run(objective, [-1, 1.0]).trials[0].reason
    assert reason.startswith("InvalidParameterError: The 'C' parameter of LogisticRegression must be a float")


def test_reasons_are_grouped_and_counted_when_all_fail() -> None:
    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        raise (ArithmeticError if hyperparameters["v"] else FloatingPointError)("too big")

    with pytest.raises(SearchError, match=r"3 failed: 2 x ArithmeticError: too big; 1 x FloatingPointError: too big"):
        run(objective, [0, 1, 1])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupt_is_no_trials_failure(n_jobs: int) -> None:
    def interrupt(_trial: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plain, [1, 2, 3], n_jobs, on_trial=interrupt)


def test_after_the_timeout_what_has_begun_is_finished_and_nothing_else_starts() -> None:
    outcome = run(plain, [1, 2, 3], timeout=1e-9 + 3600)
    assert outcome.timeout is None

    clock = iter(range(0, 1000, 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcc_pipeline.search.driver.time.monotonic", lambda: next(clock))
        outcome = run(plain, [1, 2, 3], timeout=25)
    assert outcome.timeout is not None
    assert [trial.state for trial in outcome.trials] == ["complete", "complete"]


@pytest.mark.long
def test_a_search_that_ended_by_its_timeout_or_lost_workers_says_so_and_what_to_do() -> None:
    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        if hyperparameters["v"] > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"f1": 0.5}

    outcome = run(objective, [1, 2, 3, 4], n_jobs=2)
    assert outcome.summary == "4 candidates: 1 complete, 3 failed"
    assert outcome.workers_died == 3
    (warning,) = outcome.warnings
    assert warning.startswith("3 of 4 candidates were lost")
    assert "search.n_jobs" in warning
    with pytest.raises(SearchError, match="2 x the worker process died") as caught:
        run(objective, [2, 3], n_jobs=2)
    assert caught.value.where == "search.n_jobs"

    clock = iter(range(0, 1000, 10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pcc_pipeline.search.driver.time.monotonic", lambda: next(clock))
        outcome = run(plain, [1, 2, 3], timeout=25)
    assert outcome.warnings == ("search.timeout of 25 s ended the search after 2 of 3 candidates",)
    assert run(plain, [1, 2, 3]).warnings == ()


def test_a_timeout_before_the_first_trial_says_so() -> None:
    with pytest.raises(SearchError, match=r"no trial was completed within search\.timeout of 1e-09 s"):
        run(plain, [1], timeout=1e-9)


def test_a_pruned_trial_ends_there_and_is_never_the_best() -> None:
    class Pruning(ListSearcher):
        def report(self, number: int, fold: int, score: float) -> bool:
            assert score == number + 5 * number + fold
            return number == 1

    searcher = Pruning({}, [{"v": 0}, {"v": 6}, {"v": 12}], 3, pruning=True)
    outcome = run(plain, [], n_jobs=2, n_folds=3, searcher=searcher)
    pruned = outcome.trials[1]
    assert (pruned.state, pruned.score, len(pruned.fold_scores)) == ("pruned", None, 1)
    assert pruned.reason == "pruned after fold 1 of 3"
    assert outcome.best.number == 2


def test_a_log_has_a_line_for_each_trial(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="pcc_pipeline.search")
    run(plain, [1, math.nan])
    assert [record.message.rsplit(" in ", 1)[0] for record in caplog.records] == [
        "trial 0 (1 of 2): f1 1.5000 ± 0.7071",
        "trial 1 (2 of 2): failed: score is not a number: f1 cannot be measured on fold 0",
    ]


def test_trials_of_mixed_values_can_be_written_to_parquet_and_read(tmp_path: Any) -> None:
    def objective(hyperparameters: dict[str, Any], fold: int) -> dict[str, float]:
        if fold == 1 and hyperparameters["mixed"] == "sqrt":
            raise ValueError("no")
        return {"f1": 0.5}

    rows: list[dict[str, Any]] = [
        {"layers": [64], "mixed": None, "n": 1, "x": 0.5, "s": "a", "b": True, "y": 1},
        {"layers": [64, 32], "mixed": "sqrt", "n": 2, "x": 1.0, "s": "b", "b": False, "y": 0.5},
        {"layers": [], "mixed": 0.5, "n": 3, "x": 2.0, "s": "c", "b": False},
    ]
    outcome = run(objective, [], searcher=ListSearcher({}, rows, 3))
    path = tmp_path / "trials.parquet"
    outcome.frame(lambda scores: scores["f1"]).to_parquet(path)
    read = pd.read_parquet(path)
    assert read["state"].tolist() == ["complete", "failed", "complete"]
    assert read["fold_1"].isna().tolist() == [False, True, False]
    assert read["param_layers"].tolist() == ["[64]", "[64, 32]", "[]"]
    assert read["param_mixed"].tolist() == ["null", '"sqrt"', "0.5"]
    assert read["param_n"].dtype == "int64"
    assert read["param_y"].tolist()[:2] == [1, 0.5]
    assert read["param_b"].dtype == "bool"
