"""The losses that the solvers minimise, and the objective as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcc_pipeline.solvers.problem import BLOCK_ROWS, Problem

# This share of the columns has units of up to so many times the least: up to 6 in sentence vectors with a lexical half.
_BUT_FEW, UNLIKE = 0.9, 10.0


def softmax_losses(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's log loss (n, 1) and its derivative by the scores (n, K), which take the scores' place."""
    scores -= scores.max(axis=1, keepdims=True)
    right = (targets * scores).sum(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    scores /= total
    scores -= targets
    return np.log(total) - right, scores


def binary_losses(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each column's log losses (n, K) and their derivatives by the scores (n, K)."""
    # By the wrong side's score, so that no digits cancel where a row is on the right one.
    signs = 1 - 2 * targets
    wrong = signs * scores
    small = np.exp(-np.abs(wrong))
    return np.log1p(small) + np.maximum(wrong, 0), signs * (np.where(wrong >= 0, 1, small) / (1 + small))


def weighed_losses(problem: Problem, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each column, (K,), or of the softmax, (1,), and its derivatives by the scores, (n, K).

    Both are times the rows' costs.
    """
    values, slopes, _ = losses_along(problem, scores, np.zeros_like(scores[:1]), np.zeros(1))
    return values, slopes


def losses_along(
    problem: Problem, scores: np.ndarray, drift: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`weighed_losses` at scores + size * drift, and the loss's derivative by the size, of the shape of the loss.

    Args:
        drift: (n, K), or (1, K) for all rows.
        size: one for all columns, (1,), or one for each, (K,).
    """
    each = softmax_losses if problem.softmax else binary_losses
    slopes, costs, size = np.empty_like(scores), problem.costs, size.astype(scores.dtype)
    values = np.zeros(1 if problem.softmax else scores.shape[1])
    along = np.zeros(scores.shape[1])
    for start in range(0, len(scores), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        costs_here = costs if len(costs) == 1 else costs[part]
        drift_here = drift if len(drift) == 1 else drift[part]
        losses, slope = each(scores[part] + size * drift_here, problem.targets[part])
        np.multiply(slope, costs_here, out=slopes[part])
        values += (costs_here * losses).sum(axis=0, dtype=np.float64)
        along += (slopes[part] * drift_here).sum(axis=0, dtype=np.float64)
    return values, slopes, along.sum(keepdims=True) if problem.softmax else along


def penalised(problem: Problem) -> np.ndarray:
    """1 for each weight that the penalties are on, (d + 1, 1)."""
    weights = np.ones((problem.rows.shape[1] + 1, 1))
    weights[-1] = float(problem.penalty.intercept_penalised)
    return weights


def ridge_pull(problem: Problem, weights: np.ndarray) -> np.ndarray:
    """The derivative of the l2 penalty by the weights, (d + 1, K); twice the penalty is its product with them."""
    pull: np.ndarray = problem.penalty.l2 * penalised(problem) * weights
    if (of_intercept := intercept_pull(problem)) is not None:
        pull[-1] = 0
        pull += of_intercept * (of_intercept.T @ weights)
    return pull


def intercept_pull(problem: Problem) -> np.ndarray | None:
    """Of rows that were moved: v, (d + 1, 1), for which the l2 penalty of an intercept is (v . weights)^2 / 2.

    None where they were not, or where the intercept is free.
    """
    if problem.centre is None or not problem.penalty.intercept_penalised:
        return None
    pull: np.ndarray = np.sqrt(problem.penalty.l2) * np.append(-problem.centre, 1.0)[:, None]
    return pull


def objective(problem: Problem, weights: np.ndarray) -> float:
    """What the solvers minimise, in double precision, at `weights` (d + 1, K)."""
    in_double = replace(problem, in_double=True)
    values, _ = weighed_losses(in_double, in_double.scores(weights))
    lasso = problem.penalty.l1 * penalised(problem) * np.abs(weights)
    return float(values.sum() + lasso.sum() + (weights * ridge_pull(problem, weights)).sum() / 2)


def are_unlike(units: np.ndarray, times: float = UNLIKE) -> bool:
    """Whether columns with these `own_units` are on so different scales that a descent by plain gradients stands still.

    A few far greater than the others make it do so, or some far smaller; a few of many that are next to zero, as
    sentence vectors have, do not.
    """
    return bool(np.quantile(units[:-1], _BUT_FEW) > times * units[:-1].min())


def own_units(problem: Problem) -> np.ndarray:
    """A unit for each row of the weights, (d + 1, 1), by its greatest curvature: a logistic loss has up to 1/4."""
    each = np.broadcast_to(problem.row_weights.mean(axis=1), len(problem.targets))
    if problem.mixture is not None:
        # A mixture's square is at most the mixture of the squares.
        each = problem.mixture.T @ each
    weighed = problem.mixture is not None or len(problem.row_weights) > 1
    if not weighed:
        each = np.full(len(problem.rows), problem.row_weights.mean())
    squares = np.zeros(problem.rows.shape[1] + 1)
    for start in range(0, len(problem.rows), BLOCK_ROWS):
        rows, weights = problem.rows[start : start + BLOCK_ROWS], each[start : start + BLOCK_ROWS]
        rows = rows * np.sqrt(weights, dtype=rows.dtype)[:, None] if weighed else rows
        squares += np.append(np.einsum("ij,ij->j", rows, rows), weights.sum())
    curvature = problem.C / 4 * squares + problem.penalty.l2
    # A column of zeros without a ridge has no curvature, and its weight stays where it is in any unit.
    units: np.ndarray = 1 / np.sqrt(np.where(curvature > 0, curvature, np.median(curvature[curvature > 0])))
    return units[:, None]
