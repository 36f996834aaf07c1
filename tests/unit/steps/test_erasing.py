"""What an erasure's plan and certificate say: whatever they count and name is so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.persons.holds import Holds, hold_on
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.certificate import certificate, page
from pcc_pipeline.steps.erasing.held import HeldError, demand_not_held
from pcc_pipeline.steps.erasing.holdings import Holdings
from pcc_pipeline.steps.erasing.outcomes import PlannedOutcome
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan, RunPart
from pcc_pipeline.steps.erasing.state import State, new_state, read_state

KEYS = Keys((Key(b"k" * 32),))
RUNS = (
    RunPart("aaaaaaaa11", "train", "v1", {"train": 4}, split=True),
    RunPart("bbbbbbbb22", "evaluate", "v1", {"test": 2}, tables={"predictions.parquet": 2}),
    RunPart("cccccccc33", "train", "v2", {"train": 4}, documents={"report.html": 1}, split=True),
)
OLD = LearnedVersion("aaaaaaaa11", "pcc", "1", "v1", ("champion",), ("published/v1",), 4, "replace")
KEPT = replace(OLD, number="2", aliases=(), published=("published/v2",), action="note", held="a lawsuit")
PLAN = Plan("retrain", 1, 0, RUNS, (OLD, KEPT), {"outputs/scores.parquet": 3}, 0, {}, (), ())


def certified(plan: Plan = PLAN, **facts: object) -> str:
    """The page of an erasure that was carried out."""
    state = State("0123456789ab", plan, Sought(), "2026-11-27T10:00:00+00:00", "officer")
    for name, value in facts.items():
        setattr(state, name, value)
    return page(certificate(state, {}, Key(b"k" * 32), "outputs/erasures"))


def test_a_plan_counts_rows_of_the_runs_that_they_are_taken_from() -> None:
    lines = PlannedOutcome("run", "id", PLAN, "--subjects persons.txt").summary
    assert "remove     3 rows from the files of 2 runs in MLflow" in lines
    assert "remove     their lines from the records of 2 trainings, which say what each row was for" in lines
    alone = PlannedOutcome("run", "id", replace(PLAN, runs=RUNS[:1]), "").summary
    assert not [line for line in alone if "files of" in line]
    assert [line for line in alone if "records of 1 training," in line]


def test_a_plan_that_an_earlier_version_wrote_is_read() -> None:
    document = PLAN.document()
    assert Plan.of(document).document() == document
    older = {**document, "runs": [{**part, "lines": [3, 5]} for part in document["runs"]]}
    assert Plan.of(older) == Plan.of(document)


def test_a_certificate_names_files_of_runs_and_folders_that_were_removed() -> None:
    shown = certified(folders=["published/late"])
    for part in (
        "predictions.parquet of the evaluate run bbbbbbbb",
        "report.html of the train run cccccccc",
        "split.parquet of the train run aaaaaaaa",
        "outputs/scores.parquet",
        "published/v1",
        "published/late",
    ):
        assert part in shown, part
    # It is held, and stays published.
    assert "published/v2" not in shown
    many = replace(PLAN, copies={f"outputs/{place}.parquet": 1 for place in range(30)})
    state = State("0123456789ab", many, Sought(), "2026-11-27T10:00:00+00:00", "officer")
    document = certificate(state, {}, Key(b"k" * 32), "outputs/erasures")
    assert "and 22 more files; the .json" in page(document)
    assert "outputs/29.parquet" not in page(document)
    assert "outputs/29.parquet" in json.dumps(document)
    assert document["unpublished"] == ["published/v1"]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((2, 2), "The new pcc passed 2 of 2 checks, as set for a model before it may answer."),
        ((1, 2), "passed 1 of 2 checks, as set for a model before it may answer; it answers all the same"),
        ((0, 0), "For a new pcc no checks are set here"),
    ],
)
def test_a_certificate_says_in_a_sentence_what_the_gates_came_to(counts: tuple[int, int], said: str) -> None:
    shown = certified(checks={"pcc": counts}, successors={"pcc": "3"})
    assert shown.index(said) < shown.index("what became of it")
    assert "checks" not in certified()


def test_an_erasure_that_goes_on_asks_for_holds_on_those_whose_cases_it_takes_as_well(tmp_path: Path) -> None:
    others, names = Sought.of(KEYS, ["anna", "bea"]), {"subjects": ["anna"], "case_ids": []}
    state = new_state("0123456789ab", PLAN, Sought.of(KEYS, ["anna"]), others, "officer")
    state.write(tmp_path)
    read = read_state(tmp_path, state.id, KEYS)
    assert read is not None
    assert (read.persons, read.others) == (state.persons, others)
    known = Holdings(read.persons, by_subject=True)
    facts = {"reason": "case 12", "since": "2026-11-01", "by": "officer"}
    held = Holds(persons=[hold_on("subject", "bea", KEYS, **facts)])
    demand_not_held(Params(), known, names, KEYS, held)
    with pytest.raises(HeldError, match="somebody who was erased together with one of the list, so it stops"):
        demand_not_held(Params(), known, names, KEYS, held, others=read.others, so="so it stops")
    # An erasure that an earlier version began has none.
    file = tmp_path / f"{state.id}.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({name: document[name] for name in document if name not in ("others", "folders")}))
    older = read_state(tmp_path, state.id, KEYS)
    assert older is not None
    assert older.others == Sought()


def test_who_is_held_is_told_of_by_all_their_places_and_by_no_name() -> None:
    names = {"subjects": ["bea", "carl", "anna"], "case_ids": ["c1"]}
    known = Holdings(Sought.of(KEYS, names["subjects"], names["case_ids"]), by_subject=True)
    facts = {"since": "2026-11-01", "by": "officer"}
    whom = (("subject", "anna"), ("subject", "bea"), ("case", "c1"), ("case", "anna"))
    held = Holds(
        persons=[hold_on(kind, name, KEYS, reason=f"no. {place}", **facts) for place, (kind, name) in enumerate(whom)]
    )
    with pytest.raises(HeldError) as refused:
        demand_not_held(Params(), known, names, KEYS, held)
    said = refused.value.what
    for part in (
        "no. 0; that is name 3 of the list of persons",
        "no. 1; that is name 1 of the list of persons",
        "no. 2; that is name 1 of the list of cases",
    ):
        assert part in said
    assert "no. 3" not in said
    assert not any(name in said for name in ("anna", "bea", "c1"))
