"""The optional columns' rules: each turns a raw column into its type and says which rows break the rule.

A rule takes a column as a reader left it (strings from CSV, typed values from parquet or pickle) and returns the typed
column with the same index and, per row, a reason ('' where the row is good). No reason quotes a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

Reasons = np.ndarray[Any, np.dtype[Any]]
Rule = Callable[[pd.Series, pd.Series], tuple[pd.Series, Reasons]]

MAX_TEXT_CHARACTERS = 10_000
_TRUE, _FALSE = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no")
_NAME = re.compile(r"[\w.\-]{1,40}( [\w.\-]{1,40})?")


def shown_columns(names: Iterable[object]) -> str:
    """Lists column names for a message, without those that read like data: a file may lack its header."""
    shown = []
    for number, name in enumerate(names, start=1):
        text = str(name)
        shown.append(
            text if _NAME.fullmatch(text) and len(text) <= 40 else f"(column {number}: not shown, reads like data)"
        )
    if len(shown) > 40:
        shown = [*shown[:40], f"… {len(shown) - 40} more"]
    return ", ".join(shown) if shown else "none"


def no_faults(n_rows: int) -> Reasons:
    """Returns (n_rows,) empty reasons."""
    return np.full(n_rows, "", dtype=object)


def mark(reasons: Reasons, rows: pd.Series | np.ndarray[Any, Any], reason: str) -> None:
    """Writes a reason where `rows` holds and none stands yet."""
    where = np.asarray(rows, dtype=bool) & (reasons == "")
    reasons[where] = reason


def plain(column: pd.Series) -> pd.Series:
    """Returns the column free of categorical and Arrow-only types, so that each rule meets few kinds."""
    if isinstance(column.dtype, (pd.CategoricalDtype, pd.ArrowDtype)):
        return column.astype(object)
    return column


def text_rule(column: pd.Series) -> tuple[pd.Series, Reasons]:
    """A string, not blank, at most 10,000 characters; kept to the letter."""
    values, reasons = _as_strings(plain(column), _only_strings)
    mark(reasons, values.isna(), "missing")
    mark(reasons, values.str.strip() == "", "blank")
    mark(reasons, values.str.len() > MAX_TEXT_CHARACTERS, f"longer than {MAX_TEXT_CHARACTERS:,} characters")
    return values, reasons


def label_rule(column: pd.Series) -> tuple[pd.Series, Reasons]:
    """A label, group or id as string: strings to the letter, whole numbers without a decimal point (1.0 is "1")."""
    column = plain(column)
    if pd.api.types.is_float_dtype(column.dtype) or isinstance(column.dtype, pd.Float64Dtype):
        column = column.astype(object)
    values, reasons = _as_strings(column, _scalar_string)
    mark(reasons, values.isna(), "missing")
    mark(reasons, values.str.strip() == "", "blank")
    return values, reasons


def unit_interval_rule(column: pd.Series, _: pd.Series) -> tuple[pd.Series, Reasons]:
    """A number from 0 to 1, or missing."""
    values, reasons = _as_numbers(plain(column))
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
    """true/false, yes/no or 1/0 in any case, or missing."""
    column = plain(column)
    words = column.astype(object).map(lambda cell: str(cell).strip().casefold(), na_action="ignore")
    true, false, missing = words.isin(_TRUE), words.isin(_FALSE), column.isna()
    reasons = no_faults(len(column))
    mark(reasons, ~(true | false | missing), "not a boolean (true/false, yes/no, 1/0)")
    return true.astype("boolean").where(true | false), reasons


def timestamp_rule(column: pd.Series, _: pd.Series) -> tuple[pd.Series, Reasons]:
    """An ISO 8601 time, or missing; a time without zone is read as UTC."""
    column, reasons = plain(column), no_faults(len(column))
    if pd.api.types.is_numeric_dtype(column.dtype):
        # Seconds, milliseconds or 20240131? A bare number has no one reading.
        mark(reasons, column.notna(), "not an ISO 8601 time")
        column = pd.Series(pd.NaT, index=column.index)
    elif column.dtype == object:
        numbers = column.map(lambda cell: isinstance(cell, (int, float)) and cell == cell)
        mark(reasons, numbers, "not an ISO 8601 time")
        column = column.mask(numbers.astype(bool), None)
    values = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    mark(reasons, values.isna() & column.notna(), "not an ISO 8601 time")
    return values.astype("datetime64[us, UTC]"), reasons


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
        column = column.map(
            lambda cell: cell if isinstance(cell, (str, int, float, np.number)) else _none_or_text(cell)
        )
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        column = column.astype("str")
    values = pd.to_numeric(column, errors="coerce").astype("Float64").astype("float64")
    reasons = no_faults(len(column))
    mark(reasons, values.isna() & column.notna(), "not a number")
    return values, reasons


def _none_or_text(cell: object) -> object:
    return None if cell is None or cell is pd.NA or cell is pd.NaT else "not a number"


def _as_strings(column: pd.Series, convert: Callable[[object], object]) -> tuple[pd.Series, Reasons]:
    reasons = no_faults(len(column))
    if isinstance(column.dtype, pd.StringDtype):
        return column.astype("str"), reasons
    cells = [convert(cell) for cell in column.astype(object)]
    for position, cell in enumerate(cells):
        if isinstance(cell, _Fault):
            reasons[position], cells[position] = str(cell), None
    return pd.Series(cells, index=column.index, dtype="str"), reasons


class _Fault(str):
    """A reason that takes a value's place; never a value itself."""

    __slots__ = ()


def _only_strings(cell: object) -> object:
    if isinstance(cell, str):
        return cell if _is_unicode(cell) else _Fault("not valid Unicode (a lone surrogate)")
    return None if _is_missing(cell) else _Fault("not a string")


def _scalar_string(cell: object) -> object:
    if isinstance(cell, (bool, np.bool_, int, np.integer)):
        return str(cell)
    if isinstance(cell, (float, np.floating)) and cell == cell:
        return str(int(cell)) if float(cell).is_integer() else str(cell)
    return _only_strings(cell)


def _is_missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, (float, np.floating)) and cell != cell)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
