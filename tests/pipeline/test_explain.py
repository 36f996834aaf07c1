"""`pcc explain`: which words carried an answer, for the person who asks and for nobody else."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.command_line import pcc
from pcc_pipeline.config import Params
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.embed_texts import embed
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.evaluation.explanations.word_weights import explain, without
from pcc_pipeline.model.decision import DecisionRule
from pcc_pipeline.steps import explain as steps_explain
from pcc_pipeline.tracking.logged_models.log_and_load import load_trained_model
from tests import process_state

pytestmark = pytest.mark.pipeline

PCC = "pcc_pipeline.command_line.pcc"
NAME = "pcc-intent-classifier"
CHALLENGER = ("--model", f"models:/{NAME}@challenger")
MARK = "Zanzibarkowski"
MESSAGE = f"Please delete my account and everything that you hold about {MARK} <b>now</b>\x1b[31m."


@pytest.fixture
def trained(trained_stores):
    """A store with one version, trained on texts; nothing is promoted and nothing is added by these tests."""
    return trained_stores[0]


def _contents(folder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_word_goes_anywhere_but_to_the_terminal_and_the_page(command, trained, tmp_path, monkeypatch) -> None:
    """Neither into MLflow, nor a log at its most talkative, nor the cache, nor an error; nor is a run opened."""
    before, runs, cache = _contents(trained.folder), len(trained.runs()), tmp_path / "cache"
    own = ("-v", "--set", f"preprocessing.cache_dir={cache}")
    monkeypatch.setattr(sys, "stdin", io.StringIO(MESSAGE))
    page = tmp_path / "why.html"
    done = command(PCC, "explain", "--text", "-", "--html", str(page), *CHALLENGER, *own, store=trained)
    assert done.code == 0, done.err
    assert MARK in done.out
    refused = command(PCC, "explain", "--text", f"{MARK} " * 1000, *CHALLENGER, *own, store=trained)
    assert refused.code == 1
    assert "longer than 10,000 characters" in refused.err
    missing = command(PCC, "explain", "--text", MARK, "--model", f"models:/{NAME}/9", *own, store=trained)
    assert (missing.code, missing.out) == (1, "")
    assert MARK not in done.err + refused.err + missing.err + refused.out
    assert _contents(trained.folder) == before
    assert len(trained.runs()) == runs
    assert _contents(cache) == {}
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    html = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "<b>" not in html
    assert re.search(r"&lt;(?:<span[^>]*>)?b(?:</span>)?&gt;", html)
    assert not re.search(r"https?:|src=|<script", html)
    # What steers a terminal is left out of what the terminal shows.
    assert "\x1b" not in done.out
    answer = re.search(r"answers (\w+) with 0\.\d+; runner-up (\w+) with 0\.\d+", done.out)
    assert answer is not None
    assert answer[1] == "data_deletion"
    assert re.search(r"speaks for data_deletion against .*\n +\+\d", done.out)


def test_a_row_of_a_file_is_explained_by_its_case_id(command, trained, tmp_path, monkeypatch) -> None:
    """By its own id or the one that was made for it; in colour where a terminal asks for it."""
    frame = sample(40)[["text", "intent"]].assign(case_id=[f"c{n}" for n in range(40)])
    frame.loc[7, "text"] = " "
    frame.to_csv(tmp_path / "cases.csv", index=False)
    at = ("--data", str(tmp_path / "cases.csv"), *CHALLENGER)
    monkeypatch.setattr("pcc_pipeline.command_line.commands.explain_command._colour", lambda: True)
    done = command(PCC, "explain", *at, "--case-id", "c3", store=trained)
    assert done.code == 0, done.err
    plain = re.sub(r"\x1b\[[\d;]+m", "", done.out)
    assert plain != done.out
    assert " ".join(frame["text"][3].split()) in " ".join(plain.split())
    for case, says in (("c7", "breaks the data contract.*text blank"), ("d1", "no row has the case id d1")):
        refused = command(PCC, "explain", *at, "--case-id", case, store=trained)
        assert refused.code == 1
        assert re.search(says, refused.err, re.DOTALL), refused.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--text", "please", MARK), "1 word belongs to no option: put the message in quotes"),
        (("--text", "please", f"--{MARK}", "--now"), "2 words belong to no option: put the message in quotes"),
        (("--modle", "a", "--text", MARK), "1 word belongs to no option (did you mean --model?)"),
        ((f"--te={MARK}", "--h", MARK), "put the message in quotes"),
        ((f"--h={MARK}",), "put the message in quotes"),
        ((f"--debug={MARK}",), "put the message in quotes"),
        ((f"-v{MARK}",), "put the message in quotes"),
        (("--text", MARK, "--model"), "argument --model: expected one argument"),
    ],
)
def test_a_word_that_is_mistyped_is_not_repeated(words: tuple[str, ...], says: str, capsys) -> None:
    """It may be a customer's: of a message that was not put in quotes."""
    with pytest.raises(SystemExit) as ended:
        pcc.main(["explain", *words])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert says in said.err
    assert MARK not in said.err
    assert "--now" not in said.err


def test_what_the_model_leaves_to_a_person_says_so(trained, tmp_path) -> None:
    """Where its certainty is below the threshold, in the terminal and on the page."""
    with process_state.mlflow_undone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", trained.uri)
        loaded = load_trained_model(f"models:/{NAME}/1")
        for threshold, undecided in ((0.9999, True), (0.001, False)):
            ruled = replace(loaded, model=replace(loaded.model, decision=DecisionRule("margin", threshold)))
            patch.setattr(steps_explain, "chosen_model", lambda *_, ruled=ruled: ruled)
            done = steps_explain.run(Params(), text="Please delete it.", html=str(tmp_path / "why.html"))
            shown = "\n".join(done.lines(colour=False)) + (tmp_path / "why.html").read_text(encoding="utf-8")
            first, second = np.sort(done.explanation.probabilities)[[-1, -2]]
            said = f"left to a person: margin {first - second:.4f} is below {threshold:.4f}"
            assert shown.count(said) == (2 if undecided else 0)


@pytest.mark.long
def test_the_nearest_messages_that_it_learned_are_named_by_case_id(command, trained, tmp_path) -> None:
    """A text that it learned is nearest to itself; none of the rows that were set aside is named, and no text."""
    split = pd.read_parquet(trained.file(trained.step("train"), "split.parquet"))
    rows = sample()
    text, case_id = rows.loc[split["learned"].to_numpy(), ["text", "case_id"]].iloc[0]
    aside = set(rows.loc[~split["learned"].to_numpy(), "case_id"])
    page = tmp_path / "why.html"
    asked = (*CHALLENGER, "--nearest", "4")
    done = command(PCC, "explain", "--text", text, *asked, "--html", str(page), store=trained)
    assert done.code == 0, done.err
    named = re.findall(r"^ +(-?[01]\.\d{3})   (\w+)   (sample-\d+)$", done.out, re.MULTILINE)
    assert len(named) == 4
    assert named[0][0] == "1.000"
    assert case_id in [each for similarity, _, each in named if similarity == "1.000"]
    assert not aside & {each for _, _, each in named}
    labels = dict(zip(rows["case_id"], rows["intent"], strict=True))
    assert all(labels[each] == label for _, label, each in named)
    assert all(each in page.read_text(encoding="utf-8") for _, _, each in named)
    for options, says in (
        (("--set", f"preprocessing.cache_dir={tmp_path / 'cache'}"), "holds no vector of the training messages"),
        (("--training-data", "elsewhere.csv"), "the data file does not exist"),
    ):
        without = command(PCC, "explain", "--text", "Delete it", *asked, *options, store=trained)
        assert without.code == 0, without.err
        assert "warning    no nearest training messages" in without.out
        assert says in without.out
    refused = command(PCC, "explain", "--text", "a", "--nearest", "some", store=trained)
    assert "it is no whole number of at least 0" in refused.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "there must be one message"),
        (("--text", "a", "--case-id", "b"), "there must be one message"),
        (("--text", "a"), "no champion yet"),
        (("--text", "a", "--html", "gs://bucket/a.html"), "written to this machine"),
    ],
)
def test_what_cannot_be_explained_is_one_message(command, trained, options, says: str) -> None:
    refused = command(PCC, "explain", *options, store=trained)
    assert (refused.code, refused.out) == (1, "")
    assert says in refused.err


@pytest.mark.parametrize(("method", "messages"), [("leave-out", 12), ("surrogate", 8)])
def test_the_named_words_carry_the_answer_more_than_as_many_at_random(trained, method, messages: int) -> None:
    """Taken out together, on messages of the sample: the change of the decided label's log-odds."""
    with process_state.mlflow_undone(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", trained.uri)
        model = load_trained_model(f"models:/{NAME}/1").model
    encoder, random = SentenceEncoder(backend="auto"), np.random.default_rng(0)

    def answer(texts: list[str]) -> np.ndarray:
        return model.probabilities(embed(texts, encoder, None)[0], texts)

    by_words, by_luck = [], []
    for text in sample(200, seed=5)["text"][:messages]:
        result = explain(text, answer, method=method)
        draws = [random.choice(len(result.parts), len(result.named), replace=False) for _ in range(3)]
        variants = [without(text, [result.parts[place] for place in draw]) for draw in draws]
        shares = answer([text, without(text, result.named), *variants])
        odds = np.log(shares[:, result.decided] / shares[:, result.runner_up])
        by_words.append(odds[0] - odds[1])
        by_luck.append(odds[0] - odds[2:].mean())
    change, at_random = np.array(by_words), np.array(by_luck)
    assert np.median(change) > 3 * np.median(np.abs(at_random))
    assert (change > at_random).mean() >= 0.9


def test_colours_need_a_terminal_that_wants_them(monkeypatch) -> None:
    from pcc_pipeline.command_line.commands import explain_command

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    leading, following = os.openpty()
    with os.fdopen(leading), os.fdopen(following, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert explain_command._colour()
        monkeypatch.setenv("NO_COLOR", "1")
        assert not explain_command._colour()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.delenv("NO_COLOR")
    assert not explain_command._colour()
