"""What a person reads first on a page of MLflow: which data, which model, how good, and what to do with it.

Markdown made of a training's metadata.json and metrics.json and of a test's report. Labels and names of files stand in
it, nothing else that a customer wrote.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from pcc_pipeline.evaluation.report import worst_first
from pcc_pipeline.gates.verdicts import marked
from pcc_pipeline.tracking.store.experiments import runs_page

Document = Mapping[str, Any]

_MOST_CLASSES, _MOST_WARNINGS = 10, 5
_LONGEST_NAME, _LONGEST_SENTENCE, _LONGEST_FILE = 40, 280, 160
_MORE_SCORES = ("f1_weighted", "roc_auc", "pr_auc", "log_loss")
_VALIDATED = (("f1_macro", "macro F1"), ("accuracy", "accuracy"))
_SPACE = "\N{NO-BREAK SPACE}"
_NO_GATES = 'MLflow\'s own "Promote" button and aliases that are edited here pass no gates.'


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


def version_tags(facts: TrainedFacts) -> dict[str, str]:
    """The tags that come first where MLflow sorts a version's by their names."""
    labels = [_cut(str(label), _LONGEST_NAME) for label in facts.metadata["classes"]]
    return {"classifier": str(facts.metadata["model_type"]), "classes": f"{len(labels)}: {_listed(labels)}"}


def training_page(facts: TrainedFacts, run_id: str) -> str:
    """Of a `train` run."""
    model = f"runs:/{run_id}/model"
    return _page(facts, None, [f"Score a file with it: `pcc score --model {model} --data FILE`", _NO_GATES])


def evaluation_page(facts: TrainedFacts, test: Document, warnings: Sequence[str], model: str) -> str:
    """Of an `evaluate` run.

    Args:
        test: the report's document, with its `source`.
        model: the address of what was evaluated.
    """
    return _page(facts, test, [f"Model: {marked(model)}"], warnings)


def version_page(
    facts: TrainedFacts, name: str, number: str, test: Document | None = None, warnings: Sequence[str] = ()
) -> str:
    """Of a registered version."""
    return _page(facts, test, _how_to(f"models:/{name}/{number}"), warnings)


def pipeline_page(
    facts: TrainedFacts,
    test: Document,
    warnings: Sequence[str],
    version: tuple[str, str],
    runs: Mapping[str, str],
    experiment: str,
    figures: Mapping[str, str],
) -> str:
    """Of a `pipeline` run, where people land.

    Args:
        version: name and number of the registered version.
        runs: step -> id of the runs to go on to.
        figures: title -> address of a picture, relative to MLflow's own page.
    """
    name, number = version
    # Relative, as the server may stand anywhere.
    pages = {step: runs_page("", experiment, run_id).removeprefix("/") for step, run_id in runs.items()}
    steps = ", ".join(f"[{step}]({page})" for step, page in pages.items())
    first = (
        f"Model: [{marked(name)} version {number}](#/models/{quote(name, safe='')}/versions/{number}); runs: {steps}"
    )
    # Linked, not shown: MLflow draws a note's pictures in their full size, and the page's text is cut off beside them.
    shown = ", ".join(f"[{title}]({address})" for title, address in figures.items())
    return _page(facts, test, _how_to(f"models:/{name}/{number}"), warnings, f"{first}; figures: {shown}")


def model_page(name: str) -> str:
    """Of the registered model."""
    return "\n\n".join(
        [
            "Sorts customers' messages by privacy intent. Each version's description says which data it learned, how "
            "good it is on test rows, and how to load it.",
            "- `champion` serves, scores files and is published\n- `challenger` is the newest training\n"
            "- `previous` was champion before",
            f"{_NO_GATES} Promote the challenger with",
            "`pcc promote`",
            "Load the champion with",
            f'`mlflow.pyfunc.load_model("models:/{marked(name)}@champion")`',
        ]
    )


def _how_to(address: str) -> list[str]:
    return [
        f"Load it: `mlflow.pyfunc.load_model({address!r})`",
        f"Score a file: `pcc score --model {shlex.quote(address)} --data FILE`",
        f"Promote it: `pcc promote --model {shlex.quote(address)}`. {_NO_GATES}",
    ]


def _page(
    facts: TrainedFacts, test: Document | None, closing: Sequence[str], warnings: Sequence[str] = (), first: str = ""
) -> str:
    doubts = [*facts.metrics["warnings"], *warnings]
    parts = [
        headline(facts, test),
        *([first] if first else []),
        _table([("", ""), *_facts(facts, test)]),
        *([_by_class(test)] if test else []),
        *([_bullets("Warnings", doubts)] if doubts else []),
        *closing,
    ]
    return "\n\n".join(parts)


def headline(facts: TrainedFacts, test: Document | None) -> str:
    """Which model, how good, on which data, in one line.

    Without Markdown's marks, since MLflow's lists show the text as it is. It begins with the model's name and a colon:
    by that a version's description is known again.
    """
    data = marked(_cut(_file(str(facts.metadata["trained_on"])), _LONGEST_FILE))
    if test is None:
        scores = facts.metrics["val"]
        kind = "validation rows; not tested yet"
    else:
        scores, kind = test, "test rows"
    score = _score(scores, "f1_macro", "macro F1")
    return f"{facts.name}: {score} on {scores['n_rows']:,} {kind}. Learned from {data}."


def _score(report: Document, name: str, title: str) -> str:
    low, high = report["intervals"][name]
    return f"{title} {report['scores'][name]:.3f} (95% {low:.3f} to {high:.3f})"


def _facts(facts: TrainedFacts, test: Document | None) -> list[tuple[str, str]]:
    metadata, metrics = facts.metadata, facts.metrics
    learned = sorted(metadata["class_distribution"].items(), key=lambda pair: (-pair[1], pair[0]))
    info, search = metadata["search_info"], ""
    if info["trials"] > 1:
        states = ", ".join(f"{count} {state}" for state, count in info["trials_by_state"].items() if count)
        search = f"trial {info['best_trial']}, the best of {info['trials']:,} candidates ({states})"
    rows = [
        (
            "Data",
            f"{_cut(str(metadata['trained_on']), _LONGEST_FILE)}, {metrics['data']['rows']:,} good rows, digest "
            f"{facts.data_digest[:12]}",
        ),
        (
            "Classes",
            f"{len(metadata['classes'])}, by rows that it learned: "
            f"{_listed([f'{_cut(label, _LONGEST_NAME)} {count:,}' for label, count in learned])}",
        ),
        ("Best parameters", parameters(metadata["hyperparameters"])),
        *([("Search", search)] if search else []),
        *_measured(facts, test),
    ]
    # Unbroken, since MLflow gives the narrower column as little room as it can.
    return [(title.replace(" ", _SPACE).replace("-", "\N{NON-BREAKING HYPHEN}"), marked(text)) for title, text in rows]


def _measured(facts: TrainedFacts, test: Document | None) -> list[tuple[str, str]]:
    info = facts.metadata["search_info"]
    validation = facts.metrics["val"]
    rows = []
    if test is not None:
        more = [f"{name} {test['scores'][name]:.3f}" for name in _MORE_SCORES if test["scores"][name] is not None]
        scores = ", ".join([_score(test, "accuracy", "accuracy"), *more])
        rows.append(("Test", f"{scores}, on {_cut(test['source'], _LONGEST_FILE)}"))
    scores = ", ".join(_score(validation, name, title) for name, title in _VALIDATED)
    rows.append(("Validation", f"{scores} on {validation['n_rows']:,} rows"))
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
    return _cut(", ".join(shown), _LONGEST_SENTENCE)


def _by_class(test: Document) -> str:
    ranked = worst_first(test["by_class"])
    shown = ranked if len(ranked) <= _MOST_CLASSES + 2 else ranked[:_MOST_CLASSES]
    rows: list[tuple[str, ...]] = [("class, worst first", "F1", "95% interval", "precision", "recall", "rows")]
    for each in shown:
        low, high = each["intervals"].get("f1", (None, None))
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        numbers = ["" if each[key] is None else f"{each[key]:.2f}" for key in ("f1", "precision", "recall")]
        name = marked(_cut(str(each["label"]), _LONGEST_NAME))
        rows.append((name, numbers[0], interval, *numbers[1:], f"{each['support']:,}"))
    more = len(ranked) - len(shown)
    return _table(rows) + (f"\n\n… and {more} classes with a higher F1: metrics.json of the evaluation" if more else "")


def _table(rows: Sequence[Sequence[str]]) -> str:
    # MLflow leaves no room between columns.
    spaced = [[line[0], *(f"{_SPACE}{cell}" for cell in line[1:])] for line in rows]
    lines = [spaced[0], ["---"] * len(rows[0]), *spaced[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(title: str, sentences: Sequence[str]) -> str:
    shown = [f"- {marked(_cut(sentence, _LONGEST_SENTENCE))}" for sentence in dict.fromkeys(sentences)]
    more = [f"- and {len(shown) - _MOST_WARNINGS} more in metrics.json"] if len(shown) > _MOST_WARNINGS else []
    return "\n".join([f"**{title}**", "", *shown[:_MOST_WARNINGS], *more])


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _MOST_CLASSES
    return ", ".join(words[:_MOST_CLASSES]) + (f" and {more} more" if more > 0 else "")


def _file(address: str) -> str:
    return address.rstrip("/").rpartition("/")[2]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
