"""How often quiet windows are called changed, which changes are noticed, and how far estimated accuracy is off.

    python -m benchmarks.drift --data DIR --cache DIR [--half report] [--models 4] [--deals 50]

`DIR/<set>/{train,test}.parquet` have `text` and the label: banking77 (both files together), and the 27 intents of
pcc_bitext (the training file: the other is another release, whose wording has changed). Different texts, in halves by
chance: on the half `choice` the statistics and estimators were chosen, the half `report` is what is written down.

Of a tenth of the labels, drawn for each model, all rows are new labels. Of the others, models learn 60 %, calibrated as
`train` does; for each window the rest is dealt anew into reference and stream, so that windows share a model and
nothing else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.calibration import macro_f1
from pcc_pipeline.config import Params
from pcc_pipeline.encoder.caches.on_disk import EmbeddingCache
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.model.calibration import HeldScores, calibrate, raw_scores
from pcc_pipeline.model.fitting import FittedModel, Recipe, Rows, fit, prepare
from pcc_pipeline.model.probabilities import class_probabilities
from pcc_pipeline.monitoring.change.learned_space import LearnedSpace
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.profile import Origin, make_profile
from pcc_pipeline.steps.records.reference_profile import signals_of

SETS = {"banking77": ("intent", ("train", "test")), "pcc_bitext": ("intent", ("train",))}
DOMAIN = "sage_privacy_reviews"
QUIET = "none"
# Of the power table, those that are large enough to be noticed nearly always.
KINDS = (
    "10 % new labels",
    "30 % new labels",
    "3 % typos",
    "10 % typos",
    "a tenth of the labels at 60 %",
    "10 % another domain",
    "first 4 words",
)
_FIXED = {"C": 10.0, "penalty": "l2", "solver": "lbfgs"}
_RATE, _MOST_ROWS, _CHANGED_ROWS = 0.05, 13_000, 700
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Stream:
    """Rows as a model sees them: signals, labels, (n,) str."""

    signals: Signals
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Stream:
        return Stream(self.signals.take(rows), self.labels[rows])


@dataclass(frozen=True)
class World:
    """A model, the rows that it did not learn, and rows that have changed, by kind."""

    classes: np.ndarray
    space: LearnedSpace
    held: Stream
    changed: dict[str, Stream]


@dataclass
class Tally:
    """What windows of one kind showed."""

    alarms: list[bool] = field(default_factory=list)
    single: dict[str, list[bool]] = field(default_factory=dict)
    errors: dict[str, list[float]] = field(default_factory=dict)
    optimistic: list[bool] = field(default_factory=list)
    flagged: list[bool] = field(default_factory=list)


def with_typos(text: str, rate: float, draws: np.random.Generator) -> str:
    """Each character with this chance left out, replaced, doubled or followed by another."""
    made = []
    for sign in text:
        other = _LETTERS[draws.integers(26)]
        made.append(("", other, sign * 2, sign + other)[draws.integers(4)] if draws.random() < rate else sign)
    return "".join(made) or text


def world(rows: Rows, domain: Rows, vectors: Callable[[list[str]], np.ndarray], seed: int) -> World:
    """One model and what it is shown."""
    draws = np.random.default_rng(seed)
    labels = np.unique(rows.labels)
    new = np.isin(rows.labels, draws.choice(labels, max(1, round(len(labels) / 10)), replace=False))
    order = draws.permutation(np.flatnonzero(~new))
    cut, last = int(0.5 * len(order)), int(0.6 * len(order))
    train, validation, held = (rows.take(part) for part in (order[:cut], order[cut:last], order[last:]))
    recipe = Recipe("LogisticRegression", "none", Params().preprocessing.lexical, 42)
    first = fit(prepare(train, recipe), _FIXED, recipe)
    classes = [str(label) for label in np.unique(train.labels)]
    whole = full_vectors(validation.vectors, first.lexical, validation.texts)
    places = np.searchsorted(classes, validation.labels)
    known = np.isin(validation.labels, classes)
    scores = HeldScores.joined(
        [
            (
                raw_scores(first.classifier, classes, whole[known]),
                class_probabilities(first.classifier, classes, whole[known]),
                places[known],
            )
        ]
    )
    calibration = calibrate("auto", scores, macro_f1)
    both = rows.take(order[:last])
    final = fit(prepare(both, recipe), _FIXED, recipe)
    model = FittedModel(final.lexical, calibration.applied(final.classifier))
    space = LearnedSpace.of(train.vectors, 0)

    def seen(some: Rows) -> Stream:
        shown = signals_of(some.texts, some.vectors, model.probabilities(some), model.lexical, space)
        return Stream(shown, some.labels)

    few = held.take(draws.permutation(len(held.texts))[:_CHANGED_ROWS])

    def stream_of(change: Callable[[str], str]) -> Stream:
        texts = [change(text) for text in few.texts]
        return seen(Rows(texts, vectors(texts), few.labels))

    changed = {
        "new labels": seen(rows.take(np.flatnonzero(new))),
        "another domain": seen(Rows(domain.texts, domain.vectors, np.full(len(domain.texts), "", dtype=object))),
        "3 % typos": stream_of(lambda text: with_typos(text, 0.03, draws)),
        "10 % typos": stream_of(lambda text: with_typos(text, 0.1, draws)),
        "first 4 words": stream_of(lambda text: " ".join(text.split()[:4]) or text),
    }
    return World(np.array(classes), space, seen(held), changed)


def window(kind: str, stream: Stream, there: World, rows: int, draws: np.random.Generator) -> Stream:
    """So many rows of this kind; nothing is drawn twice where there are enough."""

    def drawn(some: Stream, count: int) -> Stream:
        return some.take(draws.choice(len(some.labels), count, replace=len(some.labels) < count))

    def mixed(other: Stream, share: float) -> Stream:
        count = round(share * rows)
        return _joined(drawn(stream, rows - count), drawn(other, count))

    if kind == QUIET:
        return drawn(stream, rows)
    if kind.endswith("new labels"):
        return mixed(there.changed["new labels"], int(kind.split()[0]) / 100)
    if kind.endswith("another domain"):
        return mixed(there.changed["another domain"], 0.1)
    if kind == "a tenth of the labels at 60 %":
        some = draws.choice(there.classes, max(1, round(len(there.classes) / 10)), replace=False)
        few = np.isin(stream.labels, some)
        return _joined(drawn(stream.take(few), round(0.6 * rows)), drawn(stream.take(~few), round(0.4 * rows)))
    return drawn(there.changed[kind], rows)


def _joined(*parts: Stream) -> Stream:
    return Stream(Signals.joined([part.signals for part in parts]), np.concatenate([part.labels for part in parts]))


def single_detectors(reference: Signals, shown: Signals, n_classes: int, seed: int) -> dict[str, bool]:
    """Whether each detector alone, as one would write it, calls the window changed."""
    assert reference.probabilities is not None
    assert shown.probabilities is not None
    assert reference.components is not None
    assert shown.components is not None
    gaps = [
        stats.ks_2samp(reference.probabilities[:, place], shown.probabilities[:, place], method="asymp").pvalue
        for place in range(n_classes)
    ]
    unknown = stats.mannwhitneyu(reference.unknown, shown.unknown).pvalue
    counts = np.array([np.bincount(part.predicted, minlength=n_classes) for part in (reference, shown)])
    there = counts[:, counts.sum(axis=0) > 0]
    shares = there / there.sum(axis=1, keepdims=True)
    middle = shares.mean(axis=0)
    divergence = float(np.mean([stats.entropy(part, middle, base=2) for part in shares]))
    return {
        "KS on probabilities, Bonferroni": min(gaps) <= _RATE / n_classes,
        "unknown terms, Mann-Whitney": unknown <= _RATE,
        "domain classifier": _told_apart(reference.components, shown.components, seed) <= _RATE,
        "MMD": _mean_discrepancy(reference.components, shown.components, seed) <= _RATE,
        "chi-square on predicted labels": stats.chi2_contingency(there).pvalue <= _RATE,
        "Jensen-Shannon > 0.1": divergence > 0.1,
    }


def _told_apart(here: np.ndarray, there: np.ndarray, seed: int) -> float:
    """Chance that a logistic regression ranks held-out rows of two equal sets apart so well."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows, which = np.vstack([here, there]), np.repeat([0, 1], [len(here), len(there)])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    scores = cross_val_predict(LogisticRegression(max_iter=300), rows, which, cv=folds, method="decision_function")
    return float(stats.mannwhitneyu(scores[which == 1], scores[which == 0], alternative="greater").pvalue)


def _mean_discrepancy(here: np.ndarray, there: np.ndarray, seed: int, most: int = 250, times: int = 99) -> float:
    """Of a Gaussian kernel of the median distance, by permutations, on at most so many rows of each."""
    draws = np.random.default_rng(seed)
    parts = [part[draws.permutation(len(part))[:most]].astype(np.float64) for part in (here, there)]
    rows = np.vstack(parts)
    lengths = (rows**2).sum(axis=1)
    squares = np.maximum(lengths[:, None] + lengths - 2 * rows @ rows.T, 0)
    kernel = np.exp(-squares / np.median(squares[np.triu_indices(len(rows), 1)]))
    signs = np.concatenate([np.full(len(parts[0]), 1 / len(parts[0])), np.full(len(parts[1]), -1 / len(parts[1]))])
    orders = np.array([signs, *(draws.permutation(signs) for _ in range(times))])
    discrepancies = np.einsum("ij,jk,ik->i", orders, kernel, orders, optimize=True)
    return float((discrepancies >= discrepancies[0]).mean())


def deal(there: World, kinds: list[str], tallies: dict[str, Tally], rows: int, seed: int) -> None:
    """Reference and stream dealt anew, and one window of each kind."""
    draws = np.random.default_rng(seed)
    order = draws.permutation(len(there.held.labels))
    reference, stream = there.held.take(order[: len(order) // 2]), there.held.take(order[len(order) // 2 :])
    places = {label: place for place, label in enumerate(there.classes)}
    labels = np.array([places.get(label, -1) for label in reference.labels])
    classes = [str(label) for label in there.classes]
    origin = Origin(there.space, classes, "", "", "test", exact=True, seed=seed)
    profile = make_profile(reference.signals, labels, np.arange(len(labels)), origin)
    assert profile is not None, "there are rows enough"
    for kind in kinds:
        shown = window(kind, stream, there, rows, draws)
        health = profile.watch(shown.signals, _RATE)
        tally = tallies.setdefault(kind, Tally())
        tally.alarms.append(health.drift.alarm)
        for name, alarm in single_detectors(reference.signals, shown.signals, len(there.classes), seed).items():
            tally.single.setdefault(name, []).append(bool(alarm))
        true = float((there.classes[shown.signals.predicted] == shown.labels).mean())
        estimate = health.estimate
        said = {
            "estimate (ATC)": estimate.value,
            "DoC": estimate.doc,
            "CBPE": float(shown.signals.confidence.mean()),
            "as the reference": estimate.reference,
        }
        for name, value in said.items():
            tally.errors.setdefault(name, []).append(value - true)
        tally.optimistic.append(estimate.low > true)
        tally.flagged.append(estimate.upper_bound)


def rows_of(folder: Path, name: str, half: str, cache: Path) -> tuple[Rows, Rows, Callable[[list[str]], np.ndarray]]:
    """A half of a set, rows of another domain, and what makes vectors."""
    encoder = SentenceEncoder(backend="auto")

    def vectors(texts: list[str]) -> np.ndarray:
        with EmbeddingCache(cache, encoder.space, SENTENCE_WIDTH) as kept:
            return embed(texts, encoder, kept)[0]

    column, files = SETS[name]
    frame = pd.concat([pd.read_parquet(folder / name / f"{file}.parquet") for file in files], ignore_index=True)
    frame = frame[frame["text"].str.strip() != ""].drop_duplicates("text")
    frame = frame.sample(min(_MOST_ROWS, len(frame)), random_state=0)
    order = np.random.default_rng(0).permutation(len(frame))
    middle = len(order) // 2
    frame = frame.iloc[order[:middle] if half == "choice" else order[middle:]]
    texts = [str(text) for text in frame["text"]]
    domain = [str(text) for text in pd.read_parquet(folder / DOMAIN / "train.parquet")["text"] if str(text).strip()]
    labels = frame[column].to_numpy(dtype=object).astype(str)
    return Rows(texts, vectors(texts), labels), Rows(domain, vectors(domain), np.empty(len(domain))), vectors


def main(arguments: list[str] | None = None) -> int:
    """Print the tables of each set, after each model of it those of all so far."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="a folder that keeps vectors for the next call")
    parser.add_argument("--set", action="append", choices=tuple(SETS), help="default: all; repeatable")
    parser.add_argument("--half", choices=("choice", "report"), default="report")
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--deals", type=int, default=50, help="of each model: quiet windows; a tenth of them changed")
    parser.add_argument("--rows", type=int, default=500, help="of a window")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    for name in options.set or SETS:
        rows, domain, vectors = rows_of(options.data, name, options.half, options.cache)
        tallies: dict[str, Tally] = {}
        for model in range(options.models):
            there = world(rows, domain, vectors, model)
            for number in range(options.deals):
                kinds = [QUIET, *(KINDS if number % 10 == 0 else ())]
                deal(there, kinds, tallies, options.rows, 1000 * model + number)
            print(f"{name}: model {model + 1}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            print("\n".join(tables(name, tallies)), flush=True)
    return 0


def tables(name: str, tallies: dict[str, Tally]) -> list[str]:
    """Power and errors of one set, in Markdown."""
    quiet = tallies[QUIET].alarms
    interval = stats.binomtest(sum(quiet), len(quiet)).proportion_ci()
    singles = list(tallies[QUIET].single)
    lines = [
        f"{name}: {sum(quiet)} of {len(quiet)} quiet windows are alarms, {np.mean(quiet):.3f} "
        f"({interval.low:.3f} to {interval.high:.3f})",
        "",
        f"| change | windows | verdict | {' | '.join(singles)} |",
        f"|{'---|' * (3 + len(singles))}",
    ]
    for kind, tally in tallies.items():
        cells = [f"{np.mean(tally.single[single]):.2f}" for single in singles]
        lines.append(f"| {kind} | {len(tally.alarms)} | {np.mean(tally.alarms):.2f} | {' | '.join(cells)} |")
    estimators = list(tallies[QUIET].errors)
    lines += ["", f"| change | {' | '.join(estimators)} | true below the interval | of these flagged | flagged |"]
    lines.append(f"|{'---|' * (4 + len(estimators))}")
    for kind, tally in tallies.items():
        cells = [f"{np.mean(np.abs(tally.errors[each])):.3f}" for each in estimators]
        high, flagged = np.array(tally.optimistic), np.array(tally.flagged)
        of_these = f"{flagged[high].mean():.2f}" if high.any() else ""
        lines.append(f"| {kind} | {' | '.join(cells)} | {high.mean():.2f} | {of_these} | {flagged.mean():.2f} |")
    means = [np.mean([np.mean(np.abs(tally.errors[each])) for tally in tallies.values()]) for each in estimators]
    return [*lines, f"| mean of all kinds | {' | '.join(f'{mean:.3f}' for mean in means)} | | | |", ""]


if __name__ == "__main__":
    sys.exit(main())
