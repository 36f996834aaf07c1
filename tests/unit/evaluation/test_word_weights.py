"""Words and their weights, on an answer that is known: a logistic model over words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import softmax

from pcc_pipeline.evaluation.explanations.word_weights import Explanation, explain, without

# Word -> what it adds to the scores of three classes.
WEIGHTS = {"delete": (3.0, 0.0, 0.0), "account": (1.0, 0.5, 0.0), "not": (-2.0, 0.0, 0.7), "please": (0.1, 0.0, 0.0)}


class Known:
    """Sums the weights of a text's words; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        scores = [np.sum([WEIGHTS.get(word, (0, 0, 0)) for word in ["", *text.split()]], axis=0) for text in texts]
        return np.asarray(softmax(np.array(scores, dtype=np.float64), axis=1))


def _weights(explanation: Explanation) -> dict[str, float]:
    return {explanation.words(part): part.weight for part in explanation.parts}


def test_weights_are_what_each_word_adds_to_the_log_odds() -> None:
    answer = Known()
    result = explain("please do not delete my account", answer)
    assert (result.decided, result.runner_up) == (0, 2)
    expected = {"please": 0.1, "do": 0.0, "not": -2.7, "delete": 3.0, "my": 0.0, "account": 1.0}
    assert _weights(result) == pytest.approx(expected)
    assert [result.words(part) for part in result.named] == ["delete", "account", "please"]
    delete = result.named[0]
    np.testing.assert_allclose(delete.without, answer(["please do not my account"])[0, 0])
    np.testing.assert_allclose(result.left, answer(["do not my"])[0])
    np.testing.assert_allclose(result.probabilities, answer([result.text])[0])


def test_a_long_text_is_asked_about_in_groups_and_its_heaviest_words_one_by_one() -> None:
    """Each variant once, and not more of them than of a shorter text."""
    words = ["so"] * 300
    words[40], words[200] = "delete", "not"
    answer = Known()
    result = explain(" ".join(words), answer)
    assert len(answer.asked) <= 80
    assert sum(part.words for part in result.parts) == 300
    assert [result.words(part) for part in result.named] == ["delete"]
    assert min(_weights(result).items(), key=lambda pair: pair[1]) == ("not", pytest.approx(-2.7))
    assert [part.start for part in result.parts] == sorted(part.start for part in result.parts)


def test_a_text_keeps_its_words_apart_and_half_of_them_unnamed() -> None:
    result = explain("Don't re-use O'Brien’s, データ 42!", Known())
    assert [result.words(part) for part in result.parts] == ["Don't", "re-use", "O'Brien’s", "デ", "ー", "タ", "42"]
    assert len(explain("delete account please please", Known()).named) == 2
    assert without("a b c", explain("a b c", Known()).parts) == "  "


@pytest.mark.parametrize("text", ["!!!", "delete"])
def test_a_text_of_one_word_or_none_has_an_answer(text: str) -> None:
    result = explain(text, Known())
    assert len(result.named) == (text == "delete")
    assert result.left.sum() == pytest.approx(1)


def test_a_probability_of_0_has_a_weight_that_is_finite() -> None:
    result = explain("yes no", lambda texts: np.array([[1.0, 0.0] if "yes" in text else [0.0, 1.0] for text in texts]))
    assert np.isfinite([part.weight for part in result.parts]).all()
    assert [result.words(part) for part in result.named] == ["yes"]


def test_a_surrogate_has_the_weights_of_a_linear_model_and_of_words_that_stand_in_for_each_other() -> None:
    """Of which leaving out one word at a time sees nothing."""
    result = explain("please do not delete my account", Known(), method="surrogate")
    expected = {"please": 0.1, "do": 0.0, "not": -2.7, "delete": 3.0, "my": 0.0, "account": 1.0}
    assert _weights(result) == pytest.approx(expected, abs=0.4)
    assert [result.words(part) for part in result.named][:2] == ["delete", "account"]
    assert result.named[0].without == pytest.approx(Known()(["please do not my account"])[0, 0])

    def either(texts: Sequence[str]) -> np.ndarray:
        sure = np.array([0.9 if {"erase", "remove"} & set(text.split()) else 0.2 for text in texts])
        return np.stack([sure, 1 - sure], axis=1)

    text = "please erase or remove all of it now"
    assert max(abs(part.weight) for part in explain(text, either).parts) == pytest.approx(0)
    found = explain(text, either, method="surrogate")
    assert {found.words(part) for part in found.named[:2]} == {"erase", "remove"}
    assert found.left.argmax() == 1


def test_a_surrogate_of_a_long_text_asks_of_it_in_groups() -> None:
    words = ["so"] * 300
    words[40], words[200] = "delete", "not"
    answer = Known()
    result = explain(" ".join(words), answer, method="surrogate")
    assert len(answer.asked) <= 165
    assert "delete" in result.words(result.named[0]).split()
    assert "not" in result.words(min(result.parts, key=lambda part: part.weight)).split()
    assert len(explain("delete", Known(), method="surrogate").parts) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't re-send snake_case 24/7", ["don't", "re-send", "snake_case", "24", "7"]),
        ("cafe\u0301 re\u0301sume\u0301s", ["cafe\u0301", "re\u0301sume\u0301s"]),
        ("मेरा खाता हटाएँ", ["मेरा", "खाता", "हटाएँ"]),
        ("می\u200cخواهم حذف شود", ["می\u200cخواهم", "حذف", "شود"]),
        ("削除 して", ["削", "除", "し", "て"]),
        ("👍 ok! ...", ["ok"]),
        ("", []),
    ],
)
def test_a_word_is_whole_with_the_marks_on_it(text: str, words: list[str]) -> None:
    result = explain(text, Known())
    assert [result.words(part) for part in result.parts] == words
