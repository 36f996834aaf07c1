"""Near-duplicates across the sides of a split are counted, at a cost that is bounded."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pcc_pipeline.data.quality import near_duplicates as module
from pcc_pipeline.data.quality.near_duplicates import near_duplicates

TRAINING = ["Delete all my data now", "où est ma commande, s'il vous plaît", "stop the phone calls", "opt out"]


@pytest.mark.parametrize(
    "text",
    [
        "please delete all my data now",
        "delete my data now",
        "now delete all my data!",
        "ou est ma commande s'il vous plait",
        "Stop the phone calls, thanks",
    ],
)
def test_an_accent_an_order_or_one_word_more_or_less_is_a_near_duplicate(text: str) -> None:
    assert near_duplicates(TRAINING, [text, "something else entirely"]).repeated == 1


@pytest.mark.parametrize("text", ["delete all my files now", "could you please stop the phone calls", "out", "opt", ""])
def test_other_words_or_hardly_any_are_none(text: str) -> None:
    assert near_duplicates(TRAINING, [text]).repeated == 0


def test_empty_sides_have_none() -> None:
    assert near_duplicates([], ["a b c"]).repeated == 0
    assert (near_duplicates(["a b c"], []).looked_at, near_duplicates([], []).share) == (0, 0.0)


def test_a_large_side_is_looked_at_in_part_and_the_count_says_of_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD_OUT", 10)
    found = near_duplicates(TRAINING, ["please delete all my data now"] * 100)
    assert (found.repeated, found.looked_at, found.share) == (10, 10, 1.0)


def test_ten_thousand_rows_take_well_under_two_seconds_of_processor() -> None:
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(5000)])
    texts = [" ".join(random.choice(words, 15)) for _ in range(10_000)]
    began = time.process_time()
    found = near_duplicates(texts[:8000], texts[8000:])
    assert time.process_time() - began < 2
    assert found.repeated == 0
