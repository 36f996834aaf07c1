"""What a person reads first on a page of MLflow: which data, which model, how good, and what to do with it.

Markdown made of a training's metadata.json and metrics.json and of a test's report. Labels and names of files stand in
it, nothing else that a customer wrote.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from pcc_pipeline.evaluation.page.as_markdown import marked
from pcc_pipeline.evaluation.page.facts import (
    LONGEST_NAME,
    LONGEST_SENTENCE,
    MOST_CLASSES,
    Document,
    TrainedFacts,
    cut,
    headline,
    listed,
    tested_facts,
    training_facts,
    validation_facts,
)
from pcc_pipeline.evaluation.report import worst_first
from pcc_pipeline.tracking.store.experiments import runs_page

REPORT, CARD = "report.html", "model_card.md"
_MOST_WARNINGS = 5
_SPACE = "\N{NO-BREAK SPACE}"
_NO_GATES = 'MLflow\'s own "Promote" button and aliases that are edited here pass no gates.'


def version_tags(facts: TrainedFacts) -> dict[str, str]:
    """The tags that come first where MLflow sorts a version's by their names."""
    labels = [cut(str(label), LONGEST_NAME) for label in facts.metadata["classes"]]
    return {"classifier": str(facts.metadata["model_type"]), "classes": f"{len(labels)}: {listed(labels)}"}


def training_page(facts: TrainedFacts, run_id: str) -> str:
    """Of a `train` run."""
    model = f"runs:/{run_id}/model"
    return _page(facts, None, [f"Score a file with it: `pcc score --model {model} --data FILE`", _NO_GATES])


def evaluation_page(
    facts: TrainedFacts, test: Document, warnings: Sequence[str], model: str, run: tuple[str, str]
) -> str:
    """Of an `evaluate` run.

    Args:
        test: the report's document, with its `source`.
        model: the address of what was evaluated.
        run: ids of its experiment and of the run itself.
    """
    return _page(facts, test, [f"Model: {marked(model)}"], warnings, _report_links(run))


def version_page(
    facts: TrainedFacts,
    name: str,
    number: str,
    test: Document | None = None,
    warnings: Sequence[str] = (),
    run: tuple[str, str] | None = None,
) -> str:
    """Of a registered version: the short form of its model card, to which it leads.

    Args:
        run: ids of the experiment and of the run that evaluated it.
    """
    first = _report_links(run) if run else ""
    return _page(facts, test, _how_to(f"models:/{name}/{number}"), warnings, first)


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
        f"{_report_links((experiment, runs['evaluate']))}\n\n"
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


def _report_links(run: tuple[str, str]) -> str:
    """To what an evaluation tells at length."""
    files = f"#/experiments/{run[0]}/runs/{run[1]}/artifacts"
    return f"May it serve? [Report]({files}/{REPORT}), [model card]({files}/{CARD})"


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
        # Beyond the file's name without marks, since MLflow's lists show the text as it is.
        headline(facts, test, marked),
        *([first] if first else []),
        _table([("", ""), *_facts(facts, test)]),
        *([_by_class(test)] if test else []),
        *([_bullets("Warnings", doubts)] if doubts else []),
        *closing,
    ]
    return "\n\n".join(parts)


def _facts(facts: TrainedFacts, test: Document | None) -> list[tuple[str, str]]:
    rows = [*training_facts(facts), *(tested_facts(test) if test else []), *validation_facts(facts)]
    # Unbroken, since MLflow gives the narrower column as little room as it can.
    return [(title.replace(" ", _SPACE).replace("-", "\N{NON-BREAKING HYPHEN}"), marked(text)) for title, text in rows]


def _by_class(test: Document) -> str:
    ranked = worst_first(test["by_class"])
    shown = ranked if len(ranked) <= MOST_CLASSES + 2 else ranked[:MOST_CLASSES]
    rows: list[tuple[str, ...]] = [("class, worst first", "F1", "95% interval", "precision", "recall", "rows")]
    for each in shown:
        low, high = each["intervals"].get("f1", (None, None))
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        numbers = ["" if each[key] is None else f"{each[key]:.2f}" for key in ("f1", "precision", "recall")]
        name = marked(cut(str(each["label"]), LONGEST_NAME))
        rows.append((name, numbers[0], interval, *numbers[1:], f"{each['support']:,}"))
    more = len(ranked) - len(shown)
    return _table(rows) + (f"\n\n… and {more} classes with a higher F1: metrics.json of the evaluation" if more else "")


def _table(rows: Sequence[Sequence[str]]) -> str:
    # MLflow leaves no room between columns.
    spaced = [[line[0], *(f"{_SPACE}{cell}" for cell in line[1:])] for line in rows]
    lines = [spaced[0], ["---"] * len(rows[0]), *spaced[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(title: str, sentences: Sequence[str]) -> str:
    shown = [f"- {marked(cut(sentence, LONGEST_SENTENCE))}" for sentence in dict.fromkeys(sentences)]
    more = [f"- and {len(shown) - _MOST_WARNINGS} more in metrics.json"] if len(shown) > _MOST_WARNINGS else []
    return "\n".join([f"**{title}**", "", *shown[:_MOST_WARNINGS], *more])
