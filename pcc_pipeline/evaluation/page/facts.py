"""What a training and an evaluation left on record, and what it comes to in a few words.

Made of metadata.json and metrics.json. Labels, case ids and names of files stand in it, nothing else that a customer
wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pcc_pipeline.config.paths import in_brief
from pcc_pipeline.evaluation.over_time.since_champion import Difference
from pcc_pipeline.model.selection import features_sentence
from pcc_pipeline.plurals import counted

Document = Mapping[str, Any]

MOST_CLASSES, LONGEST_NAME, LONGEST_FILE, LONGEST_SENTENCE = 10, 40, 160, 280
_HELD_OUT = "held-out rows of "
_MORE_SCORES = ("f1_weighted", "roc_auc", "pr_auc", "log_loss")
_VALIDATED = (("f1_macro", "macro F1"), ("accuracy", "accuracy"))


@dataclass(frozen=True)
class TrainedFacts:
    """What a training left on record.

    Attributes:
        metadata, metrics: metadata.json and metrics.json.
        data_digest: of the file that it learned from.
    """

    metadata: Document
    metrics: Document
    data_digest: str

    @property
    def name(self) -> str:
        """Such as `LogisticRegression v20261125_173250`."""
        return f"{self.metadata['model_type']} {self.metadata['model_version']}"

    @property
    def learned_from(self) -> str:
        """The address of its data, several files in brief."""
        return in_brief(str(self.metadata["trained_on"]))


@dataclass(frozen=True)
class GateOutlook:
    """What a gate of `registry.gates` will say.

    Attributes:
        passes: None where only a promotion can judge.
        measured, note: as in a verdict; empty where it is not judged yet.
    """

    gate: str
    required: str
    passes: bool | None
    measured: str = ""
    note: str = ""


@dataclass(frozen=True)
class ChampionFacts:
    """The version that is champion while another is evaluated.

    Attributes:
        number: of the registered version.
        is_this: it is the one that is evaluated.
        name: such as `v20261125_173250`; empty where no measurement of it is on record.
        metrics: of its newest measurement on test rows, under their names in MLflow; those on the same rows come first.
        same_rows: they are of the very rows that this evaluation is of.
    """

    number: str
    is_this: bool = False
    name: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    same_rows: bool = False


@dataclass(frozen=True)
class SinceChampion:
    """The data of an evaluation beside those that the champion learned.

    Attributes:
        learned: what the champion's training left on record; None where it is not at hand.
        training: how the rows that this version learned differ; None where they are the champion's own.
        test: how the rows differ that this version was measured on.
    """

    learned: TrainedFacts | None
    training: Difference | None = None
    test: Difference | None = None

    def to_json(self) -> dict[str, Any] | None:
        """For metrics.json; None where the champion's record is not at hand."""
        if self.learned is None:
            return None
        parts = {"training": self.training, "test": self.test}
        return {
            "champion": str(self.learned.metadata["model_version"]),
            **{name: None if part is None else part.to_json() for name, part in parts.items()},
        }


@dataclass(frozen=True)
class EvaluatedFacts:
    """An evaluation, with what is known of its model and of what stands beside it.

    Attributes:
        test: `test` of metrics.json, with its `source`.
        model: the address of what was evaluated.
        measured_at: when, with its zone.
        registered: name and number of the version; None for a model that is not registered.
        champion: None while there is none.
        since_champion: None while there is no champion.
        label_issues: `case_id`, `label`, `suggested` and `score` of rows whose labels to look at; None where nobody
            looked for them.
    """

    trained: TrainedFacts
    test: Document
    warnings: Sequence[str]
    model: str
    measured_at: datetime
    gates: Sequence[GateOutlook] = ()
    registered: tuple[str, str] | None = None
    champion: ChampionFacts | None = None
    since_champion: SinceChampion | None = None
    label_issues: Sequence[Document] | None = None

    @property
    def doubts(self) -> list[str]:
        """Warnings of the training and of the evaluation, each once."""
        return list(dict.fromkeys([*self.trained.metrics["warnings"], *self.warnings]))


def headline(facts: TrainedFacts, test: Document | None, written: Callable[[str], str] = str) -> str:
    """Which model, how good, on which data, in one line.

    It begins with the model's name and a colon: by that a version's description is known again.

    Args:
        written: how the file's name is, which may hold marks; the rest has none.
    """
    data = written(cut(file_name(str(facts.metadata["trained_on"])), LONGEST_FILE))
    if test is None:
        scores = facts.metrics["val"]
        rows = f"{counted(scores['n_rows'], 'validation row')}; not tested yet"
    else:
        scores, rows = test, counted(test["n_rows"], "test row")
    score = score_text(scores, "f1_macro", "macro F1")
    return f"{facts.name}: {score} on {rows}. Learned from {data}."


def score_text(report: Document, name: str, title: str) -> str:
    """A score with its interval."""
    low, high = report["intervals"][name]
    return f"{title} {report['scores'][name]:.3f} (95% {low:.3f} to {high:.3f})"


def training_facts(facts: TrainedFacts) -> list[tuple[str, str]]:
    """What it learned from, and what it is: a title and a sentence each."""
    metadata, metrics = facts.metadata, facts.metrics
    learned = sorted(metadata["class_distribution"].items(), key=lambda pair: (-pair[1], pair[0]))
    info = metadata["search_info"]
    rows = [
        # Versions of an earlier release have no number.
        *([("Number", f"{metadata['semver']}: {metadata['change']}")] if "semver" in metadata else []),
        (
            "Data",
            f"{cut(facts.learned_from, LONGEST_FILE)}, {metrics['data']['rows']:,} good rows, digest "
            f"{facts.data_digest[:12]}",
        ),
        (
            "Classes",
            f"{len(metadata['classes'])}, by rows that it learned: "
            f"{listed([f'{cut(label, LONGEST_NAME)} {count:,}' for label, count in learned])}",
        ),
        ("Best parameters", parameters(metadata["hyperparameters"])),
    ]
    # A run of an earlier release has no word on it, and chose none.
    if (features := metadata.get("feature_selection", {"method": "none"}))["method"] != "none":
        rows.append(("Features", features_sentence(features)))
    if info["trials"] > 1:
        states = ", ".join(f"{count} {state}" for state, count in info["trials_by_state"].items() if count)
        rows.append(("Search", f"trial {info['best_trial']}, the best of {info['trials']:,} candidates ({states})"))
    return rows


def tested_facts(test: Document) -> list[tuple[str, str]]:
    """Its scores on test rows, and which these are."""
    more = [f"{name} {test['scores'][name]:.3f}" for name in _MORE_SCORES if test["scores"][name] is not None]
    scores = ", ".join([score_text(test, "accuracy", "accuracy"), *more])
    return [("Test", f"{scores}, on {tested_on(test)}")]


def tested_on(test: Document) -> str:
    """Which rows a test was of, several files in brief."""
    address = str(test["source"]).removeprefix(_HELD_OUT)
    return cut(f"{_HELD_OUT * (address != test['source'])}{in_brief(address)}", LONGEST_FILE)


def validation_facts(facts: TrainedFacts) -> list[tuple[str, str]]:
    """Its scores on validation rows and from cross-validation."""
    validation, info = facts.metrics["val"], facts.metadata["search_info"]
    scores = ", ".join(score_text(validation, name, title) for name, title in _VALIDATED)
    rows = [("Validation", f"{scores} on {counted(validation['n_rows'], 'row')}")]
    if info["best_score"] is not None:
        corrected = info["best_score_corrected"]
        text = f"{info['scoring']} {info['best_score']:.4f} over {info['folds']} folds"
        rows.append(
            ("Cross-validation", text + ("" if corrected is None else f", {corrected:.4f} corrected for the choice"))
        )
    return rows


def parameters(hyperparameters: Mapping[str, Any]) -> str:
    """Hyperparameters as a person writes them; those that are not set are left out."""
    shown = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in hyperparameters.items()
        if value is not None
    ]
    return cut(", ".join(shown), LONGEST_SENTENCE)


def listed(words: Sequence[str]) -> str:
    """The words, at most ten of them."""
    more = len(words) - MOST_CLASSES
    return ", ".join(words[:MOST_CLASSES]) + (f" and {more} more" if more > 0 else "")


def file_name(address: str) -> str:
    """The last part of an address; of several files, how many they are and the last part of the last one's."""
    brief = in_brief(address)
    number, last, file = brief.rpartition(", the last ") if brief != address else ("", "", brief)
    return f"{number}{last}{file.rstrip('/').rpartition('/')[2]}"


def cut(text: str, most: int) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
