"""A version's number says what it changed to the one that it follows, and no two that follow it have one number."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from pcc_pipeline.model.lineage import Basis, Numbered, lineage
from pcc_pipeline.steps.parameters import from_names

PLAIN = {"data": "gs://b/cases_20260101.csv"}
ANSWERS, ENCODER, WIDTH, ROWS = ("a", "b"), "ee", 384, "d1"


def basis(*, answers=ANSWERS, encoder=ENCODER, width=WIDTH, rows=ROWS, **names) -> Basis:
    return Basis.of(from_names(None, {**PLAIN, **names}), answers, encoder, width, rows)


def version(number, name="v1", *, champion=False, of=None) -> Numbered:
    return Numbered(name, number, of or basis(), champion)


@pytest.mark.parametrize(
    ("changed", "semver", "what"),
    [
        ({}, "1.2.4", "patch, since 1.2.3 (v1): settings at most"),
        ({"model__type": "LinearSVC", "data__random_state": 7}, "1.2.4", "patch, since 1.2.3 (v1): settings at most"),
        ({"rows": "d2"}, "1.2.4", "patch, since 1.2.3 (v1): rows"),
        ({"rows": "d2", "data": "gs://b/cases_20260202.csv"}, "1.2.4", "patch, since 1.2.3 (v1): rows"),
        ({"data": ["gs://b/cases_20260101.csv", "gs://b/cases_20260202.csv"]}, "1.2.4", None),
        ({"rows": "d2", "data": "gs://b/other.csv"}, "1.3.0", "minor, since 1.2.3 (v1): data, rows"),
        ({"data__label_column": "topic"}, "1.3.0", "minor, since 1.2.3 (v1): data"),
        ({"preprocessing__svd_components": 100}, "1.3.0", "minor, since 1.2.3 (v1): features"),
        ({"model__feature_selection": "l1"}, "1.3.0", "minor, since 1.2.3 (v1): features"),
        ({"answers": ("b", "a")}, "1.2.4", None),
        ({"answers": ("a", "b", "c"), "rows": "d2"}, "2.0.0", "major, since 1.2.3 (v1): labels, rows"),
        ({"answers": ("a", "b", None)}, "2.0.0", "major, since 1.2.3 (v1): labels"),
        ({"encoder": "ff"}, "2.0.0", "major, since 1.2.3 (v1): contract"),
        ({"width": 584}, "2.0.0", "major, since 1.2.3 (v1): contract"),
    ],
)
def test_what_changed_decides_which_place_is_raised(changed, semver, what) -> None:
    made = lineage(basis(**changed), [version((1, 2, 3))])
    assert made.semver == semver
    assert what is None or made.change == what
    assert made.follows == ("v1", "1.2.3")


@pytest.mark.parametrize(
    ("before", "changed", "semver", "follows"),
    [
        ([], {}, "1.0.0", None),
        # Newest first: without a champion the newest is followed.
        ([version((1, 0, 1), "v2"), version((1, 0, 0))], {"rows": "d2"}, "1.0.2", "v2"),
        # Two challengers of one champion have two numbers.
        ([version((1, 0, 1), "v2"), version((1, 0, 0), champion=True)], {"rows": "d2"}, "1.0.2", "v1"),
        ([version((1, 1, 4), "v2"), version((1, 0, 0), champion=True)], {"rows": "d2"}, "1.0.1", "v1"),
        ([version((1, 1, 4), "v2"), version((1, 0, 0), champion=True)], {"data": "x"}, "1.2.0", "v1"),
        ([version((3, 0, 0), "v2"), version((1, 9, 9), champion=True)], {"encoder": "ff"}, "4.0.0", "v1"),
    ],
)
def test_the_champion_of_the_time_is_followed_and_no_number_is_given_twice(before, changed, semver, follows) -> None:
    made = lineage(basis(**changed), before)
    assert made.semver == semver
    assert (made.follows[0] if made.follows else None) == follows


def test_a_number_is_read_back_from_the_tags_and_what_is_none_is_passed_over() -> None:
    made = lineage(basis(), [version((1, 2, 3))])
    tags = made.tags()
    assert Numbered.of_tags("v2", tags, is_champion=True) == version((1, 2, 4), "v2", champion=True)
    assert tags["pcc.follows"] == "v1"
    assert made.document() == {"semver": "1.2.4", "follows": "v1", "change": made.change}
    assert set(asdict(basis())) == {"labels", "contract", "data", "features", "rows"}
    for wrong in ({}, {**tags, "pcc.semver": "new"}, {**tags, "pcc.basis": "{}"}, {**tags, "pcc.basis": "no"}):
        assert Numbered.of_tags("v2", wrong, is_champion=True) is None
