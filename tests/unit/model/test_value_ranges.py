"""Which values a hyperparameter may have, and the words for those it may not."""

from __future__ import annotations

from typing import Any

import pytest

from pcc_pipeline.model.value_ranges import Choice, Domain, ListOf, Number

INSIDE: list[tuple[Domain, list[Any]]] = [
    (Number(0, 1), [0, 1, 0.5, 1e-300]),
    (Number(1), [1, 10**12]),
    (Number(1, 10, whole=True), [1, 10]),
    (Number(0, 1, optional=True), [None, 0.3]),
    (Choice(("l1", None)), ["l1", None]),
    (Choice((True, False)), [True, False]),
    (ListOf(Number(1, 9, whole=True)), [[1], [9, 1], (2, 3)]),
    (ListOf(Choice(("a", "b")), least=2, optional=True), [["a", "b"], None]),
]
OUTSIDE: list[tuple[Domain, Any, str]] = [
    (Number(0, 1), 2, "is not a number from 0 to 1"),
    (Number(0, 1), -1e-9, "is not a number from 0 to 1"),
    (Number(0, 1), "0.5", "is not a number from 0 to 1"),
    (Number(0, 1), True, "is not a number from 0 to 1"),
    (Number(0, 1), None, "is not a number from 0 to 1"),
    (Number(0), float("nan"), "is not a number from 0 up"),
    (Number(0), float("inf"), "is not a number from 0 up"),
    (Number(1, 10, whole=True), 1.0, "is not a whole number from 1 to 10"),
    (Number(0, 1, optional=True), 3, "is not a number from 0 to 1, or null"),
    (Choice(("l1", None)), "l3", "is not one of l1, null"),
    (Choice((True, False)), 1, "is not one of True, False"),
    (Choice((1,)), True, "is not one of 1"),
    (ListOf(Number(1, 9)), [], "is not a list of at least 1"),
    (ListOf(Number(1, 9)), 3, "is not a list of at least 1"),
    (ListOf(Choice(("a", "b"))), "ab", "is not a list of at least 1"),
    (ListOf(Number(1, 9), least=2), [1], "is not a list of at least 2"),
    (ListOf(Number(1, 9)), None, "is not a list of at least 1"),
    (ListOf(Number(1, 9)), [1, 99, 100], "holds 99, which is not a number from 1 to 9"),
]


@pytest.mark.parametrize(("domain", "values"), INSIDE)
def test_values_inside_have_no_fault(domain: Domain, values: list[Any]) -> None:
    assert [domain.fault(value) for value in values] == [""] * len(values)


@pytest.mark.parametrize(("domain", "value", "message"), OUTSIDE)
def test_values_outside_are_told(domain: Domain, value: Any, message: str) -> None:
    assert domain.fault(value).startswith(message)


def test_a_number_too_large_for_a_float_is_a_fault_and_no_crash() -> None:
    assert "is not a number" in Number(0, 1).fault(10**400)
    assert "is not a whole number" in Number(0, 1, whole=True).fault(10**400)
