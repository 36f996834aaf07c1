"""The benchmarks compare like with like: both sides get the same work and come to the same scores."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import __main__ as runner
from benchmarks import (
    calibration,
    csv_texts,
    csv_vectors,
    drift,
    embed_memory,
    label_issues,
    large_training,
    monitor_memory,
    profile_share,
    random_search,
    sequential_test,
)
from benchmarks.comparison import Comparison
from benchmarks.real_data import Messages
from pcc_pipeline.evaluation.label_issues import find_label_issues
from pcc_pipeline.model.fitting import Recipe, Rows
from pcc_pipeline.monitoring.change.signals import Signals


def rows_of(frame: pd.DataFrame, n: int) -> Messages:
    """Messages whose vectors tell the labels apart, but not wholly."""
    part = frame.head(n)
    labels = part["intent"].to_numpy(object)
    _, places = np.unique(labels, return_inverse=True)
    noise = np.random.default_rng(0).normal(size=(n, 384))
    noise[np.arange(n), places] += 3
    vectors = (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    return Messages(list(part["text"]), vectors, labels)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_both_sides_of_the_search_try_the_same_candidates_and_score_them_alike(sample_rows: pd.DataFrame) -> None:
    rows, setting = rows_of(sample_rows, 240), random_search.Setting("made", None, 6, 2)
    ours, peer = random_search.search_ours(rows, setting), random_search.search_peer(rows, setting)
    names = ("C", "penalty", "solver")
    assert [[one[name] for name in names] for one in ours.candidates] == [
        [one[name] for name in names] for one in peer.candidates
    ]
    assert {one["solver"] for one in ours.candidates} == {"liblinear", "saga"}
    for mine, theirs in zip(ours.candidates, peer.candidates, strict=True):
        assert mine["score"] == pytest.approx(theirs["score"], abs=0.02), mine
    assert ours.best == pytest.approx(peer.best, abs=0.01)


def test_both_sides_read_the_same_numbers_from_a_csv() -> None:
    ours, peer, check = csv_vectors._pair(40)
    assert (check, ours > 0, peer > 0) == ("equal", True, True)


@pytest.mark.parametrize("peer", ["pandas", "pyarrow"])
def test_both_sides_read_the_same_texts_from_a_csv(peer: csv_texts.Peer) -> None:
    ours, theirs, check = csv_texts._pair(40, 20, peer)
    assert (check, ours > 0, theirs > 0) == ("equal", True, True)


@pytest.mark.long
def test_the_memory_of_embed_is_told_above_the_encoder_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["embed_memory", "--rows", "300"])
    assert embed_memory.main() == 0
    encoder, whole, above = (
        int(found.replace(",", "")) for found in re.findall(r"([\d,]+) MB", capsys.readouterr().out)
    )
    assert (whole - encoder, 0 < above < 1_000) == (above, True)


@pytest.mark.long
def test_time_and_memory_of_monitor_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert monitor_memory.main(["--rows", "300", "--learned", "300"]) == 0
    assert re.search(r"300 rows of 584 numbers, 30 windows: [\d.]+ s, \d+ MB at most", capsys.readouterr().out)


@pytest.mark.long
def test_time_and_memory_of_a_training_are_told_by_phases(capsys: pytest.CaptureFixture[str]) -> None:
    assert large_training.main(["--rows", "300"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"train, 300 rows of 584 numbers \(1 MB\): [\d.]+ s, peak \d+ MB", said)
    assert "fitting LogisticRegression on 210 rows" in said
    assert "validation macro F1" in said


@pytest.mark.long
def test_the_share_of_the_profile_in_a_training_is_told(
    mlflow_of_its_own: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profile_share.main([]) == 0
    share = re.search(r"the profile [\d.]+ s, ([\d.]+)% of it", capsys.readouterr().out)
    assert share is not None
    assert 0 < float(share[1]) < 20


def test_equal_versions_are_told_apart_less_often_than_by_a_daily_z_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert sequential_test.main(["--simulations", "20", "--days", "8", "--rows", "200"]) == 0
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| 0%")]
    ours, naive = ([float(line[place].strip(" %")) for line in lines] for place in (3, 5))
    assert len(lines) == 6
    assert sum(ours) < sum(naive)


def test_the_median_of_the_runs_is_shown_and_long_pairs_run_less_often() -> None:
    taken = iter([(1.0, 8.0), (4.0, 8.0), (2.0, 8.0)])
    row = runner.compare(Comparison("made", lambda: (*next(taken), "same"), goal=3), runs=3)
    assert row.cells == ("made", "3", "2.00", "8.00", "4.0", "2.0 to 8.0", "3", "same")
    row = runner.compare(Comparison("long", lambda: (2.0, None, ""), most_runs=1, size="4x"), runs=3)
    assert row.cells == ("long 4x", "1", "2.00", "", "", "", "", "")


def test_a_run_replaces_its_part_of_the_results_and_leaves_what_was_written_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text(f"above\n{runner._BEGIN}\nold\n{runner._END}\nbelow\n", encoding="utf-8")
    monkeypatch.setattr(runner, "_RESULTS", results)
    small = Comparison("made", lambda: (1.0, 2.5, "same"), size="1x")
    large = Comparison("made", lambda: (4.0, None, ""), size="16x")
    runner._write([runner.compare(small, 1), runner.compare(large, 1)], minutes=2)
    text = results.read_text(encoding="utf-8")
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert "| made | 1.00, 2.5 times |  | 4.00 |" in text


@pytest.mark.long
def test_planted_wrong_labels_are_wrong_and_their_rows_keep_their_places_through_the_folds(
    sample_rows: pd.DataFrame,
) -> None:
    messages = rows_of(sample_rows, 240)
    classes, came = np.unique(messages.labels.astype(str), return_inverse=True)
    recipe = Recipe("LogisticRegression", "none", {"n_features": 4096}, 0)
    folds = calibration.prepared_folds(Rows(messages.texts, messages.vectors, came), recipe)
    plain = label_issues._held_out(folds, came, recipe, len(classes))
    assert (plain.argmax(axis=1) == came).mean() > 0.8  # the rows are in their places
    noises = label_issues._noises(came, plain, 0.1)
    changed = noises["random"] != came
    assert 10 < changed.sum() < 40
    assert set(np.flatnonzero(noises["runner-up"] != came)) == set(np.flatnonzero(changed))
    noticed = label_issues._held_out(folds, noises["random"], recipe, len(classes))
    table = find_label_issues(np.arange(240).astype(str), noises["random"], noticed, classes.tolist()).table
    assert changed[table["case_id"].astype(int)].mean() > 0.6


def test_each_single_detector_of_drift_sees_rows_that_have_moved_and_most_see_none_in_others() -> None:
    draws = np.random.default_rng(0)

    def rows(moved: float) -> Signals:
        scores = draws.normal(size=(300, 3)) + np.array([moved, 0, 0])
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        components = draws.normal(moved, size=(300, 8))
        return Signals(shares.argmax(axis=1), shares.max(axis=1), shares, None, scores[:, 0], components)

    reference = rows(0)
    assert all(drift.single_detectors(reference, rows(1.5), 3, 0).values())
    assert sum(drift.single_detectors(reference, rows(0), 3, 0).values()) <= 1
    assert drift.with_typos("a message", 0, draws) == "a message"
    assert drift.with_typos("a message", 1, draws) != "a message"
