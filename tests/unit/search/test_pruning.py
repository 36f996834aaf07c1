"""The rule that stops trials between folds does what Optuna's MedianPruner does."""

from __future__ import annotations

import optuna
import pytest

from pcc_pipeline.search.pruning import FOLDS_FIRST, TRIALS_FIRST, MedianRule
from pcc_pipeline.search.trials import Trial, TrialState


def ended(number: int, state: TrialState) -> Trial:
    return Trial(number, {}, state, (), 0.5 if state == "complete" else None, None, 0.0, "", 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_it_stops_the_trials_that_optuna_stops_at_the_same_folds(seed: int) -> None:
    import random

    draw, rule, n_folds = random.Random(seed), MedianRule(), 6
    pruner = optuna.pruners.MedianPruner(n_startup_trials=TRIALS_FIRST, n_warmup_steps=FOLDS_FIRST - 1)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    stopped = 0
    for number in range(40):
        trial, scores, level = study.ask(), [], draw.random()
        state: TrialState = "complete"
        for fold in range(n_folds):
            scores.append(level + 0.3 * draw.random())
            trial.report(sum(scores) / len(scores), fold)
            stops = rule.stops(number, scores[-1])
            assert stops == trial.should_prune(), f"trial {number}, fold {fold}"
            if stops:
                state = "pruned"
                break
        stopped += state == "pruned"
        rule.ended(ended(number, state))
        values = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
        study.tell(trial, sum(scores) / len(scores) if state == "complete" else None, values[state])
    assert 5 < stopped < 35


def test_a_failed_trial_is_nothing_to_be_measured_by() -> None:
    rule = MedianRule()
    for number in range(TRIALS_FIRST):
        rule.stops(number, 0.9)
        rule.ended(ended(number, "failed"))
    assert not any(rule.stops(99, 0.1) for _ in range(5))
