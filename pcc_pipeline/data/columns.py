"""The optional columns' rules: each turns a raw column into its type and says which rows break the rule.

A rule takes a column as a reader left it (strings from CSV, typed values from parquet or pickle) and returns the typed
column with the same index and, per row, a reason ('' where the row is good). No reason quotes a value.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa

from pcc_pipeline.errors import DataError

Reasons = np.ndarray[Any, np.dtype[Any]]
Rule = Callable[[pd.Series, pd.Series], tuple[pd.Series, Reasons]]

MAX_TEXT_CHARACTERS = 10_000
# A table of messages has dozens; millions of names alone would fill the memory.
MAX_COLUMNS = 10_000
_TRUE, _FALSE = ("true", "1", "1.0", "yes", "t", "y"), ("false", "0", "0.0", "no", "f", "n")
_MAX_DIGITS = 400
_TOO_LARGE = 10**_MAX_DIGITS
_NOT_UNICODE = "not valid Unicode (a lone surrogate)"
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
# White space, control and format characters, and the letters and marks that show nothing: a text of these alone is
# blank. Unicode 15's categories Zs, Zl, Zp, Cc and Cf, fillers of Hangul, Braille's blank, variation selectors.
_INVISIBLE = "".join(
    chr(code)
    for first, last in (
        (0x0, 0x20),
        (0x7F, 0xA0),
        (0xAD, 0xAD),
        (0x34F, 0x34F),
        (0x600, 0x605),
        (0x61C, 0x61C),
        (0x6DD, 0x6DD),
        (0x70F, 0x70F),
        (0x890, 0x891),
        (0x8E2, 0x8E2),
        (0x115F, 0x1160),
        (0x1680, 0x1680),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2000, 0x200F),
        (0x2028, 0x202F),
        (0x205F, 0x206F),
        (0x2800, 0x2800),
        (0x3000, 0x3000),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xFFF9, 0xFFFB),
        (0x110BD, 0x110BD),
        (0x110CD, 0x110CD),
        (0x13430, 0x13438),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0001, 0xE0001),
        (0xE0020, 0xE007F),
        (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)
_MOST_LABELS = 10
_NAME = re.compile(r"[\w.\-]{1,40}( [\w.\-]{1,40})?")


def shown_columns(names: Iterable[object]) -> str:
    """Lists column names for a message, without those that read like data: a file may lack its header."""
    shown = [shown_column(str(name), number) for number, name in enumerate(names, start=1)]
    if len(shown) > 40:
        shown = [*shown[:40], f"… {len(shown) - 40} more"]
    return ", ".join(shown) if shown else "none"


def shown_column(name: str, number: int) -> str:
    """The name of the column at this place, from 1, or words in its place where it reads like data."""
    return name if reads_like_a_name(name) else f"(column {number}: not shown, reads like data)"


def reads_like_a_name(text: str) -> bool:
    """Whether a text may be a name that somebody gave: one or two words without punctuation, 40 characters at most."""
    return len(text) <= 40 and _NAME.fullmatch(text) is not None


def shown_labels(labels: Sequence[str], mark: int = 0) -> str:
    """Lists labels for a message, at most ten and without those that read like texts, which a shifted row brings.

    Args:
        mark: how many characters before each are no part of it.
    """
    shown = [label for label in labels if reads_like_a_name(label[mark:])][:_MOST_LABELS]
    hidden = len(labels) - len(shown)
    rest = [f"{hidden:,} more" if shown else f"{hidden:,} that read like texts"] if hidden else []
    return ", ".join([*shown, *rest])


def check_names(names: list[str], source: object) -> list[str]:
    """Returns a file's column names; raises DataError where one is repeated or no text, or where they are too many."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        problem = f"column names are repeated: {shown_columns(repeated)}"
        raise DataError(problem, where=str(source), fix="give each column a name of its own")
    if not all(map(is_unicode, names)):
        raise DataError("a column's name is not valid Unicode", where=str(source), fix="rename the column")
    if len(names) > MAX_COLUMNS:
        raise too_many_columns(source)
    return names


def too_many_columns(source: object) -> DataError:
    """The error about a file of more than MAX_COLUMNS columns."""
    return DataError(
        f"the file has more than {MAX_COLUMNS:,} columns",
        where=str(source),
        fix="keep vectors as one column of lists",
    )


def no_faults(n_rows: int) -> Reasons:
    """Returns (n_rows,) empty reasons."""
    return np.full(n_rows, "", dtype=object)


def mark(reasons: Reasons, rows: pd.Series | np.ndarray[Any, Any], reason: str) -> None:
    """Writes a reason where `rows` holds and none stands yet."""
    where = np.asarray(rows, dtype=bool)
    if where.any():
        reasons[where & (reasons == "")] = reason


def as_list(column: pd.Series) -> list[Any]:
    """The column's values as Python objects; iterating a column of Arrow strings takes many times as long."""
    return column.to_numpy(dtype=object).tolist()


def plain(column: pd.Series) -> pd.Series:
    """Returns the column free of categorical and Arrow types, so that each rule meets few kinds.

    Strings stay a column of strings; bytes that are UTF-8 are strings, too, as writers without types leave them.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object)
    if not isinstance(column.dtype, pd.ArrowDtype):
        return column
    values = pa.array(column)
    if isinstance(values.type, pa.BaseExtensionType):
        return pd.Series(values.to_pylist(), index=column.index, dtype=object)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode() if isinstance(values, pa.Array) else values.cast(values.type.value_type)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        try:
            values = values.cast(pa.large_string())
        except pa.ArrowInvalid:
            return pd.Series(values.to_pylist(), index=column.index, dtype=object)
    try:
        # Whole numbers with gaps stay whole numbers.
        simple: pd.Series = values.to_pandas(integer_object_nulls=True)
    except (pa.ArrowInvalid, ValueError, OverflowError):  # times outside Python's years or of an unknown zone
        simple = values.cast(pa.string()).to_pandas()
    return simple.set_axis(column.index)


def text_rule(column: pd.Series) -> tuple[pd.Series, Reasons]:
    """A string with something to see in it, at most 10,000 characters; kept to the letter."""
    values, reasons = _as_strings(plain(column), _only_strings)
    mark(reasons, values.isna(), "missing")
    mark(reasons, _blank(values), "blank")
    mark(reasons, values.str.len() > MAX_TEXT_CHARACTERS, f"longer than {MAX_TEXT_CHARACTERS:,} characters")
    return values, reasons


def label_rule(column: pd.Series) -> tuple[pd.Series, Reasons]:
    """A label, group or id as string, the same one from every format.

    Strings are kept to the letter but for two forms in which formats differ: a whole number has no decimal point
    (1, 1.0 and "1.0" are "1"), and a boolean is "1" or "0" (so are "True" and "false", as CSV writes booleans).
    """
    column = plain(column)
    if pd.api.types.is_numeric_dtype(column.dtype) or isinstance(column.dtype, pd.BooleanDtype):
        column = column.astype(object)
    values, reasons = _as_strings(column, _scalar_string)
    mark(reasons, values.isna(), "missing")
    mark(reasons, _blank(values), "blank")
    return _one_form(values), reasons


def label_text(label: object) -> str:
    """One label in the form that `label_rule` gives it."""
    return str(label_rule(pd.Series([label], dtype=object))[0].iloc[0])


def unit_interval_rule(column: pd.Series, _: pd.Series) -> tuple[pd.Series, Reasons]:
    """A number from 0 to 1, or missing; 0,5 is one as well."""
    column = plain(column)
    values, reasons = _as_numbers(column)
    if (reasons != "").any():
        commas = column[reasons != ""].map(_decimal_comma).astype("float64").dropna()
        values[commas.index] = commas
        reasons[column.index.isin(commas.index)] = ""
    mark(reasons, (values < 0) | (values > 1), "not between 0 and 1")
    return values, reasons


def count_rule(column: pd.Series, _: pd.Series) -> tuple[pd.Series, Reasons]:
    """A whole number of at least 0, or missing."""
    values, reasons = _as_numbers(plain(column))
    filled = values.fillna(0.0)
    whole = np.isfinite(filled) & (filled >= 0) & (filled < 2**53) & (filled == np.floor(filled))
    mark(reasons, ~whole, "not a whole number of at least 0")
    return values.where(whole).astype("Int64"), reasons


def text_length_rule(column: pd.Series, texts: pd.Series) -> tuple[pd.Series, Reasons]:
    """Characters; counted from the text where missing."""
    values, reasons = count_rule(column, texts)
    return values.fillna(texts.str.len().astype("Int64")), reasons


def word_count_rule(column: pd.Series, texts: pd.Series) -> tuple[pd.Series, Reasons]:
    """Words between whitespace; counted from the text where missing."""
    values, reasons = count_rule(column, texts)
    if values.isna().any():
        words = pd.Series([len(text.split()) if isinstance(text, str) else pd.NA for text in texts], index=texts.index)
        values = values.fillna(words.astype("Int64"))
    return values, reasons


def boolean_rule(column: pd.Series, _: pd.Series) -> tuple[pd.Series, Reasons]:
    """true/false, yes/no, t/f, y/n or 1/0 in any case, or missing."""
    column = plain(column)
    words = _by_value(column, _word)
    true, false, missing = words.isin(_TRUE), words.isin(_FALSE), words.isna()
    reasons = no_faults(len(column))
    mark(reasons, ~(true | false | missing), "not a boolean (true/false, yes/no, 1/0)")
    return true.astype("boolean").where(true | false), reasons


def _by_value(column: pd.Series, convert: Callable[[object], object]) -> pd.Series:
    """`convert` of each cell, called once a value but where values may be no keys; a missing cell is None."""
    if column.dtype == object:
        return column.map(convert)
    codes, values = pd.factorize(column)
    converted = np.array([*map(convert, values), None], dtype=object)
    return pd.Series(converted[codes], index=column.index, dtype=object)


def _word(cell: object) -> str | None:
    if _is_missing(cell):
        return None
    text = _scalar_string(cell)
    return str(cell if isinstance(text, _Fault) else text).strip().casefold()


def timestamp_rule(column: pd.Series, _: pd.Series) -> tuple[pd.Series, Reasons]:
    """An ISO 8601 time or date of the years 1 to 9999, or missing; without zone it is UTC.

    Read as well: "… UTC" at the end, as BigQuery writes it. A number is what its digits are (20240131), as in a CSV.
    """
    reasons = no_faults(len(column))
    counted = _counted_times(column)
    if counted is not None:
        values, missing = counted
    else:
        texts = _time_texts(plain(column))
        missing = texts.isna()
        values = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
        values = values.where(values.dt.year.between(1, 9999)).astype("datetime64[us, UTC]")
    mark(reasons, values.isna() & ~missing, "not an ISO 8601 time")
    return values, reasons


# Seconds from 1970 to the years 1 and 10000: what Python's own datetime can tell.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_800
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def _counted_times(column: pd.Series) -> tuple[pd.Series, pd.Series] | None:
    """Times that are stored as counts since 1970, and where they are missing; None for a column of another kind."""
    missing = column.isna()
    if isinstance(column.dtype, pd.ArrowDtype):
        kind = column.dtype.pyarrow_dtype
        if pa.types.is_date(kind):
            kind = pa.timestamp("s" if pa.types.is_date32(kind) else "ms")
            column = pd.Series(pd.arrays.ArrowExtensionArray(pa.array(column).cast(kind)), index=column.index)
        elif not pa.types.is_timestamp(kind):
            return None
        # The count is UTC's, whatever the zone: no zone has to be known.
        counts = pa.array(column).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        unit = kind.unit
    elif pd.api.types.is_datetime64_any_dtype(column.dtype):
        naive = column.dt.tz_convert(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column
        times = naive.to_numpy()
        unit = np.datetime_data(times.dtype)[0]
        counts = times.astype("int64")
    else:
        return None
    per = _PER_SECOND[unit]
    fits = ~missing.to_numpy(dtype=bool)
    if unit != "ns":  # 64 bits of nanoseconds do not reach that far
        fits &= (counts >= _FIRST_SECOND * per) & (counts < _LAST_SECOND * per)
    counts = np.where(fits, counts, 0)
    microseconds = counts * (10**6 // per) if per <= 10**6 else counts // 1000
    values = pd.Series(microseconds.astype("datetime64[us]"), index=column.index).where(fits)
    return values.dt.tz_localize("UTC"), missing


_ZONE_NAME = r"(?i)\s*(?:UTC|GMT|Z)$"
_NANOSECONDS = r"(\.\d{6})\d+"
# What Arrow finds sooner than Python's own engine replaces: a zone in other words than a Z behind the digits.
_ZONE_NAME_SEEN = r"[A-Ya-z]$|[^0-9]Z$"
_NANOSECONDS_SEEN = r"\.\d{7}"


def _time_texts(column: pd.Series) -> pd.Series:
    """Texts for pandas' ISO 8601 parser, which would take "now" for a time and all of a column to nanoseconds."""
    texts = _as_strings(column, _time_text)[0].str.strip()
    if texts.str.contains(_ZONE_NAME_SEEN, regex=True).any():
        texts = texts.str.replace(_ZONE_NAME, "+00:00", regex=True)
    if texts.str.contains(_NANOSECONDS_SEEN, regex=True).any():
        texts = texts.str.replace(_NANOSECONDS, r"\1", regex=True)
    return texts.where(texts.isna() | texts.str.match(r"\d{4}"), "none")


def _time_text(cell: object) -> object:
    if _is_missing(cell):
        return None
    if isinstance(cell, (bool, np.bool_)):
        return "none"
    if isinstance(cell, (date, np.datetime64)):
        return str(cell)
    text = _scalar_string(cell)
    return "none" if isinstance(text, _Fault) else text


# In the contract's order, which decides the fault that is reported for a row with several.
OPTIONAL_RULES: dict[str, Rule] = {
    "confidence": unit_interval_rule,
    "timestamp": timestamp_rule,
    "text_length": text_length_rule,
    "word_count": word_count_rule,
    "has_personal_info": boolean_rule,
    "formality_score": unit_interval_rule,
    "urgency_score": unit_interval_rule,
}


def _as_numbers(column: pd.Series) -> tuple[pd.Series, Reasons]:
    if column.dtype == object:
        # Lists and other objects would make pandas raise instead of marking the row.
        column = column.map(_number)
    if column.dtype.kind in "mM":
        column = column.astype("str")
    values = pd.to_numeric(column, errors="coerce").astype("Float64").astype("float64")
    reasons = no_faults(len(column))
    mark(reasons, values.isna() & column.notna(), "not a number")
    return values, reasons


def _number(cell: object) -> object:
    """A cell as pandas reads numbers: a number, a text, or None where it is missing."""
    if _is_missing(cell):
        return None
    if isinstance(cell, bytes):
        cell = _decoded(cell)
    if isinstance(cell, (int, Decimal, np.bool_, np.number)) and not isinstance(cell, np.complexfloating):
        try:
            return float(cell)
        except OverflowError:
            return math.inf if cell > 0 else -math.inf
    return cell if isinstance(cell, (str, float)) else "not a number"


def _decimal_comma(cell: object) -> float:
    return float(cell.replace(",", ".")) if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell) else math.nan


def _blank(values: pd.Series) -> pd.Series:
    blank: pd.Series = values.str.strip(_INVISIBLE) == ""
    return blank


def _one_form(values: pd.Series) -> pd.Series:
    """Strings that only a format's habits tell apart, in one form."""
    points = values.str.fullmatch(r"-?(?:0|[1-9]\d*)\.0+").fillna(False)
    if points.any():
        values = values.where(~points, values.str.replace(r"\.0+$", "", regex=True).replace("-0", "0"))
    words = values.str.lower()
    return values.mask((words == "true").fillna(False), "1").mask((words == "false").fillna(False), "0")


def _as_strings(column: pd.Series, convert: Callable[[object], object]) -> tuple[pd.Series, Reasons]:
    reasons = no_faults(len(column))
    if isinstance(column.dtype, pd.StringDtype):
        try:
            return column.astype("str"), reasons
        except UnicodeEncodeError:  # a lone surrogate, which Python's own storage can hold
            pass
    cells = [convert(cell) for cell in column.astype(object)]
    for position, cell in enumerate(cells):
        if isinstance(cell, _Fault):
            reasons[position], cells[position] = str(cell), None
    return pd.Series(cells, index=column.index, dtype="str"), reasons


class _Fault(str):
    """A reason that takes a value's place; never a value itself."""

    __slots__ = ()


def _only_strings(cell: object) -> object:
    if isinstance(cell, bytes):
        cell = _decoded(cell)
    if isinstance(cell, str):
        return cell if isinstance(cell, _Fault) or is_unicode(cell) else _Fault(_NOT_UNICODE)
    return None if _is_missing(cell) else _Fault("not a string")


def _scalar_string(cell: object) -> object:
    """A scalar as the text that a CSV of it would hold; a fault for lists and the like."""
    if _is_missing(cell):
        return None
    if isinstance(cell, (bool, np.bool_, int, np.integer)):
        return _digits(int(cell))
    if isinstance(cell, (float, np.floating)):
        return _digits(int(cell)) if float(cell).is_integer() else str(cell)
    if isinstance(cell, Decimal):
        # Without the bound, Decimal("1e999999999") would become an int of as many digits.
        whole = cell.is_finite() and cell.adjusted() < _MAX_DIGITS and cell == cell.to_integral_value()
        return _digits(int(cell)) if whole else str(cell)
    if isinstance(cell, (date, np.datetime64, UUID)):
        return str(cell)
    return _only_strings(cell)


def _digits(number: int) -> str:
    # Python writes no more than 4,300 digits, and no double has more than 309.
    return str(number) if abs(number) < _TOO_LARGE else _Fault("a number of too many digits")


def _decoded(cell: bytes) -> str:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return _Fault("not valid UTF-8")


def _is_missing(cell: object) -> bool:
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    if isinstance(cell, Decimal):
        return cell.is_nan()
    if isinstance(cell, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(cell))
    return isinstance(cell, (float, np.floating)) and bool(cell != cell)


def is_unicode(text: str) -> bool:
    """False for a string with a lone surrogate, which no file can hold as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
