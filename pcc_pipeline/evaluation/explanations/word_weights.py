"""Why a text got its answer: each word's weight, by leaving words out and asking again.

Occlusion: the weight of a word is how much the answer changes without it (Zeiler and Fergus, 2014; for texts Li, Monroe
and Jurafsky, "Understanding neural networks through representation erasure", 2016). It needs nothing of the model but
its probabilities, and what it compares is two texts that a person can read.

Surrogate: words are left out many at a time, at random, and a linear model is fitted to the answers; a word's weight is
its coefficient (LIME; Ribeiro, Singh and Guestrin, "Why should I trust you?", KDD 2016). So words that say the same
twice, of which any one may go, have weights too; it asks more, and chance has a part in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

# Letters and digits, with the marks on them (accents, vowel signs) and apostrophes and hyphens within; a Chinese or
# Japanese sign is a word by itself. Of a text each character stands here as its kind.
_WORD = re.compile(r"sm*|w[wm]*(?:-w[wm]*)*")
_SIGN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
# Texts of up to so many words are taken apart word by word; longer ones in groups of neighbours at first, and the
# heaviest of these once more: 300 words take some 65 texts to encode.
_ONE_BY_ONE, _GROUPS, _HEAVIEST, _PIECES = 60, 30, 3, 15
_MOST_NAMED = 5
# Of a longer text the surrogate takes neighbours together, in so many groups at most. It asks about so many texts with
# words left out at random for each word or group, and about so many at least: with fewer the penalty would weigh much.
_SURROGATE_GROUPS, _DRAWS, _FEWEST_DRAWS = 40, 3, 100
# As LIME weighs its draws: by the cosine distance of what is left to the whole, times 100, and a linear model with this
# penalty.
_KERNEL_WIDTH, _PENALTY = 25.0, 1.0
# The least probability that counts: some calibrations answer 0, whose logarithm would drown every word.
_LEAST = 1e-9

Answer = Callable[[Sequence[str]], np.ndarray]
Method = Literal["leave-out", "surrogate"]


@dataclass(frozen=True)
class Part:
    """One word of the text, or neighbours that were left out together.

    Attributes:
        start, end: places of its first character and of the one behind its last.
        words: how many it is.
        weight: what it adds to the log-odds of the decided label against the runner-up; below 0 it speaks against.
        without: the decided label's probability in the text without it.
    """

    start: int
    end: int
    words: int = 1
    weight: float = 0.0
    without: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """A text's answer taken apart.

    Attributes:
        probabilities: (K,) of the text.
        decided, runner_up: places of the two most probable classes.
        parts: in the text's order; characters between them are no words.
        named: those that carried the answer, the heaviest first.
        left: (K,) probabilities of the text without all that is named.
        method: what the weights are.
    """

    text: str
    probabilities: np.ndarray
    decided: int
    runner_up: int
    parts: tuple[Part, ...]
    named: tuple[Part, ...]
    left: np.ndarray
    method: Method = "leave-out"

    def words(self, part: Part) -> str:
        """A part as it stands in the text."""
        return self.text[part.start : part.end]


def explain(text: str, answer: Answer, most_named: int = _MOST_NAMED, method: Method = "leave-out") -> Explanation:
    """Take the answer to a text apart.

    Args:
        answer: texts -> probabilities (n, K), K at least 2; called with many at a time.
        most_named: how many parts are named at most, and never more than half of them, so that a text remains.
    """
    words = [Part(*match.span()) for match in _WORD.finditer("".join(map(_kind, text)))]
    if method == "surrogate":
        grouped = len(words) > _ONE_BY_ONE
        whole, parts = _fitted(
            text, [_joined(group) for group in _grouped(words, _SURROGATE_GROUPS)] if grouped else words, answer
        )
    elif len(words) <= _ONE_BY_ONE:
        whole, parts = _weighed(text, words, answer)
    else:
        groups = _grouped(words, _GROUPS)
        whole, coarse = _weighed(text, [_joined(group) for group in groups], answer)
        heaviest = set(sorted(range(len(groups)), key=lambda place: -abs(coarse[place].weight))[:_HEAVIEST])
        split = [_joined(some) for place in heaviest for some in _grouped(groups[place], _PIECES)]
        _, fine = _weighed(text, split, answer)
        kept = [part for place, part in enumerate(coarse) if place not in heaviest]
        parts = sorted([*kept, *fine], key=lambda part: part.start)
    decided, runner_up = _two_likeliest(whole)
    carrying = sorted((part for part in parts if part.weight > 0), key=lambda part: -part.weight)
    named = tuple(carrying[: min(most_named, -(-len(parts) // 2))])
    left = answer([without(text, named)])[0] if named else whole
    return Explanation(text, whole, decided, runner_up, tuple(parts), named, left, method)


def _kind(character: str) -> str:
    """What a character is to `_WORD`: a sign, a letter or digit, a mark, a joint, or nothing of a word."""
    if _SIGN.match(character):
        return "s"
    if character in "'’-":
        return "-"
    group = unicodedata.category(character)
    # Of the invisible ones two join or part letters within a word, in Persian and in Indic scripts.
    if group[0] == "M" or character in "\u200c\u200d":
        return "m"
    return "w" if group[0] in "LN" or group == "Pc" else " "


def without(text: str, parts: Iterable[Part]) -> str:
    """The text with parts of it left out."""
    for part in sorted(parts, key=lambda part: -part.start):
        text = f"{text[: part.start]}{text[part.end :]}"
    return text


def _weighed(text: str, parts: Sequence[Part], answer: Answer) -> tuple[np.ndarray, list[Part]]:
    """The whole text's probabilities, and the parts with their weights."""
    shares = answer([text, *(without(text, [part]) for part in parts)])
    decided, _ = _two_likeliest(shares[0])
    odds = _log_odds(shares)
    weighed = zip(parts, (odds[0] - odds[1:]).tolist(), shares[1:, decided].tolist(), strict=True)
    return shares[0], [replace(part, weight=weight, without=share) for part, weight, share in weighed]


def _fitted(text: str, parts: Sequence[Part], answer: Answer) -> tuple[np.ndarray, list[Part]]:
    """The same, the weights those of a linear model of the answers to texts with parts left out."""
    if len(parts) < 2:
        return _weighed(text, parts, answer)
    from sklearn.linear_model import Ridge

    count, draws = len(parts), np.random.default_rng(0)
    kept = np.ones((1 + count + max(_DRAWS * count, _FEWEST_DRAWS), count), dtype=bool)
    kept[1 : 1 + count][np.diag_indices(count)] = False
    for row in kept[1 + count :]:
        row[draws.permutation(count)[: draws.integers(1, count)]] = False
    shares = answer([without(text, [parts[place] for place in np.flatnonzero(~row).tolist()]) for row in kept])
    distance = 100 * (1 - np.sqrt(kept.mean(axis=1)))
    near = np.sqrt(np.exp(-((distance / _KERNEL_WIDTH) ** 2)))
    weights = Ridge(alpha=_PENALTY).fit(kept.astype(np.float64), _log_odds(shares), sample_weight=near).coef_
    singly = shares[1 : 1 + count, _two_likeliest(shares[0])[0]]
    weighed = zip(parts, weights.tolist(), singly.tolist(), strict=True)
    return shares[0], [replace(part, weight=weight, without=share) for part, weight, share in weighed]


def _log_odds(shares: np.ndarray) -> np.ndarray:
    """Of the first row's likeliest class against its second, for each row of (n, K)."""
    decided, runner_up = _two_likeliest(shares[0])
    logs = np.log(np.maximum(shares, _LEAST))
    odds: np.ndarray = logs[:, decided] - logs[:, runner_up]
    return odds


def _grouped(words: Sequence[Part], most: int) -> list[Sequence[Part]]:
    """Neighbours together, in at most so many groups of one size."""
    size = -(-len(words) // most)
    return [words[start : start + size] for start in range(0, len(words), size)]


def _joined(neighbours: Sequence[Part]) -> Part:
    return Part(neighbours[0].start, neighbours[-1].end, len(neighbours))


def _two_likeliest(shares: np.ndarray) -> tuple[int, int]:
    first, second = np.argsort(-shares, kind="stable")[:2].tolist()
    return first, second
