"""What an erasure's plan and certificate say: whatever they count and name is so."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.persons.holds import Holds, hold_on
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.certificate import certificate
from pcc_pipeline.steps.erasing.held import HeldError, demand_not_held
from pcc_pipeline.steps.erasing.holdings import Holdings
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan, RunPart, with_champions
from pcc_pipeline.steps.erasing.state import State, new_state, read_state
from pcc_pipeline.steps.erasing.telling.certificate_page import page
from pcc_pipeline.steps.erasing.telling.outcomes import PlannedOutcome
from pcc_pipeline.steps.erasing.telling.sentences import checks_set, kept_in
from pcc_pipeline.tracking.store.places import Places

KEYS = Keys((Key(b"k" * 32),))
RUNS = (
    RunPart("aaaaaaaa11", "train", "v1", {"train": 4, "rejected": 1}, split=True, split_lines=4),
    RunPart("bbbbbbbb22", "evaluate", "v1", {"test": 2}, tables={"predictions.parquet": 2}),
    RunPart("cccccccc33", "train", "v2", {"train": 4}, documents={"report.html": 1}, split=True, split_lines=4),
)
PLACES = {"record": "the server at https://mlflow.example", "files": "the cloud storage folder gs://kept/mlflow"}
OLD = LearnedVersion("aaaaaaaa11", "pcc", "1", "v1", ("champion",), ("published/v1",), 4, "replace")
KEPT = replace(OLD, number="2", aliases=(), published=("published/v2",), action="note", held="a lawsuit")
PLAN = Plan(
    "retrain",
    1,
    0,
    RUNS,
    (OLD, KEPT),
    {"outputs/scores.parquet": 3},
    0,
    {"cases.csv": 5},
    (),
    (),
    kinds={"outputs/scores.parquet": "scores"},
    pages={"outputs/report.html": 2},
)
REMOVED = {"tables": 2, "documents": 1, "splits": 8, "copies": 3, "pages": 2, "cache": 5, "manifests": 11}


def certified(plan: Plan = PLAN, **facts: object) -> str:
    """The page of an erasure that was carried out."""
    state = State("0123456789ab", plan, Sought(), "2026-11-27T10:00:00+00:00", "officer", removed=dict(REMOVED))
    for name, value in facts.items():
        setattr(state, name, value)
    return page(certificate(state, {}, Key(b"k" * 32), "outputs/erasures"))


def planned(plan: Plan = PLAN, params: Params | None = None) -> list[str]:
    """The lines of a plan."""
    shown = PlannedOutcome("run", "id", plan, "--subjects persons.txt", (), checks_set(params or Params()), PLACES)
    return shown.summary


def test_a_version_that_was_promoted_after_the_plan_is_replaced_and_not_only_removed() -> None:
    """Else the erasure would leave the project without a champion."""
    other = replace(OLD, number="3", aliases=("challenger",), action="remove")
    plan = replace(PLAN, learned=(OLD, KEPT, other))
    now = with_champions(plan, {"pcc": "3"})
    assert [(each.number, [*each.aliases], each.action) for each in now.learned] == [
        ("1", [], "remove"),
        ("2", [], "note"),
        ("3", ["champion", "challenger"], "replace"),
    ]
    held = with_champions(plan, {"pcc": "2"}).learned[1]
    assert (held.action, held.held) == ("note", "a lawsuit")
    for champions in ({}, {"pcc": "1"}, {"pcc": "4"}, {"other": "3"}):
        assert with_champions(plan, champions) is plan


def test_a_plan_counts_rows_of_the_jobs_that_they_are_taken_from() -> None:
    lines = planned()
    assert (
        "remove     3 rows from files that 2 jobs left in MLflow, the record of all trainings that this project keeps:"
        in lines
    )
    assert "           - 2 from answers of a model that was tried out (predictions.parquet)" in lines
    (split,) = [line for line in lines if "split.parquet" in line]
    assert split.startswith(
        "remove     8 lines of theirs from the records of 2 trainings, which say what each row was for"
    )
    assert "remove     3 rows from answers to messages (outputs/scores.parquet)" in lines
    assert "remove     2 rows from the page on how good a model is (outputs/report.html)" in lines
    alone = planned(replace(PLAN, runs=RUNS[:1]))
    assert not [line for line in alone if "files that" in line]
    assert [line for line in alone if "records of 1 training," in line]


def test_a_plan_says_what_is_in_use_and_which_checks_a_new_model_must_pass() -> None:
    lines = planned(replace(PLAN, learned=(OLD, replace(OLD, name="other"))))
    text = "\n".join(lines)
    assert text.count("(champion)") == 1
    assert text.count(", in use") == 2
    both = replace(OLD, aliases=("challenger", "champion"))
    assert "not in use" not in "\n".join(planned(replace(PLAN, learned=(both,))))
    candidate = "\n".join(planned(replace(PLAN, learned=(replace(OLD, aliases=("challenger",)),))))
    assert "candidate, not in use (challenger)" in candidate
    assert "must pass" not in candidate
    assert "           first it must pass the 5 checks that are set for this project (registry.gates):" in lines
    assert "           - its score test/f1_macro is 0.8 or more" in lines
    none = Params().registry.model_copy(update={"gates": (), "approvals": 1})
    text = "\n".join(planned(params=Params().model_copy(update={"registry": none})))
    assert "no checks of new models are set for this project (registry.gates is empty); somebody who did not" in text


def test_where_things_are_kept_is_said_in_words() -> None:
    text = "\n".join(planned())
    assert "backups of MLflow, the record of all trainings that this project keeps (it is the server at https" in text
    assert "the cloud storage folder gs://kept/mlflow, which holds the files of MLflow's jobs, may keep earlier" in text
    assert "bucket" not in text
    assert kept_in(Places("sqlite:////srv/mlflow.db", "file:///srv/a%20b")) == {
        "record": "the file /srv/mlflow.db",
        "files": "the folder /srv/a b",
    }
    of_server = kept_in(Places("https://mlflow.example", "mlflow-artifacts:"))
    assert of_server["files"] == "a place that whoever runs its server knows"


@pytest.mark.parametrize("shown", [certified(), "\n".join(planned())], ids=["certificate", "plan"])
def test_how_to_clear_lines_that_were_typed_is_said(shown: str) -> None:
    assert "type history, which shows each line with its number; then history -d NUMBER" in shown
    assert "shell" in shown


def test_the_numbers_at_the_top_of_a_certificate_add_up_to_the_files_below() -> None:
    shown = certified()
    top = [int(number) for number in re.findall(r"<b>(\d+)</b>", shown)][:3]
    assert top == [3, 8, 5]
    table = shown[shown.index("what the file holds") :]
    rows = [int(number) for number in re.findall(r'class="number">(\d+)<', table[: table.index("</table>")])]
    assert rows[-1] == sum(rows[:-1]) == sum(top)


def test_beside_what_was_looked_through_stands_what_holds_the_rows_yet() -> None:
    shown = certified(replace(PLAN, learned=(OLD,)))
    good = shown.index('<p class="tone good">Looked through again after it was done: the jobs on record')
    rest = shown.index(
        '<p class="tone open">But your own files, which are never changed, still hold rows of theirs: cases.csv (5'
    )
    assert good < rest < shown.index('class="tiles"')
    nowhere = certified(replace(PLAN, learned=(OLD,), inputs={}))
    assert '<p class="tone open">Nothing else was looked through.' in nowhere


def test_a_certificate_says_how_it_is_checked_and_who_began() -> None:
    shown = certified(login="root@vault")
    signature = shown[shown.index('<section id="signature">') :]
    assert "<code>pcc erase --verify outputs/erasures/0123456789ab.certificate.html</code>" in signature
    for part in (
        "lineage.key_file",
        "a good answer",
        "is as it was signed",
        "a bad answer",
        "was changed after it was",
    ):
        assert part in signature, part
    assert "started by the account officer of MLflow&#x27;s server, from the login root on the machine vault" in shown
    assert "started by the login officer on the machine vault" in certified(login="officer@vault")
    assert "started by the login or account officer" in certified()


def test_a_plan_that_an_earlier_version_wrote_is_read() -> None:
    document = PLAN.document()
    assert Plan.of(document).document() == document
    older = {**document, "runs": [{**part, "lines": [3, 5]} for part in document["runs"]]}
    assert Plan.of(older) == Plan.of(document)


def test_a_certificate_names_files_of_runs_and_folders_that_were_removed() -> None:
    shown = certified(folders=["published/late"])
    for part in (
        "answers of a model that was tried out (predictions.parquet), of the evaluation bbbbbbbb",
        "(report.html), of the training cccccccc",
        "(split.parquet), of the training aaaaaaaa",
        "answers to messages (outputs/scores.parquet)",
        "published/v1",
        "published/late",
    ):
        assert part in shown, part
    # It is held, and stays published.
    assert "published/v2" not in shown
    many = replace(PLAN, copies={f"outputs/{place}.parquet": 1 for place in range(30)})
    state = State("0123456789ab", many, Sought(), "2026-11-27T10:00:00+00:00", "officer")
    document = certificate(state, {}, Key(b"k" * 32), "outputs/erasures")
    assert "23 more files, which the .json beside this page names" in page(document)
    assert "outputs/29.parquet" not in page(document)
    assert "outputs/29.parquet" in json.dumps(document)
    assert document["unpublished"] == ["published/v1"]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((2, 2), "The new model, pcc version 3, passed all 2 checks that this project sets for a model before it may"),
        ((1, 1), "The new model, pcc version 3, passed the one check that this project sets"),
        (
            (1, 2),
            "passed 1 of the 2 checks that this project sets for a model before it may answer; it answers all the",
        ),
        ((0, 0), "took the old one&#x27;s place without a check: none is set for this project."),
    ],
)
def test_a_certificate_says_in_a_sentence_what_the_gates_came_to(counts: tuple[int, int], said: str) -> None:
    facts = {
        "judged": {"pcc": "2 gates passed; promoted by root: why"},
        "promoted": {"pcc": {"by": "root", "reason": "why"}},
    }
    shown = certified(checks={"pcc": counts}, successors={"pcc": "3"}, **facts)
    assert shown.index(said) < shown.index("what became of it")
    assert shown.count("pcc version 3") == 1
    assert "promoted by" not in shown
    assert ("because the login or account root let it: why" in shown) == (counts == (1, 2))
    assert "checks" not in certified()
    assert "is a candidate and not in use, as the old one" in certified(successors={"pcc": "3"})


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
