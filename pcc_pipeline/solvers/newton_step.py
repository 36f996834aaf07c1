"""The inside of a proximal Newton step: which weights it changes, and the minimiser of the penalised local model."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

_SMALLEST_WORKING_SET = 16


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
    """The minimiser u of g.(u - w) + (u - w)' H (u - w) / 2 + l1 * |u|_1, as a lasso on H's Cholesky factor.

    `hessian` is changed in place.
    """
    size = len(weights)
    if not size:
        return weights
    diagonal = np.diag_indices(size)
    hessian[diagonal] += 1e-8 + 1e-6 * hessian[diagonal]
    factor = _cholesky(hessian)
    target = solve_triangular(factor, hessian @ weights - gradient, trans="T")
    with warnings.catch_warnings():
        # The model need not be solved to the last digit: the outer iteration comes back to it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, path, _ = lasso_path(
            factor, target, alphas=[l1 / size], coef_init=weights.copy(), tol=1e-6, max_iter=300, precompute=False
        )
    return np.asarray(path)[:, 0]


def _cholesky(hessian: np.ndarray) -> np.ndarray:
    """Upper factor of H, with a larger ridge where fewer rows than features leave it singular."""
    ridge = 1e-5 * float(hessian.diagonal().max())
    while True:
        try:
            return np.asarray(cholesky(hessian, lower=False))
        except LinAlgError:
            hessian[np.diag_indices(len(hessian))] += ridge
            ridge *= 10
