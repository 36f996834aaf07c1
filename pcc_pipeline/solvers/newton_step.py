"""The inside of a proximal Newton step: which weights it changes, and the minimiser of the penalised local model."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

_SMALLEST_WORKING_SET = 16
# The model is solved where no subgradient is off by more than this share of the penalty.
_SOLVED = 1e-3
# Where the signs are all but known, a few solutions of linear equations are exact and cost less than many sweeps.
_EQUATIONS_FIRST, _EQUATIONS_LAST = 4, 6
_SWEEPS = 100


def violation_of(weights: np.ndarray, gradient: np.ndarray, l1: float = 1.0) -> np.ndarray:
    """How far each weight is from optimal under l1 * |w|: the smallest subgradient's size, shape of `weights`."""
    at_zero = np.maximum(np.abs(gradient) - l1, 0)
    violation: np.ndarray = np.where(weights == 0, at_zero, np.abs(gradient + l1 * np.sign(weights)))
    return violation


def working_set(weights: np.ndarray, violation: np.ndarray) -> tuple[np.ndarray, bool]:
    """Places (of flat arrays) in use, and of those at zero the ones with the largest violation, at most as many again.

    Also whether those are all that violate their optimality.
    """
    in_use = np.flatnonzero(weights)
    waiting = np.flatnonzero((weights == 0) & (violation > 0))
    most = max(_SMALLEST_WORKING_SET, len(in_use))
    whole = len(waiting) <= most
    if not whole:
        waiting = waiting[np.argpartition(-violation[waiting], most)[:most]]
    return np.concatenate([in_use, waiting]), whole


def minimise_model(hessian: np.ndarray, gradient: np.ndarray, weights: np.ndarray, l1: float = 1.0) -> np.ndarray:
    """The minimiser u of g.(u - w) + (u - w)' H (u - w) / 2 + l1 * |u|_1, or a point nearly as low.

    Which weights are zero, and the signs of the others, are first taken as they are and mended by solving for them, as
    feature-sign search does (Lee, Battle, Raina and Ng, "Efficient sparse coding algorithms", NIPS 2006). Where that
    does not end, scikit-learn's coordinate descent sweeps, and its signs are mended. `hessian` is changed in place.
    """
    size = len(weights)
    if not size:
        return weights
    diagonal = np.diag_indices(size)
    hessian[diagonal] += 1e-8 + 1e-6 * hessian[diagonal]
    linear = hessian @ weights - gradient
    best, solved = _mended(hessian, linear, weights, l1, _EQUATIONS_FIRST)
    if solved:
        return best
    factor = _cholesky(hessian)
    target = solve_triangular(factor, linear, trans="T")
    with warnings.catch_warnings():
        # The model need not be solved to the last digit: the outer iteration comes back to it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, path, _ = lasso_path(
            factor,
            target,
            alphas=[l1 / size],
            coef_init=best.copy(),
            tol=1e-6,
            max_iter=_SWEEPS,
            precompute=hessian,
            Xy=linear,
            check_input=False,
        )
    return _mended(hessian, linear, np.asarray(path)[:, 0], l1, _EQUATIONS_LAST)[0]


def _mended(
    hessian: np.ndarray, linear: np.ndarray, weights: np.ndarray, l1: float, most: int
) -> tuple[np.ndarray, bool]:
    """Weights as low as `weights` or lower, and whether they are the minimiser of u' H u / 2 - b.u + l1 * |u|_1."""
    turned = hessian @ weights
    value = _value(weights, turned, linear, l1)
    for equation in range(most + 1):
        left, zero = linear - turned, weights == 0
        signs = np.sign(weights)
        entering = zero & (np.abs(left) > l1 * (1 + _SOLVED))
        if not entering.any() and np.abs(left - l1 * signs)[~zero].max(initial=0) <= _SOLVED * l1:
            return weights, True
        if equation == most:
            break
        signs[entering] = np.sign(left[entering])
        places = np.flatnonzero(signs)
        try:
            factor = cho_factor(hessian[np.ix_(places, places)], check_finite=False)
        except LinAlgError:
            break
        solution = cho_solve(factor, linear[places] - l1 * signs[places], check_finite=False)
        there = np.zeros_like(weights)
        there[places] = np.where(solution * signs[places] > 0, solution, 0)
        turned = hessian @ there
        lower = _value(there, turned, linear, l1)
        if lower >= value:
            break
        weights, value = there, lower
    return weights, False


def _value(weights: np.ndarray, turned: np.ndarray, linear: np.ndarray, l1: float) -> float:
    return float(weights @ (turned / 2 - linear) + l1 * np.abs(weights).sum())


def _cholesky(hessian: np.ndarray) -> np.ndarray:
    """Upper factor of H, with a larger ridge where fewer rows than features leave it singular."""
    ridge = 1e-5 * float(hessian.diagonal().max())
    while True:
        try:
            return np.asarray(cholesky(hessian, lower=False))
        except LinAlgError:
            hessian[np.diag_indices(len(hessian))] += ridge
            ridge *= 10
