"""Vectors come out as float32, whatever form they were written in, and a bad row costs only itself."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.vector_column import parse_vectors


def numbers(rows: int = 3, width: int = 384) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(3).normal(size=(rows, width)).astype(np.float32)


FORMS: dict[str, Any] = {
    "lists": lambda row: row.tolist(),
    "float32 arrays": lambda row: row,
    "float64 arrays": lambda row: row.astype(np.float64),
    "object arrays": lambda row: row.astype(object),
    "tuples": tuple,
    "JSON": lambda row: json.dumps(row.tolist()),
    "JSON without spaces": lambda row: json.dumps(row.tolist(), separators=(",", ":")),
    "JSON with spaces and line breaks": lambda row: f" {json.dumps(row.tolist(), indent=1)}\n",
    "Python literal": lambda row: str(row.tolist()),
    "literal with a last comma": lambda row: str(row.tolist())[:-1] + ",]",
}


@pytest.mark.parametrize("width", [384, 584])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(form: str, width: int) -> None:
    rows = numbers(width=width)
    parsed = parse_vectors(pd.Series([FORMS[form](row) for row in rows]))
    assert parsed.reasons.tolist() == ["", "", ""]
    assert parsed.values.dtype == np.float32
    assert parsed.width == width
    np.testing.assert_array_equal(parsed.values, rows)


GOOD = [0.5] * 384
BAD: dict[str, tuple[Any, str]] = {
    "nothing": (None, "missing"),
    "NaN for a list": (float("nan"), "missing"),
    "NA": (pd.NA, "missing"),
    "a number": (3.5, "not a list of numbers"),
    "a number as text": ("3.5", "not a list of numbers"),
    "a word": ("hello", "not a list of numbers"),
    "code": ("[__import__('os').getcwd()]", "not a list of numbers"),
    "an object": ('{"a": 1}', "not a list of numbers"),
    "an open bracket": (str(GOOD)[:-1], "not a list of numbers"),
    "numbers without commas": ("[" + " ".join(["0.5"] * 384) + "]", "not a list of numbers"),
    "numpy's own form": ("[" + ", ".join(["np.float32(0.5)"] * 384) + "]", "not a list of numbers"),
    "a word among numbers": (str(["x", *GOOD[1:]]), "not a list of numbers"),
    "numbers as strings": ([*GOOD[1:], "0.5"], "not a list of numbers"),
    "none among numbers": ([*GOOD[1:], None], "not a list of numbers"),
    "a boolean": ([*GOOD[1:], True], "not a list of numbers"),
    "an empty field among numbers": (str(GOOD).replace("0.5", "", 1), "not a list of numbers"),
    "nested": ([GOOD], "nested lists"),
    "nested text": (str([GOOD]), "nested lists"),
    "nested array": (np.zeros((1, 384)), "nested lists"),
    "deeply nested text": ("[" * 5000 + "]" * 5000, "not a list of numbers"),
    "empty": ([], "wrong width: 0 numbers instead of 384"),
    "empty text": ("[]", "wrong width: 0 numbers instead of 384"),
    "one short": (GOOD[1:], "wrong width: 383 numbers instead of 384"),
    "one short text": (str(GOOD[1:]), "wrong width: 383 numbers instead of 384"),
    "the other width": ([0.5] * 584, "wrong width: 584 numbers instead of 384"),
    "NaN": ([*GOOD[1:], float("nan")], "holds a number that is not finite"),
    "NaN text": (str([*GOOD[1:], float("nan")]).replace("nan", "NaN"), "holds a number that is not finite"),
    "infinite": (np.array([*GOOD[1:], np.inf]), "holds a number that is not finite"),
    "infinite text": (str(GOOD).replace("0.5", "Infinity", 1), "holds a number that is not finite"),
    "too large for float32": ([*GOOD[1:], 1e39], "holds a number that is not finite"),
    "too large for any float": ([*GOOD[1:], 10**400], "holds a number that is not finite"),
    "not Unicode": ("[\ud800]", "not a list of numbers"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_a_bad_row_has_its_reason_and_harms_no_neighbour(bad: Any, reason: str) -> None:
    good = str(GOOD) if isinstance(bad, str) else GOOD
    parsed = parse_vectors(pd.Series([good, bad, good], dtype=object))
    assert parsed.reasons.tolist() == ["", reason, ""]
    np.testing.assert_array_equal(parsed.values[[0, 2]], np.full((2, 384), 0.5))
    assert not parsed.values[1].any()


def test_the_first_good_row_settles_the_width() -> None:
    parsed = parse_vectors(pd.Series([[1.0], str([0.5] * 584), GOOD]))
    assert parsed.width == 584
    assert parsed.reasons.tolist() == [
        "wrong width: 1 numbers instead of 584",
        "",
        "wrong width: 384 numbers instead of 584",
    ]


def test_the_width_of_earlier_batches_holds() -> None:
    assert parse_vectors(pd.Series([GOOD]), expected_width=584).reasons.tolist() == [
        "wrong width: 384 numbers instead of 584"
    ]


def test_without_any_good_row_there_is_no_width() -> None:
    parsed = parse_vectors(pd.Series([[1.0, 2.0], None]))
    assert parsed.width is None
    assert parsed.values.shape == (2, 0)
    assert parsed.reasons.tolist() == ["wrong width: 2 numbers instead of 384 or 584", "missing"]


def test_bad_rows_are_found_in_whichever_block_they_stand() -> None:
    cells: list[str] = [json.dumps(row.tolist()) for row in numbers(700)]
    bad = [0, 255, 256, 511, 699]
    for position in bad:
        cells[position] = "[" + ",".join(["oops"] * 384) + "]"
    parsed = parse_vectors(pd.Series(cells, dtype="str"))
    assert np.flatnonzero(parsed.reasons != "").tolist() == bad
    kept = np.delete(np.arange(700), bad)
    np.testing.assert_array_equal(parsed.values[kept], numbers(700)[kept])


ODD: dict[str, str] = {
    "no blank after a comma": json.dumps(GOOD, separators=(",", ":")),
    "two blanks after a comma": json.dumps(GOOD).replace(", ", ",  "),
    "a blank before a comma": json.dumps(GOOD).replace(",", " ,"),
    "blanks within the brackets": "[ " + json.dumps(GOOD)[1:-1] + " ]",
    "blanks around": f"  {json.dumps(GOOD)}\t",
    "exponents": "[" + ", ".join(["5e-1"] * 384) + "]",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_the_spacing_of_a_list_changes_no_number_and_no_neighbour(text: str) -> None:
    other = numbers(2)
    cells = [json.dumps(other[0].tolist()), text, "", str([0.5] * 383), json.dumps(other[1].tolist())]
    parsed = parse_vectors(pd.Series(cells, dtype="str"))
    assert [reason == "" for reason in parsed.reasons] == [True, True, False, False, True]
    np.testing.assert_array_equal(parsed.values[[0, 1, 4]], [other[0], GOOD, other[1]])


def test_numbers_are_the_floats_nearest_to_what_is_written() -> None:
    """Seventeen digits, the smallest and the largest; as json.loads reads them."""
    random = np.random.default_rng(1)
    rows = (random.normal(size=(50, 384)) * 10.0 ** random.integers(-40, 38, size=(50, 384))).tolist()
    parsed = parse_vectors(pd.Series([json.dumps(row) for row in rows], dtype="str"))
    np.testing.assert_array_equal(parsed.values, np.array(rows).astype(np.float32))


def test_a_part_of_a_longer_column_is_parsed_as_it_stands() -> None:
    column = pd.Series([json.dumps(row.tolist()) for row in numbers(9)], dtype="str")
    np.testing.assert_array_equal(parse_vectors(column.iloc[3:7]).values, numbers(9)[3:7])
