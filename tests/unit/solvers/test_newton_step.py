"""The penalised local model is minimised, whatever it starts from."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from pcc_pipeline.solvers.newton_step import minimise_model


@pytest.mark.parametrize("start", ["zero", "near", "far"])
@pytest.mark.parametrize(("size", "rows", "l1"), [(1, 5, 1.0), (12, 40, 3.0), (60, 80, 1.0)])
def test_no_subgradient_is_far_from_the_penalty(size: int, rows: int, l1: float, start: str) -> None:
    draws = np.random.default_rng(size + rows)
    features = draws.normal(size=(rows, size))
    hessian = features.T @ features
    truth = np.where(draws.random(size) < 0.3, draws.normal(size=size), 0)
    linear = hessian @ truth + features.T @ draws.normal(size=rows)
    weights = {"zero": np.zeros(size), "near": truth, "far": 5 * draws.normal(size=size)}[start]
    found = minimise_model(hessian.copy(), hessian @ weights - linear, weights, l1)

    def value(point: np.ndarray) -> float:
        return float(point @ hessian @ point / 2 - linear @ point + l1 * np.abs(point).sum())

    left = linear - hessian @ found
    in_use = found != 0
    assert np.abs(left[~in_use]).max(initial=0) <= 1.05 * l1
    np.testing.assert_allclose(left[in_use], l1 * np.sign(found[in_use]), atol=0.05 * l1)
    assert value(found) <= value(weights)


def test_fewer_rows_than_weights_leave_the_model_nearly_as_low_as_it_can_be() -> None:
    draws = np.random.default_rng(0)
    features, target = draws.normal(size=(20, 60)), 3 * draws.normal(size=20)
    found = minimise_model(features.T @ features, -features.T @ target, np.zeros(60), 0.5)
    least = Lasso(alpha=0.5 / 20, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(features, target).coef_

    def value(point: np.ndarray) -> float:
        return float(((features @ point - target) ** 2).sum() / 2 + 0.5 * np.abs(point).sum())

    assert value(found) - value(least) < 0.01 * (value(np.zeros(60)) - value(least))


def test_weights_that_are_the_minimiser_stay() -> None:
    hessian = np.diag([2.0, 4.0])
    # 2 u - 5 + 1 = 0 and |3| < l1: at (2, 0).
    weights = np.array([2.0, 0.0])
    gradient = hessian @ weights - np.array([5.0, 0.5])
    np.testing.assert_allclose(minimise_model(hessian, gradient, weights, 1.0), weights, atol=1e-5)


def test_no_weights_are_no_weights() -> None:
    assert len(minimise_model(np.zeros((0, 0)), np.zeros(0), np.zeros(0))) == 0
