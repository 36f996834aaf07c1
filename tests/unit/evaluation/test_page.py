"""The page of an evaluation and the model card: the same facts, whole, safe and by themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from pcc_pipeline.evaluation.answers import answers
from pcc_pipeline.evaluation.over_time.since_champion import RowCounts, difference
from pcc_pipeline.evaluation.page import facts as page_facts
from pcc_pipeline.evaluation.page.facts import (
    ChampionFacts,
    EvaluatedFacts,
    GateOutlook,
    SinceChampion,
    TrainedFacts,
)
from pcc_pipeline.evaluation.page.sections import model_card, report_page
from pcc_pipeline.evaluation.plots.confusion import confusion_matrix
from pcc_pipeline.evaluation.plots.coverage import risk_coverage_curve
from pcc_pipeline.evaluation.plots.curves import calibration_curve
from pcc_pipeline.evaluation.report import report
from pcc_pipeline.model.decision import DecisionRule
from pcc_pipeline.tracking.payloads import drawn

HOSTILE = '<script>alert("1")</script>'
GATES = (GateOutlook("minimum test/f1_macro", ">= 0.8", True, "0.9123"), GateOutlook("encoder", "abc", True, "abc"))


def facts(
    classes: list[str], rows: int = 300, *, draw: bool = False, **more: Any
) -> tuple[EvaluatedFacts, dict[str, bytes]]:
    """An evaluation of a model that leaves some rows and makes sets, and its figures."""
    draws = np.random.default_rng(3)
    y = np.concatenate([np.arange(len(classes)), draws.integers(0, len(classes), rows - len(classes))])
    proba = draws.dirichlet(np.full(len(classes), 0.3), rows)
    proba[np.arange(rows), np.where(draws.random(rows) < 0.2, (y + 1) % len(classes), y)] += 1.0
    proba /= proba.sum(axis=1, keepdims=True)
    labels = np.array(classes, dtype=object)[y]
    rule = DecisionRule("confidence", 0.6, None, 0.9, (0.2,) * len(classes))
    measured = answers(labels, proba, proba, classes, rule)
    scores = report("test", labels, proba, classes)
    test = {**scores.to_json(), "answers": measured.to_json(), "source": "cases.csv", "overlap_removed_rows": 2}
    predicted, what = proba.argmax(axis=1), "test"
    drawings = {
        "confusion_matrix_normalised": confusion_matrix(y, predicted, classes, what, normalised=True),
        "calibration_curve": calibration_curve(y, proba, classes, what),
        "risk_coverage": risk_coverage_curve(measured, rows),
    }
    pictures = drawn(drawings) if draw else dict.fromkeys(drawings, b"PNG")
    metadata = {
        **{"model_type": "LogisticRegression", "model_version": "v20260101_000000", "trained_on": "cases.csv"},
        **{"embedding_model": "all-MiniLM-L6-v2", "feature_dimensions": 584, "hyperparameters": {"C": 1.0}},
        **{"classes": classes, "class_distribution": dict.fromkeys(classes, 40), "training_samples": 40 * len(classes)},
        "search_info": {"trials": 1, "best_score": None},
        "training_timestamp": "2026-01-01T00:00:00+00:00",
        "calibration": {"method": "temperature", "cross_validated_log_loss": {"none": 1.0, "temperature": 0.9}},
        "decision": {"score": "confidence", "threshold": 0.6, "label": None},
    }
    trained = TrainedFacts(
        metadata,
        {"val": scores.to_json(), "data": {"rows": rows, "label_issues": 60}, "warnings": ["Doubt of the training."]},
        "ab" * 32,
    )
    given = {"gates": GATES, "registered": ("pcc-intent-classifier", "3"), **more}
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return EvaluatedFacts(trained, test, ["Doubt of the test."], "models:/m/3", at, **given), pictures


class Page(HTMLParser):
    """Elements with their attributes, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "rect", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module", params=[2, 77], ids=["2 classes", "77 classes"])
def told(request: pytest.FixtureRequest) -> tuple[EvaluatedFacts, dict[str, bytes]]:
    return facts([f"class_{place:02}_of_messages" for place in range(request.param)], 300, draw=True)


def test_the_page_is_small_and_asks_for_nothing(told) -> None:
    text = report_page(*told)
    assert len(text.encode()) < 3_000_000
    assert "http" not in re.sub(r'data:image/png;base64,[^"]*|http-equiv', "", text)
    page = Page(text)
    assert not page.open[2:], "an element was left open"
    assert {"script", "link", "iframe", "object", "form", "base"}.isdisjoint(tag for tag, _ in page.elements)
    addresses = [value for _, kept in page.elements for name, value in kept.items() if name in ("href", "src")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in addresses)
    names = {kept.get("id") for tag, kept in page.elements if tag == "section"}
    places = {kept.get("id") for tag, kept in page.elements if tag == "input"}
    assert {kept.get("for") for tag, kept in page.elements if tag == "label"} == places, "and in MLflow's frame"
    assert {value[1:] for value in addresses if value.startswith("#")} == names, "each link leads to a section"
    assert sum(tag == "img" for tag, _ in page.elements) == 3
    for needed in ("prefers-color-scheme:dark", "@media print", "width=device-width"):
        assert needed in text


def test_page_and_card_say_what_was_measured(told) -> None:
    known, pictures = told
    test, card = known.test, model_card(known).replace("\\", "")
    for text in (Page(report_page(known, pictures)).text, card):
        low, high = test["intervals"]["f1_macro"]
        for expected in (
            *("Nothing measured here stands against it: all gates pass", "There is no champion yet"),
            *("Doubt of the training.", "Doubt of the test.", "pcc promote --model models:/pcc-intent-classifier/3"),
            *(f"{test['scores']['f1_macro']:.3f}", f"95 % interval {low:.3f} to {high:.3f}", "method temperature"),
            *("Rows of confidence below 0.6000 get no label", "hold the right label (90% asked for)"),
            *("2 more were left out", "no slices were measured", "nobody looked for them"),
            *(each["label"] for each in test["by_class"]),
        ):
            assert expected in text, expected
    assert "data:image" not in card


@pytest.mark.parametrize("hostile", [HOSTILE, '"><img src=x onerror=alert(1)>', "a | b\n# c", "`*_[x](http://y)_*`"])
def test_no_label_or_id_becomes_a_part_of_the_page(hostile: str) -> None:
    issues = [{"case_id": hostile, "label": hostile, "suggested": "other", "score": 0.1}] * 60
    gates = [GateOutlook(f"minimum test/class/{hostile}/f1", ">= 1", False, "0.5", hostile)]
    champion = ChampionFacts("1", False, hostile, {"test/f1_macro": 0.5})
    known, pictures = facts([hostile, "other"], 40, gates=gates, champion=champion, label_issues=issues)
    slices = [
        {
            **{"slice": hostile, "value": hostile, "rows": 9, "metric": "f1_macro"},
            **{"score": 0.5, "interval": [0.2, 0.8], "worse": True},
        }
    ]
    known = replace(known, test={**known.test, "slices": slices, "source": hostile}, warnings=[hostile])
    page = Page(report_page(known, pictures))
    assert {"script"}.isdisjoint(tag for tag, _ in page.elements)
    assert sum(tag == "img" for tag, _ in page.elements) == 3
    assert not [name for _, kept in page.elements for name in kept if name.startswith("on")]
    shown = " ".join(hostile.split())
    assert page.text.count(shown) > 60
    assert "60 training rows whose labels look wrong, the first 50 of them here" in page.text
    assert "1 of 1 slices are worse" in page.text
    card = model_card(known)
    assert "<script" not in card
    assert "<img" not in card
    assert len([line for line in card.splitlines() if line.startswith("# ")]) == 1


@pytest.mark.parametrize(
    ("worse", "gained", "said"),
    [
        (
            (False, False),
            1,
            ("none of 2 windows is worse", "is not shown: training again before each window set 1 rows"),
        ),
        ((False, True), 20, ("Yes: in the latest window", "Training again pays")),
        ((True, False), 0, ("Not lately; but in 2026-01-01 to 2026-01-31", "Training again made it worse")),
    ],
)
def test_a_backtest_says_whether_it_gets_worse_and_whether_training_again_pays(worse, gained, said) -> None:
    known, _ = facts(["a", "b"], 40)
    assert "no backtest was made" in Page(report_page(known, {})).text
    windows = [
        {
            **{"starts": f"2026-0{month}-01T00:00:00+00:00", "ends": f"2026-0{month}-31T00:00:00+00:00", "worse": flag},
            **{"f1_macro": 0.9, "f1_macro_interval": [0.8, 0.95], "accuracy": 0.91, "f1_macro_trained_once": 0.7},
            **{"rows": 50, "trained_rows": 100},
        }
        for month, flag in zip((1, 3), worse, strict=True)
    ]
    retraining = {"gained": gained, "lost": 9 if gained != 1 else 0, "differs": gained != 1}
    metrics = {**known.trained.metrics, "backtest": {"windows": windows, "retraining": retraining}}
    text = Page(report_page(replace(known, trained=replace(known.trained, metrics=metrics)), {})).text
    assert "no backtest was made" not in text
    for expected in (*said, "2026-03-01", "2026-03-31", "0.700"):
        assert expected in text


def test_the_messages_over_time_are_told_with_what_changes_in_them() -> None:
    known, _ = facts(["a", "b"], 40)
    assert "The messages over time" not in Page(report_page(known, {})).text
    counted: dict[str, Any] = {
        **{"rows": 600, "rows_without_time": 3, "rows_outside": 0, "by_day": [10] * 60, "tests": 0, "findings": []},
        **{"first_day": "2026-01-01", "last_day": "2026-03-01"},
    }

    def page(**more: Any) -> str:
        metrics = {**known.trained.metrics, "volumes": {**counted, **more}}
        return Page(report_page(replace(known, trained=replace(known.trained, metrics=metrics)), {})).text

    for expected in ("600 messages of cases.csv, from 2026-01-01", "10.0 a day", "3 more have no time", "28 would do"):
        assert expected in page()
    assert "None of 8 tests of weekly patterns and changes shows more" in page(tests=8)
    findings = [
        {"label": None, "kind": "weekly", "when": "least on Sunday, most on Monday", "before": 4.0, "after": 12.5},
        {"label": HOSTILE, "kind": "break", "when": "2026-02-02", "before": 0.1, "after": 0.25},
    ]
    text = page(tests=8, findings=findings)
    for expected in ("weekly pattern", "12.5", f"share of {HOSTILE}", "2026-02-02", "10.0%", "25.0%", "Where a level"):
        assert expected in text


def test_a_failed_gate_and_one_that_waits_are_said_first() -> None:
    gates = (
        GateOutlook("minimum test/f1_macro", ">= 0.99", False, "0.9123"),
        GateOutlook("no_worse_than_champion f1_macro", "difference >= -0.03", None),
        GATES[1],
    )
    measured = {"test/f1_macro": 0.777, "test/f1_macro_low": 0.7, "test/f1_macro_high": 0.8, "test/rows": 55.0}
    champion = ChampionFacts("2", False, "v20250101_000000", measured)
    known, _ = facts(["a", "b"], 40, gates=gates, champion=champion)
    text = Page(report_page(known, {})).text
    assert "Not as it stands: 1 of 2 gates that can be judged here fail: minimum test/f1_macro" in text
    assert "Only a promotion can judge no_worse_than_champion f1_macro." in text
    assert "judged at promotion" in text
    assert "other test rows (55 of them)" in text
    assert "0.777" in text
    same = replace(known, champion=replace(champion, same_rows=True), gates=gates[1:])
    text = Page(report_page(same, {})).text
    assert "the one gate that can be judged here passes" in text
    assert "on the same test rows" in text
    assert (
        "It is the champion and serves already"
        in Page(report_page(replace(known, champion=ChampionFacts("3", is_this=True), gates=GATES), {})).text
    )
    assert "No gates are set" in Page(report_page(replace(known, gates=()), {})).text


def test_what_changed_since_the_champion_learned_is_said_in_words() -> None:
    known, _ = facts(["a", HOSTILE], 40)
    before = RowCounts({"a": 500, "gone": 500}, {"0 to 50": 900, "51 to 100": 100})
    now = RowCounts({"a": 500, HOSTILE: 40}, {"0 to 50": 530, "51 to 100": 10})
    theirs = replace(known.trained, metadata={**known.trained.metadata, "trained_on": "older.csv"})

    def said(since: SinceChampion | None, **more: Any) -> str:
        champion = ChampionFacts("2", **more)
        return Page(report_page(replace(known, champion=champion, since_champion=since), {})).text

    part = difference(before, now)
    text = said(SinceChampion(theirs, part, difference(before, before)))
    for expected in (
        "540 rows that it learned, beside 1,000 that the champion learned",
        f"labels that the champion never learned: {HOSTILE}; labels without a row: gone",
        "share ofchampionhere",
        "label a50.0%92.6%",
        "1,000 test rows, beside 1,000 that the champion learned: labels and lengths are shared out alike",
        "older.csv",
    ):
        assert expected in text
    assert "learned the very rows" in said(SinceChampion(theirs, None, part))
    own = said(SinceChampion(known.trained, None, part), is_this=True)
    assert "540 test rows" in own
    assert "learned the very rows" not in own
    assert "is not at hand" in said(SinceChampion(None))
    assert "What changed since the champion learned" not in said(None)


def test_the_halves_are_on_the_page_and_a_threshold_above_every_certainty_is_put_in_words() -> None:
    known, _ = facts(["a", HOSTILE], 40)
    shares = [{"label": "a", "sentence_share": 0.4, "lexical_share": 0.6}]
    importance = {"method": "contributions", "sentence_share": 0.7, "lexical_share": 0.3, "by_class": shares}
    nothing = {"score": "confidence", "threshold": 1.1, "label": None}
    metadata = {**known.trained.metadata, "decision": nothing}
    told = replace(
        known, test={**known.test, "importance": importance}, trained=replace(known.trained, metadata=metadata)
    )
    text = Page(report_page(told, {"feature_halves": b"PNG"})).text
    assert "70% of what decides is the meaning of the sentence" in text
    assert "Most by words go a (60%)" in text
    assert "Every row gets no label and goes to a person: no confidence was shown to be right often enough" in text
    assert "1.1" not in text


@pytest.mark.parametrize(
    ("address", "name", "whole"),
    [
        ("gs://b/2026.csv", "2026.csv", "gs://b/2026.csv"),
        ('["gs://b/08.csv", "gs://b/[09].csv"]', "2 files, the last [09].csv", "2 files, the last gs://b/[09].csv"),
        ("[odd.csv", "[odd.csv", "[odd.csv"),
    ],
)
def test_several_files_are_counted_and_the_last_is_named(address: str, name: str, whole: str) -> None:
    known, _ = facts(["a", "b"])
    trained = replace(known.trained, metadata={**known.trained.metadata, "trained_on": address})
    assert page_facts.headline(trained, None).endswith(f"Learned from {name}.")
    assert dict(page_facts.training_facts(trained))["Data"].startswith(f"{whole}, ")
    for kind in ("held-out rows of ", ""):
        ((_, said),) = page_facts.tested_facts({**known.test, "source": f"{kind}{address}"})
        assert said.endswith(f", on {kind}{whole}")
