"""A random search over the older system's space: as `train` makes it, and as it is written with the usual libraries.

Both sides get the same sentence vectors, candidates, folds, balancing and scoring, two worker processes, and solvers
that may converge (max_iter 1000). Ours includes the preparation of the folds; neither includes a final fit.

The peer is RandomizedSearchCV over an imbalanced-learn pipeline. It alone takes over half an hour on the largest
set, so `make bench` runs a part of the rows, and the whole is

    python -m benchmarks.random_search pcc_bitext --rows 10000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing.context
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend.context import ctx_loky

from benchmarks.comparison import Comparison
from benchmarks.real_data import Messages, messages
from pcc_pipeline.config.schema import PreprocessingParams
from pcc_pipeline.data.quality.counts import class_counts
from pcc_pipeline.data.splits import cross_validation_folds, group_ids
from pcc_pipeline.evaluation.metrics import objective, scores
from pcc_pipeline.model.fitting import Recipe, Rows
from pcc_pipeline.model.folds import FoldObjective, prepare_fold
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.plan import Scoring
from pcc_pipeline.search.pools.workers import WorkerPool
from pcc_pipeline.search.searchers import RandomSearcher
from pcc_pipeline.search.spaces import space_of

Folds = list[tuple[np.ndarray, np.ndarray]]
_SEED, _WORKERS = 42, 2


@dataclass(frozen=True)
class Setting:
    """Which rows, how many candidates, how many folds."""

    name: str
    rows: int | None
    trials: int
    folds: int


FULL = {
    "sage_privacy_reviews": Setting("sage_privacy_reviews", None, 20, 5),
    "pcc_bitext": Setting("pcc_bitext", 10_000, 20, 5),
    "banking77": Setting("banking77", None, 8, 3),
}
# What `make bench` runs, with the ratio to be reached on the whole set: minutes, not hours.
_SHORT = [(FULL["sage_privacy_reviews"], 4.0), (Setting("pcc_bitext", 1_500, 6, 5), None)]
# The peer is left out of the largest: it takes a quarter of an hour.
_GROWTH: list[tuple[int | None, Literal["1x", "4x", "16x"], bool]] = [
    (625, "1x", True),
    (2_500, "4x", True),
    (None, "16x", False),
]


@dataclass(frozen=True)
class Searched:
    """Wall and processor seconds of a search, each candidate's mean score and seconds, and seconds by phase."""

    wall: float
    processor: float
    candidates: list[dict[str, Any]]
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> float:
        return max(float(candidate["score"]) for candidate in self.candidates)


def comparisons() -> Iterator[Comparison]:
    """The three sets, those that are there, at sizes for `make bench`."""
    for setting, goal in _SHORT:
        if (rows := messages(setting.name, setting.rows)) is not None:
            title = f"search {setting.trials} x {setting.folds}, {setting.name}, {len(rows.texts):,} rows"
            yield Comparison(title, partial(_pair, rows, setting), goal, most_runs=1)
    for n_rows, size, beside_peer in _GROWTH:
        setting = Setting("banking77", n_rows, 8, 3)
        if (rows := messages(setting.name, setting.rows)) is not None:
            title = f"search {setting.trials} x {setting.folds}, {setting.name}, from {_GROWTH[0][0]} rows"
            yield Comparison(title, partial(_pair, rows, setting, beside_peer), most_runs=1, size=size)


def _pair(rows: Messages, setting: Setting, beside_peer: bool = True) -> tuple[float, float | None, str]:
    ours = search_ours(rows, setting)
    check = f"folds {ours.phases['folds']:.1f} s, fits {ours.phases['trials']:.1f} s; best {ours.best:.4f}"
    if not beside_peer:
        return ours.wall, None, check
    peer = search_peer(rows, setting)
    return ours.wall, peer.wall, f"{check}, peer's {peer.best:.4f}"


def search_ours(rows: Messages, setting: Setting, exact: bool = False) -> Searched:
    """The search of `pcc_pipeline.steps.training.search`, less MLflow."""
    classes = np.unique(rows.labels)
    encoded = Rows(rows.texts, rows.vectors, np.searchsorted(classes, rows.labels))
    recipe = Recipe("LogisticRegression", balancing(rows), PreprocessingParams().lexical, _SEED, exact)
    searcher = RandomSearcher({}, space_of("LogisticRegression", "older"), setting.trials, _SEED)
    folds = _folds(rows, setting)
    begun, worked = time.perf_counter(), _processor_seconds()
    with tempfile.TemporaryDirectory() as name, WorkerPool(_WORKERS) as pool:
        scored = FoldObjective(Path(name), recipe, len(classes), partial(scores, positive=1))
        with pool.sharing(encoded.hashed(recipe.lexical)) as shared:
            pool.run_all(
                prepare_fold,
                [(shared, *fold, recipe, scored.fold_folder(number)) for number, fold in enumerate(folds)],
                "preparing the folds",
            )
        prepared = time.perf_counter()
        scoring = Scoring(scored, len(folds), partial(objective, scoring="f1_macro"))
        outcome = run_search(searcher, scoring, pool, None, lambda trial: None)
        searched = time.perf_counter()
    candidates = [
        {**trial.hyperparameters, "score": trial.score, "seconds": trial.seconds, "state": trial.state}
        for trial in outcome.trials
    ]
    phases = {"folds": prepared - begun, "trials": searched - prepared}
    return Searched(searched - begun, _processor_seconds() - worked, candidates, phases)


def search_peer(rows: Messages, setting: Setting) -> Searched:
    """The same with scikit-learn and imbalanced-learn alone."""
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import Pipeline
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.multiclass import OneVsRestClassifier

    options = PreprocessingParams().lexical
    hashing = HashingVectorizer(
        analyzer=options["analyzer"],
        ngram_range=options["ngram_range"],
        n_features=options["n_features"],
        norm=None,
        alternate_sign=False,
        dtype=np.float32,
    )
    tfidf = TfidfTransformer(sublinear_tf=options["sublinear_tf"])
    # Without the threshold the SVD is of all 65,536 columns and several times slower.
    used = VarianceThreshold()
    svd = TruncatedSVD(options["components"], random_state=_SEED)
    columns = [f"sentence_{place}" for place in range(rows.vectors.shape[1])]
    frame = pd.DataFrame(rows.vectors, columns=columns)
    frame["text"] = rows.texts
    features = ColumnTransformer(
        [
            ("sentence", "passthrough", columns),
            ("lexical", Pipeline([("hashing", hashing), ("tfidf", tfidf), ("used", used), ("svd", svd)]), "text"),
        ]
    )
    sampler = "passthrough" if balancing(rows) == "none" else SMOTE(random_state=_SEED)
    pipeline = Pipeline([("features", features), ("balance", sampler), ("classifier", LogisticRegression())])
    several = len(np.unique(rows.labels)) > 2
    searcher = RandomSearcher({}, space_of("LogisticRegression", "older"), setting.trials, _SEED)
    candidates = [candidate.hyperparameters for candidate in iter(searcher.ask, None) if candidate]
    choices = []
    for values in candidates:
        classifier: Any = LogisticRegression(
            C=values["C"],
            l1_ratio={"l1": 1.0, "l2": 0.0}[values["penalty"]],
            solver=values["solver"],
            max_iter=1000,
            random_state=_SEED,
        )
        if several and values["solver"] == "liblinear":
            classifier = OneVsRestClassifier(classifier)
        choices.append({"classifier": [classifier]})
    search = RandomizedSearchCV(
        pipeline,
        choices,
        n_iter=len(choices),
        scoring="f1_macro",
        n_jobs=_WORKERS,
        refit=False,
        cv=_folds(rows, setting),
        random_state=_SEED,
    )
    begun, worked = time.perf_counter(), _processor_seconds()
    with warnings.catch_warnings(), _processes_of_joblib():
        warnings.simplefilter("ignore")
        search.fit(frame, rows.labels)
    wall = time.perf_counter() - begun
    # Processor time of a worker is counted when it has ended.
    get_reusable_executor().shutdown(wait=True)
    cv_results = search.cv_results_
    # RandomizedSearchCV shuffles a list of choices; the classifier itself says which candidate it was.
    order = {id(choice["classifier"][0]): place for place, choice in enumerate(choices)}
    results: list[dict[str, Any]] = [{} for _ in candidates]
    for place, classifier in enumerate(cv_results["param_classifier"]):
        number = order[id(classifier)]
        results[number] = {
            **candidates[number],
            "score": float(cv_results["mean_test_score"][place]),
            "seconds": float(cv_results["mean_fit_time"][place] + cv_results["mean_score_time"][place]) * setting.folds,
        }
    return Searched(wall, _processor_seconds() - worked, results)


@contextmanager
def _processes_of_joblib() -> Iterator[None]:
    """Let workers start as joblib's own loky has them start.

    It and ours tell multiprocessing to start workers their way, and the last one imported wins: joblib then loses sight
    of the files that it shares with its workers, and says so in many tracebacks.
    """
    contexts: Any = vars(multiprocessing.context)["_concrete_contexts"]  # there is no public way
    before = contexts["loky"]
    contexts["loky"] = ctx_loky
    try:
        yield
    finally:
        contexts["loky"] = before


def _folds(rows: Messages, setting: Setting) -> Folds:
    return cross_validation_folds(rows.labels, group_ids(rows.texts), setting.folds, True, _SEED)


def balancing(rows: Messages) -> str:
    """The method that `train` would balance these rows by."""
    return PreprocessingParams().balance_for(class_counts(list(rows.labels)).imbalance)


def _processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main() -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(description="One search at its full size, with each candidate's score and time.")
    parser.add_argument("set", choices=FULL)
    parser.add_argument("--rows", type=int, help="a stratified part of the rows")
    parser.add_argument("--runs", type=int, default=3, help="how often ours is run; the median is shown (default 3)")
    parser.add_argument("--side", choices=("both", "ours", "exact", "peer"), default="both")
    parser.add_argument("--peer", type=Path, help="a file to keep the peer's figures in; read if it is there")
    parser.add_argument("--vectors", type=Path, help="a folder to keep the sentence vectors in")
    options = parser.parse_args()
    full = FULL[options.set]
    setting = Setting(full.name, options.rows or full.rows, full.trials, full.folds)
    rows = messages(setting.name, setting.rows, options.vectors)
    if rows is None:
        print(f"{setting.name} is not beside the checkout", file=sys.stderr)
        return 1
    if options.side == "peer" or (options.side == "both" and not (options.peer and options.peer.is_file())):
        peer: Searched | None = search_peer(rows, setting)
        if options.peer and peer:
            options.peer.write_text(json.dumps(vars(peer)))
    else:
        peer = Searched(**json.loads(options.peer.read_text())) if options.peer and options.peer.is_file() else None
    if peer:
        print(f"peer: {peer.wall:.1f} s, {peer.processor:.1f} s of processor, best {peer.best:.4f}")
    if options.side == "peer":
        return 0
    runs = sorted(
        (search_ours(rows, setting, options.side == "exact") for _ in range(options.runs)), key=lambda s: s.wall
    )
    ours = runs[len(runs) // 2]
    for run in runs:
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run.phases.items())
        print(f"ours: {run.wall:.1f} s, {run.processor:.1f} s of processor, best {run.best:.4f} ({parts})")
    if peer:
        print(f"ratio: {peer.wall / ours.wall:.1f} by the clock, {peer.processor / ours.processor:.1f} of processor")
    print(f"{'C':>10} {'penalty':<8}{'solver':<10}{'ours s':>8}{'peer s':>8}{'ours':>9}{'peer':>9}{'gap':>9}")
    for place, mine in enumerate(ours.candidates):
        head = f"{mine['C']:>10.4g} {mine['penalty']:<8}{mine['solver']:<10}{mine['seconds']:>8.1f}"
        if peer:
            other = peer.candidates[place]
            gap = mine["score"] - other["score"]
            head += f"{other['seconds']:>8.1f}{mine['score']:>9.4f}{other['score']:>9.4f}{gap:>9.4f}"
        print(head)
    return 0


if __name__ == "__main__":
    sys.exit(main())
