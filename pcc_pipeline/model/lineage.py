"""What a version changed, as a number: 2.0.0 where those who use its answers must look, 1.3.0, or 1.2.4.

The number says what a version is to the one that it follows: the champion of the time, or else the newest one. Numbers
begin at 1.0.0 with the first version that has one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import addresses_in

SEMVER_TAG, BASIS_TAG, FOLLOWS_TAG, CHANGE_TAG = "pcc.semver", "pcc.basis", "pcc.follows", "pcc.change"
# Which place of the number each difference moves; what is not named here (rows, settings) moves the last.
_PLACES = {"labels": 0, "contract": 0, "data": 1, "features": 1}
_LEVELS = ("major", "minor", "patch")
_DIGEST_LENGTH = 12

Number = tuple[int, int, int]


@dataclass(frozen=True)
class Basis:
    """Digests of what a version's number depends on.

    Attributes:
        labels: every answer that the model can give, that of rows which it leaves to people among them.
        contract: what must be the same for those who give it vectors: their width and their encoder.
        data: where the rows come from and by which rules they are read; digits of an address, such as a date, aside.
        features: how the lexical half is made, and which of the numbers the classifier goes by.
        rows: of the rows themselves.
    """

    labels: str
    contract: str
    data: str
    features: str
    rows: str

    @classmethod
    def of(
        cls, params: Params, answers: Sequence[str | None], encoder_digest: str, vector_width: int, data_digest: str
    ) -> Basis:
        """Of a training: `answers` are the model's labels, and what it calls a row that it does not decide."""
        data, model = params.data, params.model
        sources = sorted({re.sub(r"\d+", "#", address) for address in addresses_in(data.path)})
        rules = [data.label_column, data.group_column, data.normalise_labels, sorted(data.required_columns)]
        chosen = None if model.feature_selection == "none" else [model.feature_selection, model.n_features]
        searched = model.search_space if model.search_method != "none" and isinstance(model.search_space, dict) else {}
        also = {name: searched[name] for name in ("feature_selection", "n_features") if name in searched}
        return cls(
            labels=_digest(sorted(set(answers), key=str)),
            contract=_digest([encoder_digest, vector_width]),
            data=_digest([sources, rules]),
            features=_digest([params.preprocessing.lexical, chosen, also]),
            rows=_digest(data_digest),
        )

    def differences(self, other: Basis) -> list[str]:
        """What is not the same in both, in the order of its weight."""
        return [each.name for each in fields(self) if getattr(self, each.name) != getattr(other, each.name)]


@dataclass(frozen=True)
class Numbered:
    """A registered version that has a number."""

    pcc_version: str
    number: Number
    basis: Basis
    is_champion: bool = False

    @classmethod
    def of_tags(cls, pcc_version: str, tags: Mapping[str, str], *, is_champion: bool) -> Numbered | None:
        """None of tags without a number, as those of earlier releases are, or with one that is none."""
        match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", tags.get(SEMVER_TAG, ""))
        try:
            basis = Basis(**json.loads(tags.get(BASIS_TAG, "")))
        except (ValueError, TypeError):
            return None
        if match is None:
            return None
        return cls(pcc_version, (int(match[1]), int(match[2]), int(match[3])), basis, is_champion)


@dataclass(frozen=True)
class Lineage:
    """A version's place after others.

    Attributes:
        semver: such as 1.2.0.
        follows: the version that it is compared with, and its number; None for the first.
        change: what differs, in words.
    """

    semver: str
    basis: Basis
    follows: tuple[str, str] | None
    change: str

    @property
    def line(self) -> str:
        return f"{self.semver}: {self.change}"

    def tags(self) -> dict[str, str]:
        """For the version and its training run."""
        named = {SEMVER_TAG: self.semver, BASIS_TAG: json.dumps(asdict(self.basis)), CHANGE_TAG: self.change}
        return {**named, FOLLOWS_TAG: self.follows[0]} if self.follows else named

    def document(self) -> dict[str, Any]:
        """For metadata.json."""
        return {"semver": self.semver, "follows": self.follows and self.follows[0], "change": self.change}


def lineage(basis: Basis, before: Sequence[Numbered]) -> Lineage:
    """The number of a new version: the first one behind that of the version it follows that no other has.

    Args:
        before: the numbered versions, newest first.
    """
    if not before:
        return Lineage("1.0.0", basis, None, "the first version with a number")
    followed = next((version for version in before if version.is_champion), before[0])
    changed = basis.differences(followed.basis)
    place = min((_PLACES.get(name, 2) for name in changed), default=2)
    number = _next(followed.number, place, (version.number for version in before))
    what = ", ".join(changed) or "settings at most"
    text = f"{_LEVELS[place]}, since {_shown(followed.number)} ({followed.pcc_version}): {what}"
    return Lineage(_shown(number), basis, (followed.pcc_version, _shown(followed.number)), text)


def _next(followed: Number, place: int, taken: Iterable[Number]) -> Number:
    alike = [number[place] for number in taken if number[:place] == followed[:place]]
    raised = max([*alike, followed[place]]) + 1
    return (*followed[:place], raised, *(0,) * (2 - place))  # type: ignore[return-value] # three numbers in all


def _shown(number: Number) -> str:
    return ".".join(map(str, number))


def _digest(value: Any) -> str:
    return sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:_DIGEST_LENGTH]
