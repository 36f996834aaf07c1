"""Every figure can be drawn and saved for any number of classes, and shows the numbers that the metrics give."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.metrics import class_scores, scores
from pcc_pipeline.evaluation.plots.data_and_search import (
    class_distribution,
    optimisation_history,
    parameter_importances,
)
from pcc_pipeline.evaluation.plots.figures import figures
from pcc_pipeline.evaluation.plots.style import short, shorts

STEMS = [
    "scores_by_class",
    "confusion_matrix",
    "confusion_matrix_normalised",
    "confused_pairs",
    "roc_curve",
    "precision_recall_curve",
    "calibration_curve",
]


def sample(n_classes: int, rows: int = 400, seed: int = 1):
    draws = np.random.default_rng(seed)
    y = draws.integers(0, n_classes, rows)
    leaning = draws.normal(size=(rows, n_classes))
    leaning[np.arange(rows), y] += 2
    given = np.exp(leaning)
    classes = [f"a_rather_long_snake_case_name_of_an_intent_{place}" for place in range(n_classes)]
    return y, given / given.sum(axis=1, keepdims=True), classes


def save(figure: Figure) -> None:
    """Saving lays the figure out; any warning (text that does not fit, a missing glyph) fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), dpi=60)


def legend(figure: Figure) -> str:
    found = [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    return "\n".join(found + [text.get_text() for made in figure.legends for text in made.get_texts()])


@pytest.mark.parametrize("n_classes", [2, 3, 11, *(pytest.param(n, marks=pytest.mark.long) for n in (77, 150))])
def test_every_figure_can_be_saved_for_any_number_of_classes(n_classes):
    y, given, classes = sample(n_classes)
    found = figures(y, given, classes)
    assert list(found) == STEMS
    for figure in found.values():
        assert "test, 400 rows" in (figure.get_suptitle() or figure.axes[0].get_title())
        save(figure)


@pytest.mark.parametrize("n_classes", [2, 4, 77, pytest.param(150, marks=pytest.mark.long)])
def test_no_text_of_a_confusion_matrix_leaves_its_figure(n_classes):
    y, given, _ = sample(n_classes)
    classes = [f"WIDE_MAXIMUM_WORDING_{place}_OF_LABEL" for place in range(n_classes)]
    figure = figures(y, given, classes)["confusion_matrix"]
    figure.draw_without_rendering()
    box = figure.axes[0].get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height


def test_confusion_cells_hold_counts_and_shares():
    y = np.array([0, 0, 0, 1])
    found = figures(y, np.eye(2)[[0, 0, 1, 1]], ["no", "yes"])
    cells = [text.get_text() for text in found["confusion_matrix"].axes[0].texts]
    shares = [text.get_text() for text in found["confusion_matrix_normalised"].axes[0].texts]
    assert cells == ["2", "1", "0", "1"]
    assert shares == ["0.67", "0.33", "0.00", "1.00"]


def test_confused_pairs_name_the_worst_first_and_say_so_when_there_is_none():
    y = np.array([0, 0, 0, 1, 2])
    axes = figures(y, np.eye(3)[[1, 1, 0, 2, 2]], ["a", "b", "c"])["confused_pairs"].axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a → b", "b → c"]
    assert [text.get_text() for text in axes.texts] == ["2 of 3 (67%)", "1 of 1 (100%)"]
    none = figures(y, np.eye(3)[y], ["a", "b", "c"])["confused_pairs"]
    assert none.axes[0].texts[0].get_text() == "No row was given a wrong class."


@pytest.mark.parametrize(("n_classes", "named"), [(4, 4), (77, 5)])
def test_curves_carry_the_areas_of_the_metrics_and_name_the_worst_classes(n_classes, named):
    y, given, classes = sample(n_classes)
    found, expected = figures(y, given, classes), scores(y, given, n_classes)
    for stem, metric in (("roc_curve", "roc_auc"), ("precision_recall_curve", "pr_auc")):
        text = legend(found[stem])
        assert f"{expected[metric]:.3f}  mean of {n_classes} classes" in text
        assert text.count("intent_") == named


def test_each_class_has_its_scores_and_intervals_with_the_worst_on_top() -> None:
    y, given, classes = sample(4)
    figure = figures(y, given, classes)["scores_by_class"]
    (order,) = [[tick.get_text() for tick in axes.get_yticklabels()] for axes in figure.axes[:1]]
    scored = sorted(class_scores(y, given.argmax(axis=1), classes), key=lambda score: score.f1)
    assert [text.partition("  ")[0][-1] for text in order] == [score.label[-1] for score in scored]
    assert order[0].endswith(f"({scored[0].support})")
    for axes, name in zip(figure.axes, ("f1", "precision", "recall"), strict=True):
        (marks,) = [list(line.get_xdata()) for line in axes.get_lines() if line.get_marker() == "o"]
        assert marks == pytest.approx([getattr(score, name) for score in scored])
        for bar, mark in zip(axes.patches, marks, strict=True):
            assert bar.get_x() <= mark <= bar.get_x() + bar.get_width()


def test_a_bin_of_under_ten_rows_is_no_point_of_the_calibration_curve() -> None:
    given = np.repeat([[0.9, 0.1], [0.6, 0.4]], [40, 9], axis=0)
    figure = figures(np.zeros(49, dtype=int), given, ["a", "b"])["calibration_curve"]
    (curve,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "predicted class"]
    shown = np.asarray(curve.get_xdata(), dtype=float)
    assert shown[~np.isnan(shown)] == pytest.approx([0.9])


def test_the_precision_of_chance_is_a_line_and_many_classes_have_a_logarithmic_roc() -> None:
    y, given, classes = sample(2)
    assert f"{np.mean(y == 1):.3f}  labels given by chance" in legend(
        figures(y, given, classes)["precision_recall_curve"]
    )
    assert figures(y, given, classes)["roc_curve"].axes[0].get_xscale() == "linear"
    assert figures(*sample(77))["roc_curve"].axes[0].get_xscale() == "log"


def test_the_mean_roc_curve_has_the_mean_area():
    y, given, classes = sample(6)
    lines = figures(y, given, classes)["roc_curve"].axes[0].get_lines()
    mean = next(line for line in lines if "mean of" in str(line.get_label()))
    area = np.trapezoid(mean.get_ydata(), mean.get_xdata())
    assert area == pytest.approx(scores(y, given, 6)["roc_auc"], abs=0.003)


def test_two_classes_show_the_positive_one():
    y, given, _ = sample(2)
    found = figures(y, given, ["no", "_yes"], positive=1)
    assert "ROC curve of _yes" in found["roc_curve"].axes[0].get_title()
    assert f"{scores(y, given, 2)['roc_auc']:.3f}  _yes" in legend(found["roc_curve"])
    other = figures(y, given, ["no", "_yes"], positive=0)
    assert "Precision-recall curve of no" in other["precision_recall_curve"].axes[0].get_title()


def test_rows_of_unknown_labels_are_left_out_and_counted_in_the_title():
    y, given, classes = sample(3)
    y[:7] = -1
    assert "393 rows (7 of unknown label left out)" in figures(y, given, classes)["roc_curve"].axes[0].get_title()
    with pytest.raises(DataError, match=r"no rows to measure"):
        figures(y[:0], given[:0], classes)


def test_where_every_label_is_unknown_each_figure_says_so():
    _, given, classes = sample(3)
    found = figures(np.full(400, -1), given, classes)
    assert list(found) == STEMS
    for figure in found.values():
        assert "0 rows (400 of unknown label left out)" in figure.axes[0].get_title()
        assert figure.axes[0].texts[0].get_text() == "No row has a label that the model knows."
        save(figure)


@pytest.mark.parametrize("n_classes", [2, 3, 77])
def test_one_row_is_drawn(n_classes):
    y, given, classes = sample(n_classes)
    for figure in figures(y[:1], given[:1], classes).values():
        save(figure)


def test_a_split_with_one_class_is_drawn_with_a_note_for_the_curves():
    _, given, classes = sample(3)
    found = figures(np.zeros(400, dtype=int), given, classes)
    assert found["roc_curve"].axes[0].texts[0].get_text() == "No class has rows on both sides."
    for figure in found.values():
        save(figure)


def test_labels_with_signs_that_mean_something_to_matplotlib_are_drawn_as_they_are():
    y, given, _ = sample(3)
    drawn = figures(y, given, ["$x", "$\\frac{$", "_\nhidden"])
    for figure in drawn.values():
        save(figure)
    shown = [label.get_text() for label in drawn["confusion_matrix"].axes[0].get_xticklabels()]
    # matplotlib shows an escaped dollar as a dollar.
    assert [text.replace(r"\$", "$") for text in shown] == ["$x", "$\\frac{$", "_ hidden"]


def test_long_labels_keep_both_ends_and_stay_apart():
    assert short("a" * 20 + "_middle_" + "b" * 20, 20) == "a" * 11 + "…" + "b" * 8
    assert short("short") == "short"
    alike = shorts(["x" * 20 + "1" + "y" * 20, "x" * 20 + "2" + "y" * 20], 12)
    assert alike[0] != alike[1]


def test_class_distribution_stacks_splits_with_the_largest_class_first():
    figure = class_distribution({"train": {"a": 5, "b": 50}, "test": {"b": 5, "c": 1}})
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a", "c"]
    assert [text.get_text() for text in axes.texts] == ["55", "5", "1"]
    assert "train (55 rows)" in legend(figure)
    assert "61 rows, 3 classes" in axes.get_title()
    save(figure)
    save(class_distribution({"train": {f"label_{place}": place for place in range(150)}}))
    save(class_distribution({"train": {}}))


def test_optimisation_history_marks_trials_by_state_and_follows_the_best():
    nan = float("nan")
    states = ["failed", "complete", "pruned", "complete", "complete", "pruned"]
    figure = optimisation_history([nan, 0.5, 0.9, 0.7, 0.6, nan], states, "f1_macro")
    text = legend(figure)
    # The pruned trial's 0.9 was never confirmed by all folds: it is no best.
    assert "best so far: 0.7000, trial 3" in text
    assert "complete (3)" in text
    assert "pruned (2)" in text
    assert "failed (1)" in text
    best = next(line for line in figure.axes[0].get_lines() if "best" in str(line.get_label()))
    assert list(best.get_ydata()) == [0.5, 0.5, 0.7, 0.7, 0.7]
    save(figure)
    save(optimisation_history([nan, nan], ["failed", "failed"], "f1"))
    save(optimisation_history([], [], "f1"))


def test_optimisation_history_refuses_a_state_it_does_not_know():
    with pytest.raises(ValueError, match=r"got \['running'\]"):
        optimisation_history([0.5], ["running"], "f1")
    with pytest.raises(ValueError, match=r"a state for each of 2 trials, got 1"):
        optimisation_history([0.5, 0.6], ["complete"], "f1")


def test_parameter_importances_come_in_order():
    figure = parameter_importances({"small": 0.004, "model.C": 0.7, "model.penalty": 0.296})
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["model.C", "model.penalty", "small"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.70", "0.30", "<0.01"]
    save(figure)
    save(parameter_importances({"a": 0.0}))
    save(parameter_importances({}))


def test_importing_the_floor_does_not_import_matplotlib_and_drawing_does_not_import_pyplot():
    code = (
        "import sys, numpy as np\n"
        "import pcc_pipeline.evaluation.report, pcc_pipeline.evaluation.cautions, pcc_pipeline.evaluation.predictions\n"
        "from pcc_pipeline.evaluation.plots import figures\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figures.figures(np.array([0, 1]), np.eye(2), ['a', 'b'])\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
        "assert not {'mlflow', 'torch', 'pydantic'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
