"""How many planted wrong labels are noticed: precision and recall of confident learning on real training rows.

    python -m benchmarks.label_issues [--set banking77 ...] [--rows 3000] [--share 0.05] [--cache FOLDER]

No test row is read. A share of the labels is changed to another class drawn at random among the others (`random`), or
to the class that the model, trained on the labels as they came, holds for the likeliest of the others (`runner-up`,
what people mix up). Rows that the sets' own annotators labelled wrongly count as false alarms, so the true precision is
higher; so does `none`, where nothing is changed and every listed row counts as one.
"""

from __future__ import annotations

import numpy as np

from benchmarks.calibration import Fold, held_scores, macro_f1, prepared_folds
from benchmarks.real_data import asked_for, which_sets
from pcc_pipeline.config import Params
from pcc_pipeline.evaluation.label_issues import find_label_issues
from pcc_pipeline.model.calibration import calibrate
from pcc_pipeline.model.families import complete
from pcc_pipeline.model.fitting import Recipe, Rows


def main() -> None:
    """Print one table: a line for each set and kind of noise."""
    parser = which_sets(__doc__, 3_000)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are changed")
    options = parser.parse_args()
    print("| set | rows, classes | changed to | changed | listed | precision | recall | precision of the first half |")
    print("|---|---|---|---|---|---|---|---|")
    for name, read in asked_for(options):
        classes, came = np.unique(read.labels.astype(str), return_inverse=True)
        recipe = Recipe("LogisticRegression", "none", Params().preprocessing.lexical, 42)
        folds = prepared_folds(Rows(read.texts, read.vectors, came), recipe)
        plain = _held_out(folds, came, recipe, len(classes))
        for kind, noisy in _noises(came, plain, options.share).items():
            probabilities = plain if kind == "none" else _held_out(folds, noisy, recipe, len(classes))
            case_ids = np.arange(len(noisy)).astype(str)
            table = find_label_issues(case_ids, noisy, probabilities, classes.tolist()).table
            changed = noisy != came
            right = changed[table["case_id"].astype(int)]
            cells = [name, f"{len(came):,}, {len(classes)}", kind, f"{changed.sum():,}", f"{len(table):,}"]
            if changed.any() and len(table):
                half = right[: (len(right) + 1) // 2]
                cells += [f"{share:.3f}" for share in (right.mean(), right.sum() / changed.sum(), half.mean())]
            print(f"| {' | '.join(cells + [''] * (8 - len(cells)))} |", flush=True)


def _noises(came: np.ndarray, plain: np.ndarray, share: float) -> dict[str, np.ndarray]:
    """Kind of noise -> labels with it; the same rows are changed by each."""
    random = np.random.default_rng(1)
    changed = random.random(len(came)) < share
    drawn = (came + random.integers(1, plain.shape[1], len(came))) % plain.shape[1]
    others = plain.copy()
    others[np.arange(len(came)), came] = -1
    return {
        "none": came,
        "random": np.where(changed, drawn, came),
        "runner-up": np.where(changed, others.argmax(axis=1), came),
    }


def _held_out(folds: list[Fold], labels: np.ndarray, recipe: Recipe, n_classes: int) -> np.ndarray:
    """Calibrated probabilities of each row by the default model of the other folds, (n, K), in the rows' order."""
    scores = held_scores(folds, labels, recipe, complete(recipe.family, {}), n_classes)
    made = calibrate("auto", scores, macro_f1)
    assert made.rows is not None, "the folds say which rows they held"
    table = np.empty_like(made.held)
    table[made.rows] = made.held
    return table


if __name__ == "__main__":
    main()
