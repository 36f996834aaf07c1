"""A seeded sample of customers' messages, for the first run and for tests; no customer wrote any of it."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta

import pandas as pd

from pcc_pipeline.data.sample.phrases import AMBIGUOUS, HARD, SECOND_CLAUSE, TEMPLATES
from pcc_pipeline.data.sample.slots import SLOTS
from pcc_pipeline.errors import DataError

SHARES = {"other": 0.45, "data_deletion": 0.25, "opt_out": 0.18, "privacy_request": 0.12}
# Chances per message; they set how hard the sample is (see test_sample.py for the score that they aim at).
_HARD, _TWO_INTENTS, _AMBIGUOUS, _NOISE = 0.25, 0.12, 0.05, 0.015
_GRIPE, _TYPOS, _REPEAT = 0.25, 0.15, 0.03
_SLOT = re.compile(r"\{(\w+)\}")
_START = datetime(2025, 1, 6, 8, 0, tzinfo=UTC)


def sample(n_rows: int = 900, seed: int = 7) -> pd.DataFrame:
    """Returns `n_rows` labelled messages with all contract columns but `embeddings`, equal for equal seeds.

    Four intents, imbalanced as in SHARES; negations, two intents in one message, typos and invented personal details.
    At most 3 % of the labels are wrong on purpose, with a low `confidence`.
    """
    if n_rows < 40:
        raise DataError(f"a sample of {n_rows} rows is too small to hold each intent", fix="ask for at least 40 rows")
    writer = _Writer(random.Random(seed))
    intents = [intent for intent, share in SHARES.items() for _ in range(round(n_rows * share))]
    intents = (intents + ["other"] * n_rows)[:n_rows]
    writer.rng.shuffle(intents)
    rows: list[dict[str, object]] = []
    for number, intent in enumerate(intents):
        rows.append(_row(writer, number, intent, rows))
    frame = pd.DataFrame(rows)
    frame["text_length"] = frame["text"].str.len()
    frame["word_count"] = [len(text.split()) for text in frame["text"]]
    order = "case_id text intent confidence timestamp text_length word_count has_personal_info"
    return frame[[*order.split(), "formality_score", "urgency_score"]].astype(
        {"case_id": "str", "text": "str", "intent": "str", "timestamp": "str"}
    )


def _row(writer: _Writer, number: int, intent: str, before: list[dict[str, object]]) -> dict[str, object]:
    rng = writer.rng
    confidence = rng.uniform(0.8, 1.0)
    same = [row for row in before if row["intent"] == intent]
    if same and rng.random() < _REPEAT:
        # Customers write twice; duplicates must be met before real data brings them.
        text, formal = str(rng.choice(same)["text"]), 0.5
    elif rng.random() < _AMBIGUOUS and (fitting := [text for text, intents in AMBIGUOUS if intent in intents]):
        text, formal = writer.message(intent, rng.choice(fitting))
        confidence = rng.uniform(0.45, 0.7)
    else:
        text, formal = writer.message(intent, None)
    if rng.random() < _NOISE:
        intent = rng.choice([other for other in sorted(SHARES) if other != intent])
        confidence = rng.uniform(0.3, 0.55)
    urgent = 0.3 * ("!" in text) + 0.4 * any(word in text for word in ("Friday", "tomorrow", "third time", "Enough"))
    personal = any(sign in text for sign in ("@", "Elm Street", "customer number", *writer.names))
    return {
        "case_id": f"sample-{number:05d}",
        "text": text,
        "intent": intent,
        "confidence": round(confidence, 3),
        "timestamp": (_START + timedelta(minutes=37 * number + rng.randrange(30))).isoformat(),
        "has_personal_info": personal,
        "formality_score": round(min(1.0, max(0.0, formal + rng.uniform(-0.1, 0.1))), 3),
        "urgency_score": round(min(1.0, urgent + rng.uniform(0.0, 0.3)), 3),
    }


class _Writer:
    """Composes messages from the phrase bank with one seeded source of chance."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = tuple(name for name in SLOTS["name"] if " " in name)

    def message(self, intent: str, core: str | None) -> tuple[str, float]:
        """Returns a message and its formality, 0 to 1; `core` takes the place of a drawn request."""
        rng = self.rng
        if core is None:
            core = rng.choice(HARD[intent] if rng.random() < _HARD else TEMPLATES[intent])
            if rng.random() < _TWO_INTENTS:
                core = f"{core} {rng.choice(SECOND_CLAUSE[intent])}"
        parts = [self._fill(core)]
        if rng.random() < _GRIPE:
            parts.insert(rng.randrange(2), self._fill("{gripe}"))
        if rng.random() < 0.5:
            parts.insert(rng.randrange(len(parts) + 1), self._fill("{aside}"))
        greeting, goodbye = self._fill("{greet}"), self._fill("{bye}")
        # Sentences start in upper case; a slot that opens one does not know that it does.
        parts = [part[:1].upper() + part[1:] for part in parts if part]
        formal = 0.4 + 0.3 * greeting.startswith(("Dear", "To whom", "Good")) + 0.2 * ("regards" in goodbye)
        text = " ".join(part for part in (greeting, *parts, goodbye) if part)
        if rng.random() < _TYPOS:
            text, formal = self._misspell(text), formal - 0.3
        return text, formal

    def _fill(self, template: str) -> str:
        while _SLOT.search(template):
            template = _SLOT.sub(lambda match: self.rng.choice(SLOTS[match[1]]), template)
        return template

    def _misspell(self, text: str) -> str:
        """Swaps or drops one to three letters within words, as thumbs do; sometimes all in lower case."""
        rng = self.rng
        letters = list(text)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(1, len(letters) - 1)
            if letters[place].isalpha() and letters[place - 1].isalpha():
                if rng.random() < 0.5:
                    letters[place - 1], letters[place] = letters[place], letters[place - 1]
                else:
                    del letters[place]
        text = "".join(letters)
        return text.lower() if rng.random() < 0.5 else text
