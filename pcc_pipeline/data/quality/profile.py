"""What a file of messages is like, in numbers: how complete, valid, unique, consistent and fresh it is.

Aggregates alone: no text, word or case id of it. It takes one pass over the file's batches, and of each good row it
keeps some fifty bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pcc_pipeline.data.columns import OPTIONAL_RULES, as_list, plain, reads_like_a_name, shown_column
from pcc_pipeline.data.contract import CASE_ID, EMBEDDINGS, TEXT, TIMESTAMP, CheckedBatch, Contract
from pcc_pipeline.data.dataset import CheckedFile, Rejection, rejections
from pcc_pipeline.data.labels import near_equal, spellings
from pcc_pipeline.data.quality.counts import ClassCounts, DuplicateReport, duplicates
from pcc_pipeline.data.splits import Keys, RowKeys

# A label of fewer rows leaves fewer than four for testing, where a fifth is set aside: of it hardly anything is known.
RARE = 20
_NUMBERS = ("confidence", "formality_score", "urgency_score")
# Texts may slip into the labels' column, by a shifted row or a wrong name: a label is shown where it reads like a name,
# or where it is short and as many rows have it as no text has.
_LONGEST_LABEL, _ROWS_OF_A_LABEL, _MOST_LABELS = 80, 5, 20
# UTF-8 that was read as Windows-1252 or Latin-1 ("Ã©", "â€™", "ðŸ"), what stands for letters that were lost, and
# control characters other than tabs and line ends.
_BROKEN = (
    "[\u00c2\u00c3][\u0080-\u00bf\u0152-\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
    "|\u00e2\u20ac|\u00ef\u00bb\u00bf|\u00f0\u0178|\ufffd"
)
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]"
_MARKUP = r"</?[A-Za-z][^<>]{0,200}>|&(?:#\d{2,6}|[a-z]{2,8});"
_LETTER, _LATIN = r"\p{L}", r"\p{Latin}"


@dataclass(frozen=True)
class ColumnFill:
    """A column of the file, as it was read.

    Attributes:
        name: as it may be shown.
        contract_name: of a column that the contract knows, such as `text` or `label`; None for any other.
        filled: rows with a value; a text of blanks is none.
    """

    name: str
    contract_name: str | None
    filled: int


@dataclass(frozen=True)
class Spread:
    """Where numbers lie: the least, 5 %, half, 95 % and the greatest of them."""

    least: float
    low: float
    median: float
    high: float
    greatest: float

    @classmethod
    def of(cls, values: np.ndarray[Any, Any]) -> Spread | None:
        """None of no numbers."""
        if not len(values):
            return None
        return cls(*(float(each) for each in np.quantile(values, [0, 0.05, 0.5, 0.95, 1])))


@dataclass(frozen=True)
class TextSigns:
    """Good rows whose text shows something.

    Attributes:
        one_word: it is of one word.
        broken: signs of a wrong encoding, or control characters.
        markup: tags or entities of HTML.
        other_script: most of its letters are of another script than Latin.
        miscounted: `text_length` or `word_count` of the file is not that of the text.
    """

    one_word: int = 0
    broken: int = 0
    markup: int = 0
    other_script: int = 0
    miscounted: int = 0

    def __add__(self, other: TextSigns) -> TextSigns:
        return TextSigns(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class LabelCounts:
    """Labels of the good rows.

    Attributes:
        rows: label -> rows, the largest first, of those that are shown.
        kinds: how many different ones there are.
        not_shown, rows_not_shown: labels that read like texts, and their rows.
        rare: labels of fewer than `RARE` rows.
        imbalance: rows of the largest for each row of the smallest.
        near_equal: shown labels that differ only by blanks, case or Unicode form.
        near_equal_rows: rows of labels that differ so from a more frequent one.
    """

    rows: Mapping[str, int]
    kinds: int
    not_shown: int
    rows_not_shown: int
    rare: int
    imbalance: float
    near_equal: Sequence[Sequence[str]]
    near_equal_rows: int

    @property
    def are_texts(self) -> bool:
        """Whether the column holds no labels, as it seems."""
        return not self.rows and self.kinds > _MOST_LABELS

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> LabelCounts:
        """Of at least one row."""
        total = sum(counts.values())
        texts = len(counts) > _MOST_LABELS and len(counts) > total / 2
        ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        shown = {} if texts else {label: rows for label, rows in ranked if _shown(label, rows)}
        return cls(
            rows=shown,
            kinds=len(counts),
            not_shown=len(counts) - len(shown),
            rows_not_shown=total - sum(shown.values()),
            rare=sum(rows < RARE for rows in counts.values()),
            imbalance=ClassCounts(dict(ranked)).imbalance,
            near_equal=near_equal(shown),
            near_equal_rows=sum(counts[label] for group in near_equal(counts) for label in group[1:]),
        )


def _shown(label: str, rows: int) -> bool:
    return reads_like_a_name(label) or (rows >= _ROWS_OF_A_LABEL and len(label) <= _LONGEST_LABEL)


@dataclass(frozen=True)
class Times:
    """When the good rows are from.

    Attributes:
        rows: that have a time.
        ahead: those whose time is more than a day ahead, which is wrong: the rest is of the others.
        oldest, newest, age_days: None where all lie ahead.
        by_day: day (UTC) -> rows; days without are left out.
        longest_gap: days without rows between two with rows, at most.
    """

    rows: int
    ahead: int
    oldest: datetime | None
    newest: datetime | None
    age_days: float | None
    by_day: Mapping[date, int]
    longest_gap: int

    @property
    def span(self) -> int:
        """Days from the first with rows to the last, both counted."""
        return (max(self.by_day) - min(self.by_day)).days + 1 if self.by_day else 0


@dataclass(frozen=True)
class KnownModel:
    """What to compare a file with.

    Attributes:
        name: of the version.
        classes: its labels.
        normalises: labels that differ only by blanks, case or Unicode form are one to it.
        learned: keys of the rows that it learned; None where its training left no record of them.
    """

    name: str
    classes: tuple[str, ...]
    normalises: bool
    learned: RowKeys | None


@dataclass(frozen=True)
class AgainstModel:
    """A file beside a model.

    Attributes:
        unknown_kinds, unknown_rows: labels that the model does not know, and their rows.
        unknown: those of them that are shown.
        absent: labels of the model that no row has; of a file with labels.
        learned_rows: rows whose text the model learned; None where that is not known.
    """

    name: str
    unknown_kinds: int
    unknown_rows: int
    unknown: tuple[str, ...]
    absent: tuple[str, ...]
    learned_rows: int | None


@dataclass(frozen=True)
class Profile:
    """All that was found out about a file.

    Attributes:
        digest: of its good rows, as every run records it.
        label_column: None where it was read without labels.
        width: numbers of its vectors; None where it brings none.
        characters, words: of the good texts; None where there are none.
        numbers: of the optional columns between 0 and 1, by their names.
        personal: share of rows with personal information, 0..1; None where no row says.
        notes: what reading it was worth noting.
    """

    rows: int
    digest: str
    label_column: str | None
    columns: tuple[ColumnFill, ...]
    rejections: tuple[Rejection, ...]
    blank_lines: int
    texts: DuplicateReport
    signs: TextSigns
    width: int | None
    characters: Spread | None
    words: Spread | None
    numbers: Mapping[str, Spread]
    personal: float | None
    labels: LabelCounts | None
    times: Times | None
    against: AgainstModel | None
    notes: tuple[str, ...]

    @property
    def good(self) -> int:
        """Rows that keep the contract."""
        return self.texts.rows

    @property
    def rejected(self) -> int:
        return self.rows - self.good

    @property
    def empty_texts(self) -> int:
        """Rows without a text, or with one of blanks."""
        return sum(one.rows for one in self.rejections if one.column == TEXT and one.reason in ("missing", "blank"))

    @property
    def completeness(self) -> float:
        """Share, 0..1, of cells with a value in the file's columns that the contract knows."""
        known = [column.filled for column in self.columns if column.contract_name is not None]
        return sum(known) / (self.rows * len(known))

    @property
    def metrics(self) -> dict[str, float]:
        """Every number under its name."""
        texts, signs, labels, times, against = self.texts, self.signs, self.labels, self.times, self.against
        numbers: dict[str, float | None] = {
            "rows": self.rows,
            "rejected_rows": self.rejected,
            "blank_lines": self.blank_lines,
            "empty_texts": self.empty_texts,
            "completeness": self.completeness,
            **{
                f"missing/{column.contract_name}": 1 - column.filled / self.rows
                for column in self.columns
                if column.contract_name is not None
            },
            "unique_texts": texts.unique_texts,
            "duplicate_rows": texts.duplicate_rows,
            "most_copies": texts.most_copies,
            "one_word_texts": signs.one_word,
            "broken_encoding_rows": signs.broken,
            "markup_rows": signs.markup,
            "other_script_rows": signs.other_script,
            "miscounted_rows": signs.miscounted,
            "personal_info": self.personal,
        }
        for name, spread in {"characters": self.characters, "words": self.words, **self.numbers}.items():
            if spread is not None:
                numbers |= {f"{name}/{key}": value for key, value in vars(spread).items()}
        if labels is not None:
            numbers |= {
                "labels": labels.kinds,
                "rare_labels": labels.rare,
                "label_imbalance": labels.imbalance,
                "near_equal_label_rows": labels.near_equal_rows,
                "conflicting_texts": texts.conflicting_texts,
                "rows_in_conflict": texts.rows_in_conflict,
            }
        if times is not None:
            numbers |= {
                "age_days": times.age_days,
                "ahead_rows": times.ahead,
                "days": times.span,
                "days_without_rows": times.span - len(times.by_day),
                "longest_gap_days": times.longest_gap,
                "rows_per_day": (times.rows - times.ahead) / times.span if times.span else None,
            }
        if against is not None:
            numbers |= {"unknown_label_rows": against.unknown_rows, "learned_rows": against.learned_rows}
        shares = texts.shares(self.rejected)
        if labels is None:
            shares.pop("quality/consistency", None)
        named = {f"quality/{name}": float(value) for name, value in numbers.items() if value is not None}
        return {**named, **shares}


class Profiler:
    """Looks at a file's batches in order, each beside what its check made of it.

    Args:
        now: until when a row may be from; with a zone.
    """

    def __init__(self, contract: Contract, now: datetime) -> None:
        self._contract = contract
        self._now = now
        self._filled: dict[str, int] = {}
        self._keys: list[Keys] = []
        self._labels: list[str] = []
        self._spellings: dict[str, str] = {}
        self._characters: list[np.ndarray[Any, Any]] = []
        self._words: list[np.ndarray[Any, Any]] = []
        self._numbers: dict[str, list[np.ndarray[Any, Any]]] = {}
        self._personal: Counter[bool] = Counter()
        self._seconds: list[np.ndarray[Any, Any]] = []
        self._signs = TextSigns()
        self._width: int | None = None

    def add(self, raw: pd.DataFrame, checked: CheckedBatch) -> None:
        """Takes the next batch as it was read, and as it was checked."""
        for name, column in raw.items():
            self._filled[str(name)] = self._filled.get(str(name), 0) + int(column.notna().sum())
        good = checked.good
        if checked.vectors is not None:
            self._width = checked.vectors.shape[1] or self._width
        if not len(good):
            return
        texts = as_list(good[TEXT])
        self._keys.append(RowKeys.of(texts).texts)
        if self._contract.label_column is not None:
            # One object for each label, however many rows have it.
            labels = as_list(good[self._contract.label_column])
            self._labels += [self._spellings.setdefault(label, label) for label in labels]
        characters = np.fromiter(map(len, texts), dtype=np.int32, count=len(texts))
        words = np.fromiter((len(text.split()) for text in texts), dtype=np.int32, count=len(texts))
        self._characters.append(characters)
        self._words.append(words)
        self._signs += _signs(
            texts, words, _differ(good["text_length"], characters) | _differ(good["word_count"], words)
        )
        for name in _NUMBERS:
            if name in good:
                self._numbers.setdefault(name, []).append(good[name].dropna().to_numpy(dtype=np.float64))
        if "has_personal_info" in good:
            self._personal.update(good["has_personal_info"].dropna().astype(bool).tolist())
        if TIMESTAMP in good:
            times = good[TIMESTAMP].dropna().dt.tz_convert(None)
            self._seconds.append(times.to_numpy().astype("datetime64[s]"))

    def profile(self, file: CheckedFile, notes: tuple[str, ...], blank_lines: int, model: KnownModel | None) -> Profile:
        """The whole, once every batch was added; of at least one."""
        keys = np.concatenate([np.zeros(0, dtype=np.uint64), *self._keys])
        counts = Counter(self._labels)
        labelled = self._contract.label_column is not None
        rejected = tuple(rejections(file.all_rejected))
        personal = self._personal.total()
        return Profile(
            rows=file.total_rows,
            digest=file.digest,
            label_column=self._contract.label_column,
            columns=tuple(self._columns(rejected)),
            rejections=rejected,
            blank_lines=blank_lines,
            texts=duplicates(keys, self._labels if labelled else None),
            signs=self._signs,
            width=self._width,
            characters=Spread.of(_joined(self._characters)),
            words=Spread.of(_joined(self._words)),
            numbers={
                name: spread
                for name, parts in self._numbers.items()
                if (spread := Spread.of(_joined(parts))) is not None
            },
            personal=self._personal[True] / personal if personal else None,
            labels=LabelCounts.of(counts) if counts else None,
            times=_times(self._seconds, self._now),
            against=None if model is None else _against(model, counts, keys, labelled),
            notes=notes,
        )

    def _columns(self, rejected: Sequence[Rejection]) -> list[ColumnFill]:
        contract = self._contract
        known = {name: name for name in (TEXT, CASE_ID, *OPTIONAL_RULES, EMBEDDINGS)}
        if contract.label_column is not None:
            known[contract.label_column] = "label"
        if contract.group_column is not None:
            known.setdefault(contract.group_column, "group")
        blank = sum(one.rows for one in rejected if (one.column, one.reason) == (TEXT, "blank"))
        return [
            ColumnFill(
                # A known name is ours or the configuration's; another may be a value of a file without header.
                name if name in known else shown_column(name, number),
                known.get(name),
                filled - (blank if name == TEXT else 0),
            )
            for number, (name, filled) in enumerate(self._filled.items(), start=1)
        ]


def _joined(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _differ(column: pd.Series, counted: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    different: np.ndarray[Any, np.dtype[np.bool_]] = plain(column).to_numpy(dtype=np.int64) != counted
    return different


def _signs(
    texts: Sequence[str], words: np.ndarray[Any, Any], miscounted: np.ndarray[Any, np.dtype[np.bool_]]
) -> TextSigns:
    array = pa.array(texts, type=pa.large_string())

    def rows(pattern: str) -> int:
        return int(pc.sum(pc.match_substring_regex(array, pattern)).as_py())

    letters, latin = (pc.count_substring_regex(array, each).to_numpy() for each in (_LETTER, _LATIN))
    return TextSigns(
        one_word=int((words == 1).sum()),
        broken=rows(f"{_BROKEN}|{_CONTROL}"),
        markup=rows(_MARKUP),
        other_script=int((2 * latin < letters).sum()),
        miscounted=int(miscounted.sum()),
    )


def _times(parts: Sequence[np.ndarray[Any, Any]], now: datetime) -> Times | None:
    seconds = _joined(parts)
    if not len(seconds):
        return None
    past = np.sort(seconds[seconds <= np.datetime64(int((now + timedelta(days=1)).timestamp()), "s")])
    oldest, newest = (
        (place.astype(datetime).replace(tzinfo=UTC) for place in past[[0, -1]]) if len(past) else (None, None)
    )
    days, counts = np.unique(past.astype("datetime64[D]"), return_counts=True)
    return Times(
        rows=len(seconds),
        ahead=len(seconds) - len(past),
        oldest=oldest,
        newest=newest,
        age_days=None if newest is None else max((now - newest) / timedelta(days=1), 0.0),
        by_day=dict(zip(days.astype(date).tolist(), counts.tolist(), strict=True)),
        longest_gap=max(int(np.diff(days).astype(np.int64).max(initial=1)) - 1, 0),
    )


def _against(model: KnownModel, counts: Mapping[str, int], keys: Keys, labelled: bool) -> AgainstModel:
    spelled = spellings(counts, model.classes) if model.normalises else {}
    unknown = {label: rows for label, rows in counts.items() if spelled.get(label, label) not in model.classes}
    present = {spelled.get(label, label) for label in counts}
    return AgainstModel(
        name=model.name,
        unknown_kinds=len(unknown),
        unknown_rows=sum(unknown.values()),
        unknown=tuple(sorted(label for label, rows in unknown.items() if _shown(label, rows))),
        absent=tuple(label for label in model.classes if label not in present) if labelled else (),
        learned_rows=None if model.learned is None else int(RowKeys(keys, None).known_to(model.learned).sum()),
    )
