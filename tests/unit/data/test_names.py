"""Labels, ids and addresses, whatever characters they hold: what was two stays two, and what is one stays one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pcc_pipeline.config.paths import DataAddress, addresses_in
from pcc_pipeline.data.case_ids import CaseIds
from pcc_pipeline.data.columns import label_rule, label_text
from pcc_pipeline.data.labels import label_key, near_equal, spellings
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.steps.embedding.embedded_file import embedded_path

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
UNICODE = st.characters(codec="utf-8")
# Blanks, what shows nothing, what is folded, and what formats write in more than one way.
ODD = st.sampled_from(
    [
        "nan",
        "NaN",
        "None",
        "null",
        "NA",
        "N/A",
        "",
        " ",
        "\t",
        "\u200b",
        "True",
        "false",
        "1",
        "1.0",
        "-0.0",
        "007",
        "1e3",
    ]
)
LABELS = st.one_of(ODD, st.text(UNICODE, max_size=12))
FEW_LETTERS = st.text(st.sampled_from("aAbﬀß ı\u00ad\u200bé"), min_size=1, max_size=4)


def ruled(cells: list[Any]) -> tuple[list[Any], list[str]]:
    values, reasons = label_rule(pd.Series(cells, dtype=object))
    return values.astype(object).where(values.notna(), None).tolist(), list(reasons)


@QUICK
@given(st.lists(LABELS, min_size=1, max_size=8))
@example(["nan", "None", "NA", "null"])
def test_no_label_is_taken_for_a_missing_one_and_a_ruled_label_stays_as_it_is(labels: list[str]) -> None:
    values, reasons = ruled(labels)
    assert None not in values
    assert {reason for reason in reasons if reason} <= {"blank"}
    assert ruled(values) == (values, reasons)
    # Row by row as all together: a label does not depend on its neighbours.
    assert [label_text(label) for label in labels] == values


@QUICK
@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_one_label_from_every_format(number: int) -> None:
    forms = [number, str(number), f"{number}.0", f"{number}.00", float(number)]
    assert ruled(forms) == ([str(number)] * len(forms), [""] * len(forms))


@QUICK
@given(st.lists(st.tuples(FEW_LETTERS, FEW_LETTERS), max_size=12), st.integers(0, 12))
@example([("ab", "c"), ("a", "bc"), ("ab", "c")], 1)
def test_case_ids_are_unique_and_the_same_however_the_file_is_cut(rows: list[tuple[str, str]], cut: int) -> None:
    ids = CaseIds().make(*zip(*rows, strict=True)) if rows else []
    assert len(set(ids)) == len(rows)
    in_two, made = CaseIds(), []
    for part in (rows[:cut], rows[cut:]):
        made += in_two.make([text for text, _ in part], [label for _, label in part])
    assert made == ids
    # A row alone has the id that its first copy has in a file.
    firsts = dict(reversed(list(zip(rows, ids, strict=True))))
    assert {row: CaseIds().make([row[0]], [row[1]])[0] for row in firsts} == firsts


@QUICK
@given(st.lists(FEW_LETTERS, max_size=10))
def test_labels_that_read_alike_become_one_and_no_others_do(labels: list[str]) -> None:
    merged = spellings(labels)
    after = [merged.get(label, label) for label in labels]
    assert [label_key(label) for label in after] == [label_key(label) for label in labels]
    assert len(set(after)) == len({label_key(label) for label in labels})
    assert near_equal({label: after.count(label) for label in after}) == []
    assert spellings(after) == {}


@QUICK
@given(st.lists(st.one_of(LABELS, FEW_LETTERS), max_size=10, unique=True), st.randoms(use_true_random=False))
def test_metric_names_are_apart_whatever_the_order_of_the_labels(labels: list[str], chance: Any) -> None:
    names = metric_names(labels)
    assert len({name.casefold() for name in names.values()}) == len(labels)
    shuffled = list(labels)
    chance.shuffle(shuffled)
    assert metric_names(shuffled) == names
    assert not [name for name in names.values() if "/" in name or name in ("", ".", "..")]


ADDRESSES = st.one_of(
    st.sampled_from(["sample", "gs://b/a.csv", "[a].csv", "a, b.csv", "a: b.csv", "# a.csv", "'a'.csv", "é.csv"]),
    st.text(UNICODE, min_size=1, max_size=12),
).filter(lambda address: not address.startswith("~"))


def is_bucket(address: str) -> bool:
    return address.startswith("gs://")


@QUICK
@given(st.lists(ADDRESSES, min_size=1, max_size=4))
@example(["[a].csv"])
@example(["a\x7f.csv", "b\x85.csv"])
def test_several_addresses_are_the_same_after_a_run_has_recorded_them(addresses: list[str]) -> None:
    recorded = TypeAdapter(DataAddress).validate_python(addresses)
    assert addresses_in(recorded) == addresses
    assert TypeAdapter(DataAddress).validate_python(recorded) == recorded


@QUICK
@given(st.lists(ADDRESSES.filter(lambda address: "\0" not in address), min_size=2, max_size=2, unique=True))
@example(["jan/cases.csv", "feb/cases.csv"])
@example(["gs://b/x*.csv", "gs://b/x?.csv"])
def test_two_addresses_are_never_embedded_into_one_file(
    tmp_path_factory: pytest.TempPathFactory, addresses: list[str]
) -> None:
    tmp_path = tmp_path_factory.getbasetemp()
    first, second = (embedded_path(json.dumps([address]), str(tmp_path)) for address in addresses)
    # Two ways to write one place are one file, as ./a.csv and a.csv.
    same = not any(map(is_bucket, addresses)) and len({Path(address).resolve() for address in addresses}) == 1
    assert (first == second) == same
    assert embedded_path(json.dumps(addresses), str(tmp_path)) not in (first, second)
    assert {path.parent for path in (first, second)} == {tmp_path}
    assert max(len(path.name.encode()) for path in (first, second)) <= 255
