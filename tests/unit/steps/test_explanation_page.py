"""An explained message in words: what is answered without the words that carried it."""

from __future__ import annotations

import numpy as np
import pytest

from pcc_pipeline.evaluation.explanations.word_weights import Explanation, Part
from pcc_pipeline.steps.pages.explanation_page import explanation_lines, explanation_page

CLASSES = ("delete", "<b>keep</b>")


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ([0.6, 0.4], "without all 1 that speak for it: still delete with 0.600"),
        ([0.3, 0.7], "without all 1 that speak for it: <b>keep</b> with 0.700, delete with 0.300"),
    ],
)
def test_what_is_left_is_said_once(left: list[float], said: str) -> None:
    part = Part(0, 5, 1, 1.0, left[0])
    explained = Explanation("erase it", np.array([0.9, 0.1]), 0, 1, (part, Part(6, 8)), (part,), np.array(left))
    assert explanation_lines(explained, CLASSES, "v1", "", colour=False)[-1].strip() == said
    page = explanation_page(explained, CLASSES, "v1", "")
    assert said.replace("w", "W", 1).replace("<", "&lt;").replace(">", "&gt;") in page
