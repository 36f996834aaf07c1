"""`erase`: two customers of forty leave runs, files, cache and models; the others stay; killed anywhere it goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.persons.holds import VersionHold, hold_on
from pcc_pipeline.persons.keys import read_keys
from pcc_pipeline.steps import train
from pcc_pipeline.storage.objects import open_store
from pcc_pipeline.tracking.registry import locks
from pcc_pipeline.tracking.registry.holds import hold_person, hold_version
from tests.pipeline.conftest import Store, moved, said
from tests.pipeline.erase_killed import PLACES

pytestmark = pytest.mark.pipeline

MODEL = "pcc-intent-classifier"
ROWS, CUSTOMERS = 240, 40
ERASED = ("customer-03@", "customer-17@")
ALL_CLEAR = "that jobs wrote on this machine, once more: nothing of theirs was found there"
PROGRAM = Path(__file__).with_name("erase_killed.py")
SETTINGS = """\
data: {subject_column: customer}
lineage: {key_file: lineage.key, suppression_file: suppressed.json}
registry: {gates: [], publish: {target: published}}
preprocessing: {cache_dir: null}
"""


def rows_of_customers(with_vectors: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Rows whose case ids and texts bear the customer's number, which nothing else does."""
    rows = with_vectors(sample(ROWS)).reset_index(drop=True)
    number = np.arange(ROWS) % CUSTOMERS
    rows["customer"] = [f"customer-{one:02d}@" for one in number]
    rows["case_id"] = [f"case-of-customer-{one:02d}@-{place}" for place, one in enumerate(number)]
    rows["text"] = [f"{text} customer-{one:02d}@" for text, one in zip(rows["text"], number, strict=True)]
    return rows


@pytest.fixture(scope="module")
def used_store(new_store: Callable[[str], Store], with_vectors: Callable[..., pd.DataFrame]) -> Store:
    """Two versions of a model, of which the first is champion, and scores of ten customers' rows."""
    store = new_store("erase")
    rows = rows_of_customers(with_vectors)
    rows.to_parquet(store.folder / "cases.parquet", index=False)
    kept = ~rows["customer"].isin(ERASED)
    rows[kept].reset_index(drop=True).to_parquet(store.folder / "without.parquet", index=False)
    rows[:CUSTOMERS].drop(columns="intent").to_parquet(store.folder / "today.parquet", index=False)
    (store.folder / "params.yaml").write_text(SETTINGS)
    (store.folder / "persons.txt").write_text("".join(f"{name}\n" for name in ERASED))
    trained = ("--data", "cases.parquet", "--search-method", "none")
    for words in (
        ("lineage", "key"),
        ("run", *trained, "--promote", "auto"),
        ("train", *trained, "--model-type", "SGD"),
        ("score", "--data", "today.parquet"),
        ("monitor", "--data", "today.parquet"),
    ):
        done = said(store.folder, *words)
        assert done.code == 0, done.err
    return store


def copied(before: Path, folder: Path) -> Path:
    shutil.copytree(before, folder)
    moved(folder / "mlflow.db", str(before), str(folder))
    return folder


@pytest.fixture
def store(used_store: Store, tmp_path: Path) -> Path:
    """A copy of it."""
    return copied(used_store.folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def erased_store(used_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy from which two customers were erased."""
    folder = copied(used_store.folder, tmp_path_factory.mktemp("erased") / "copy")
    done = said(folder, "erase", "--subjects", "persons.txt", "--confirm", plan_of(folder))
    assert done.code == 0, done.err
    assert ALL_CLEAR in done.out
    return folder


def plan_of(folder: Path, *words: str) -> str:
    done = said(folder, "erase", "--subjects", "persons.txt", *words)
    assert done.code == 0, done.err
    match = re.search(r"--confirm ([0-9a-f]{12})", done.out)
    assert match is not None, done.out
    return match[1]


def holders(folder: Path, word: str) -> set[str]:
    """The files below a folder that hold a word, also in what Parquet packs; the user's own files are left out."""
    own = {"cases.parquet", "without.parquet", "today.parquet", "persons.txt"}
    found = set()
    for path in folder.rglob("*"):
        if not path.is_file() or path.name in own:
            continue
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            content += pd.read_parquet(path).to_csv().encode()
        if word.encode() in content:
            found.add(str(path.relative_to(folder)))
    return found


def demand_erased(folder: Path) -> None:
    """The end that every erasure of this store comes to."""
    for name in ERASED:
        assert holders(folder, name) == set(), name
    assert holders(folder, "customer-04@")
    with sqlite3.connect(folder / "mlflow.db") as database:
        versions = [
            row[0]
            for row in database.execute("SELECT version FROM model_versions WHERE current_stage != 'Deleted_Internal'")
        ]
        aliases = dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
    assert versions == [3]
    assert aliases == {"champion": 3, "challenger": 3}
    for target in ("published", "outputs/models"):
        (published,) = (folder / target).glob("v*")
        assert json.loads((published / "metadata.json").read_text())["registered_version"] == "3"
    (certificate,) = (folder / "outputs" / "erasures").glob("*.certificate.html")
    assert said(folder, "erase", "--verify", str(certificate)).code == 0
    assert not [path for path in (folder / "outputs" / "erasures").iterdir() if ".certificate." not in path.name]


def predictions(folder: Path) -> pd.DataFrame:
    """The champion's answers for rows of persons who were not erased."""
    where = ("--data", "without.parquet", "--output", "answers.parquet")
    done = said(folder, "score", *where, "--set", "output.extra_columns=[probabilities]")
    assert done.code == 0, done.err
    table = pd.read_parquet(folder / "answers.parquet")
    return table[["case_id", *[name for name in table if name.startswith("probability/")]]]


def test_a_plan_changes_nothing_and_says_all(store: Path) -> None:
    before = {path: path.read_bytes() for path in (store / "outputs").rglob("*") if path.is_file()}
    done = said(store, "erase", "--subjects", "persons.txt")
    assert done.code == 0, done.err
    for part in (
        "plan       for 2 persons: ",
        f"remove     the model {MODEL} version 2 (",
        f"replace    the model {MODEL} version 1 (",
        "the folder published/v",
        "/cases.parquet holds 12 rows of theirs",
        "/today.parquet holds 2 rows of theirs",
        "nothing was changed yet",
    ):
        assert part in done.out
    assert all(name not in done.out + done.err for name in ERASED)
    assert {path: path.read_bytes() for path in before} == before
    assert not (store / "suppressed.json").exists()
    assert plan_of(store) == plan_of(store, "--dry-run", "true")


def test_two_persons_leave_everything_and_the_others_stay(used_store: Store, erased_store: Path) -> None:
    demand_erased(erased_store)
    for name in ("customer-04@", "customer-39@"):
        places = {place for place in holders(used_store.folder, name) if (erased_store / place).exists()}
        assert places
        assert places <= holders(erased_store, name)
    # Whoever reads the file again does not read them.
    again = said(erased_store, "score", "--data", "today.parquet")
    assert "2 rows of erased persons kept out" in again.out
    # And the log says who did it, and to nobody whom.
    audit = said(erased_store, "audit", "--what", "erase")
    assert audit.code == 0, audit.err
    assert "erase" in audit.out
    assert all(name not in audit.out for name in ERASED)


@pytest.mark.long
def test_the_new_champion_is_that_of_a_file_without_them_to_the_last_digit(erased_store: Path, tmp_path: Path) -> None:
    mine = predictions(erased_store)
    other = copied(erased_store, tmp_path / "other")
    trained = said(other, "train", "--data", "without.parquet", "--search-method", "none")
    assert trained.code == 0, trained.err
    assert said(other, "promote", "--force", "true", "--reason", "to compare").code == 0
    pd.testing.assert_frame_equal(predictions(other), mine, check_exact=True)


def test_what_comes_later_is_found_the_certificate_changed_and_rows_that_are_back(
    used_store: Store, erased_store: Path, tmp_path: Path
) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    (certificate,) = (folder / "outputs" / "erasures").glob("*.certificate.json")
    content = certificate.read_text()
    changes = (
        ('"who": "', '"who": "x'),
        ('"policy": "retrain"', '"policy": "note"'),
        ('"still": {}', '"still": {"a": 1}'),
    )
    for before, now in changes:
        assert before in content
        certificate.write_text(content.replace(before, now, 1))
        done = said(folder, "erase", "--verify", str(certificate))
        assert (done.code, "was changed after it was signed" in done.err) == (1, True)
    # What was published is named; which rows of the owner's files they were is nobody's business.
    document = json.loads(content)
    assert len(document["unpublished"]) == 2
    assert all(Path(place).name.startswith("v") for place in document["unpublished"])
    assert document.pop("checks") == {MODEL: [0, 0]}
    assert not re.search(r"\[\d", json.dumps(document))
    certificate.write_text(content)
    page = certificate.with_suffix(".html").read_text()
    assert "Nothing of theirs was found there." in page
    assert "still hold rows of theirs: cases.parquet (12 rows), today.parquet (2 rows)" in page
    assert "customer-" not in page
    # The line that was confirmed says that it was done.
    ident = certificate.name.partition(".")[0]
    repeated = said(folder, "erase", "--subjects", "persons.txt", "--confirm", ident)
    assert (repeated.code, "as it was signed" in repeated.out) == (0, True)
    # The owner's files are looked into, too: what stands there is not gone, and theirs to remove.
    assert "/cases.parquet still holds 12 rows of theirs" in repeated.out
    shutil.copyfile(folder / "without.parquet", folder / "cases.parquet")
    (folder / "today.parquet").unlink()
    looked = said(folder, "erase", "--verify", str(certificate)).out
    assert "/cases.parquet: no row of theirs is in it any more" in looked
    assert "/today.parquet had rows of theirs, and cannot be looked into" in looked
    shutil.copyfile(used_store.folder / "outputs" / "scores.parquet", folder / "outputs" / "scores.parquet")
    done = said(folder, "erase", "--verify", str(certificate))
    assert (done.code, "2 rows of theirs stand in outputs/scores.parquet" in done.out) == (1, True)


def test_a_name_that_is_not_known_is_told_of_by_its_place(store: Path) -> None:
    (store / "some.txt").write_bytes("\ufeffcustomer-03@\r\n\r\nCUSTOMER-17@\r\n".encode())
    told = said(store, "erase", "--subjects", "some.txt")
    assert "name 2 of the list of persons is not known here as it is written; in small letters" in told.out
    assert "CUSTOMER" not in told.out + told.err


def test_of_a_name_that_nobody_has_it_is_put_on_record_that_nothing_is_held(store: Path) -> None:
    (store / "new.txt").write_text("nobody@example.org\n")
    planned = said(store, "erase", "--subjects", "new.txt")
    assert planned.code == 0, planned.err
    assert "plan       for 1 person: nothing is held of them" in planned.out
    assert "look at the spelling; if it is right, nothing is held of it" in planned.out
    (ident,) = re.findall(r"--confirm ([0-9a-f]{12})", planned.out)
    done = said(store, "erase", "--subjects", "new.txt", "--confirm", ident)
    assert done.code == 0, done.err
    assert "erased     nothing was held of them; from now on they are kept out of what is read" in done.out
    assert "look at the runs" not in done.out
    page = store / "outputs" / "erasures" / f"{ident}.certificate.html"
    assert "Nothing is held of those who were asked for" in page.read_text()
    assert "1 of 1, as they are written in the list" in page.read_text()
    assert said(store, "erase", "--verify", str(page)).code == 0
    assert "nothing of theirs was found now" in said(store, "erase", "--subjects", "new.txt").out
    # From now on: a row of theirs is not read.
    rows = pd.read_parquet(store / "today.parquet")
    rows.loc[0, "customer"] = "nobody@example.org"
    rows.to_parquet(store / "tomorrow.parquet", index=False)
    scored = said(store, "score", "--data", "tomorrow.parquet", "--output", "tomorrow.csv")
    assert scored.code == 0, scored.err
    assert len(pd.read_csv(store / "tomorrow.csv")) == len(rows) - 1


def test_a_training_whose_model_is_gone_is_in_no_later_plan(erased_store: Path, tmp_path: Path) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    (folder / "other.txt").write_text("customer-05@\n")
    planned = said(folder, "erase", "--subjects", "other.txt")
    assert planned.code == 0, planned.err
    assert "without a name" not in planned.out
    assert f"replace    the model {MODEL} version 3 (" in planned.out
    assert "in use (champion)" in planned.out


def test_a_plan_is_carried_out_for_whom_it_was_made_and_one_that_is_half_done_is_told_of(
    erased_store: Path, tmp_path: Path
) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    (certificate,) = (folder / "outputs" / "erasures").glob("*.certificate.json")
    ident = certificate.name.partition(".")[0]
    (folder / "others.txt").write_text("customer-05@\n")
    other = said(folder, "erase", "--subjects", "others.txt", "--confirm", ident)
    assert (other.code, "was planned for other persons" in other.err) == (1, True)
    assert (
        f"this was carried out on {datetime.now(UTC):%-d %B %Y}"
        in said(folder, "erase", "--subjects", "persons.txt").out
    )
    # As one leaves it that was cut off.
    plan = json.loads(certificate.read_text())
    state = {
        "id": ident,
        "began": plan["began"],
        "who": "",
        "done": [],
        "removed": {},
        "successors": {},
        "complete": False,
    }
    (certificate.parent / f"{ident}.json").write_text(
        json.dumps({**state, "plan": plan["plan"], "hashes": plan["hashes"]})
    )
    half = said(folder, "erase", "--subjects", "persons.txt")
    assert f"--confirm {ident}" in half.out
    assert "half done" in half.out


def test_a_training_without_the_list_is_not_promoted(erased_store: Path, tmp_path: Path) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    (folder / "suppressed.json").rename(folder / "elsewhere.json")
    done(folder, "train", "--data", "cases.parquet", "--search-method", "none")
    refused = said(folder, "promote", "--force", "true", "--reason", "a machine that lacks the list")
    assert (refused.code, "the list of erased persons is not the one" in refused.err) == (1, True)


def test_who_is_held_is_not_erased(store: Path) -> None:
    assert said(store, "hold", "add", "--subject", ERASED[1], "--reason", "a lawsuit").code == 0
    done = said(store, "erase", "--subjects", "persons.txt")
    assert (done.code, "a subject is held" in done.err) == (1, True)
    assert "a lawsuit; that is name 2 of the list of persons, so nothing was planned" in done.err
    assert not any(name in done.err for name in ERASED)
    assert "refused: a subject is held" in said(store, "audit").out
    # By one of their cases, which stands nowhere in the list.
    assert said(store, "hold", "remove", "--subject", ERASED[1], "--reason", "it is over").code == 0
    assert said(store, "hold", "add", "--case-id", f"case-of-{ERASED[0]}-3", "--reason", "a claim").code == 0
    done = said(store, "erase", "--subjects", "persons.txt")
    assert "a claim; that is name 1 of the list of persons, by its rows, so nothing" in done.err


def test_whose_a_case_is_that_is_held_is_not_erased_by_the_case_either(store: Path) -> None:
    assert said(store, "hold", "add", "--subject", ERASED[0], "--reason", "a lawsuit").code == 0
    (store / "cases.txt").write_text(f"case-of-{ERASED[0]}-3\n")
    refused = said(store, "erase", "--cases", "cases.txt")
    assert refused.code == 1
    assert "a subject is held" in refused.err
    assert "that is name 1 of the list of cases, by its rows" in refused.err
    (store / "cases.txt").write_text("case-of-customer-04@-4\n")
    assert said(store, "erase", "--cases", "cases.txt").code == 0


@pytest.mark.long
def test_a_version_that_is_held_is_told_of_everywhere_and_goes_once_it_is_let_go(store: Path) -> None:
    held = said(store, "hold", "add", "--version", "@champion", "--reason", "case 15")
    assert held.code == 0
    assert "rows of persons who are erased leave those all the same" in held.out
    planned = said(store, "erase", "--subjects", "persons.txt")
    assert re.search(
        rf"note       the model {MODEL} version 1 .* it stays \(.* case 15\)\n +the folder .*, stays with it",
        planned.out,
    )
    done = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store))
    assert done.code == 0, done.err
    (page,) = (store / "outputs" / "erasures").glob("*.certificate.html")
    for told in (done.out, said(store, "erase", "--verify", str(page)).out):
        assert "no row of theirs was found" in told
        assert re.search(rf"warning    the model {MODEL} version 1 .* learned from \d+ rows of theirs and stays", told)
    content = page.read_text()
    assert "nothing of theirs was found" not in content.lower()
    assert "1 model that learned from them stays, because somebody ordered that (a legal hold)" in content
    assert "but for those that somebody ordered to be kept (a legal hold)" in content

    # Carried out once more while it is held, it stands in two certificates.
    more = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store))
    assert more.code == 0, more.err
    assert said(store, "hold", "remove", "--version", "@champion", "--reason", "it is over").code == 0
    again = said(store, "erase", "--subjects", "persons.txt")
    assert f"replace    the model {MODEL} version 1 (" in again.out
    assert again.out.count(f"{MODEL} version 1 (") == 1
    done = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store))
    assert done.code == 0, done.err
    assert ALL_CLEAR in done.out
    for name in ERASED:
        assert holders(store, name) == set()
    for file in (store / "outputs" / "erasures").glob("*.certificate.html"):
        assert "nothing of theirs was found" in said(store, "erase", "--verify", str(file)).out
    assert "nothing of theirs was found now" in said(store, "erase", "--subjects", "persons.txt").out


@pytest.mark.long
def test_rows_that_somebody_put_back_are_in_the_next_plan(
    used_store: Store, erased_store: Path, tmp_path: Path
) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    shutil.copyfile(used_store.folder / "outputs" / "scores.parquet", folder / "outputs" / "scores.parquet")
    again = said(folder, "erase", "--subjects", "persons.txt")
    assert "remove     2 rows from answers to messages (outputs/scores.parquet)" in again.out
    assert "not known here" not in again.out
    done = said(folder, "erase", "--subjects", "persons.txt", "--confirm", plan_of(folder))
    assert done.code == 0, done.err
    for name in ERASED:
        assert holders(folder, name) == set()


@pytest.mark.long
def test_rows_of_others_that_were_put_back_are_left_while_one_of_them_is_held(
    used_store: Store, erased_store: Path, tmp_path: Path
) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    scores = folder / "outputs" / "scores.parquet"
    shutil.copyfile(used_store.folder / "outputs" / "scores.parquet", scores)
    (folder / "one.txt").write_text(f"{ERASED[0]}\n")
    assert said(folder, "hold", "add", "--subject", ERASED[1], "--reason", "a lawsuit").code == 0
    before = scores.read_bytes()
    left = done(folder, "erase", "--subjects", "one.txt")
    assert "nothing of theirs was found now" in left
    assert "put back after 1 earlier erasure, of others too: one of these is held now" in left
    assert "--confirm" not in left
    assert scores.read_bytes() == before
    # Of both together it is refused, and of the one alone done once nobody is held.
    assert "that is name 2 of the list" in said(folder, "erase", "--subjects", "persons.txt").err
    done(folder, "hold", "remove", "--subject", ERASED[1], "--reason", "it is over")
    told = erased(folder, file="one.txt")
    assert "remove     2 rows from answers to messages (outputs/scores.parquet)" in told
    assert "those of the others go as well" in told
    (folder / "one.txt").unlink()
    assert all(holders(folder, name) == set() for name in ERASED)


@pytest.mark.long
@pytest.mark.parametrize("held", ["version", "person"])
def test_a_hold_on_what_is_half_erased_keeps_what_is_left(store: Path, held: str) -> None:
    plan = plan_of(store)
    (store / "params.yaml").write_text(
        SETTINGS.replace("gates: []", "gates: [{kind: minimum, metric: test/f1_macro, threshold: 1.1}]")
    )
    refused = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan)
    assert "the new model, trained without the persons' rows, did not pass 1 of the 1 check" in refused.err
    forced = ("erase", "--subjects", "persons.txt", "--confirm", plan, "--force", "true", "--reason", "the board")
    if held == "version":
        assert said(store, "hold", "add", "--version", "@champion", "--reason", "case 18").code == 0
        done = said(store, *forced)
        assert done.code == 0, done.err
        assert re.search(rf"warning    the model {MODEL} version 1 .* stays \(.*case 18\)", done.out)
        with sqlite3.connect(store / "mlflow.db") as database:
            aliases = dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
        assert aliases["champion"] == 1
        assert "case 18" in said(store, "hold", "list").out
    else:
        told = said(store, "hold", "add", "--subject", ERASED[0], "--reason", "case 19")
        assert "an erasure of theirs was begun" in told.out
        stopped = said(store, *forced)
        assert (stopped.code, "a subject is held" in stopped.err) == (1, True), stopped.err
        assert "what is done stays done" in stopped.err
        assert said(store, "hold", "remove", "--subject", ERASED[0], "--reason", "it is over").code == 0
        assert said(store, *forced).code == 0


@pytest.mark.long
@pytest.mark.parametrize("held", ["version", "person"])
def test_a_hold_that_comes_while_it_works_keeps_what_is_left(
    store: Path, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, own = plan_of(store), train.run

    def held_meanwhile(*arguments: Any, **named: Any) -> Any:
        facts = {"reason": "case 20", "since": "2026-11-01", "by": "officer"}
        if held == "version":
            hold_version(VersionHold(MODEL, "1", **facts))
        else:
            hold_person(MODEL, hold_on("subject", ERASED[0], read_keys(store / "lineage.key", {}), **facts))
        return own(*arguments, **named)

    monkeypatch.setattr(train, "run", held_meanwhile)
    confirmed = ("erase", "--subjects", "persons.txt", "--confirm", plan)
    stopped = said(store, *confirmed)
    monkeypatch.undo()
    words = "version 1 is held since this was begun" if held == "version" else "a subject is held"
    assert (stopped.code, words in stopped.err, "is half done" in stopped.err) == (1, True, True), stopped.err
    with sqlite3.connect(store / "mlflow.db") as database:
        standing = {
            row[0]
            for row in database.execute("SELECT version FROM model_versions WHERE current_stage != 'Deleted_Internal'")
        }
        aliases = dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
    assert 1 in standing
    assert len(list((store / "published").glob("v*"))) == (1 if held == "version" else 2)
    traced = said(store, "lineage", "--subject", ERASED[0])
    assert "training" in traced.out
    if held == "version":
        assert aliases["champion"] == 1
        done = said(store, *confirmed)
        assert (done.code, "case 20)" in done.out) == (0, True), done.err
        assert said(store, "hold", "list").out.count("case 20") == 1


def test_a_hold_on_a_name_that_nobody_has_says_that_it_keeps_nothing(store: Path) -> None:
    assert "warning" not in said(store, "hold", "add", "--subject", ERASED[0], "--reason", "x").out
    for name, how in ((ERASED[1].upper(), "in small letters"), ("nobody@", "as it is written: the hold keeps nothing")):
        told = said(store, "hold", "add", "--subject", name, "--reason", "x")
        assert told.code == 0
        assert "warning    no run knows this subject" in told.out
        assert how in told.out
        assert "pcc hold remove --hold " in told.out
    assert "see the spelling" in said(store, "lineage", "--subject", "nobody@").out


def test_who_is_held_the_list_says_to_whom_names_them(store: Path) -> None:
    for kind, name in (("--subject", ERASED[0]), ("--case-id", "case-of-customer-04@-4")):
        assert said(store, "hold", "add", kind, name, "--reason", f"for {kind}").code == 0
        assert f"for {kind}" in said(store, "hold", "list", kind, name).out
    everything = said(store, "hold", "list").out
    assert "for --subject" in everything
    assert "for --case-id" in everything
    assert "whether somebody is: pcc hold list --subject" in everything
    assert "for --case-id" not in said(store, "hold", "list", "--subject", ERASED[0]).out
    nobody = "no hold is on this subject, as it is written"
    assert done(store, "hold", "list", "--subject", ERASED[1]) == f"{nobody}\n"
    # A case of a person holds that person, as it does where these are to be erased; and the other way round.
    assert re.search(r"case of theirs .* for --case-id", done(store, "hold", "list", "--subject", "customer-04@"))
    its = done(store, "hold", "list", "--case-id", f"case-of-{ERASED[0]}-3")
    assert re.search(r"subject whose case it is .* for --subject", its)
    near = f"{nobody}; in small letters, or without signs around it,"
    assert re.match(rf"{near} there is: hold \w+$", done(store, "hold", "list", "--subject", ERASED[0].upper()))
    assert done(store, "hold", "list", "--subject", f"<{ERASED[1]}>") == f"{near} runs know it: ask for it so\n"
    assert "and no run knows it: look at the spelling" in done(store, "hold", "list", "--subject", "nobody@")


def test_of_who_was_erased_it_is_said_when_and_that_nothing_is_held(erased_store: Path, tmp_path: Path) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    (page,) = Path(folder, "outputs", "erasures").glob("*.certificate.html")
    was = f"was erased on {datetime.now(UTC):%-d %B %Y}, "
    case = ("--case-id", f"case-of-{ERASED[0]}-3")
    for words, what in ((("--subject", ERASED[0]), "person"), (case, "case")):
        told = done(folder, "lineage", *words)
        assert told.startswith("0 runs of ")
        assert f"this {what} {was}" in told
        assert f"(certificate outputs/erasures/{page.name}): nothing is held of them here" in told.replace(
            f"{folder}/", ""
        )
        assert "pcc erase --verify" in told
        assert "spelling" not in told
        (ended,) = json.loads(done(folder, "lineage", *words, "--json"))["erased"]
        assert Path(ended["certificate"]).name == page.with_suffix(".json").name
        exported = said(folder, "subject", "export", *words, "--output", "for-them")
        assert (exported.code, f"this {what} {was}" in exported.err, "spelling" in exported.err) == (1, True, False)
        held = said(folder, "hold", "add", *words, "--reason", "a lawsuit")
        assert (held.code, "there is nothing left to hold" in held.err) == (1, True)
        # What was asked for, and what came of it, is on record, and nobody's name.
        *_, line = json.loads(done(folder, "audit", "--what", "hold", "--json"))
        assert line["outcome"].startswith(f"refused: this {what} {was}")
        assert (line["on"]["of a"], line["reason"]) == ("subject" if what == "person" else "case", "a lawsuit")
        assert ERASED[0] not in json.dumps(line)
    assert done(folder, "hold", "list") == "nothing is held\n"
    near = done(folder, "lineage", "--subject", ERASED[0].upper())
    assert "see the spelling" in near
    assert f"in small letters, or without signs around it: this person {was}" in near
    page.with_suffix(".json").unlink()
    page.unlink()
    assert "was erased, by the list suppressed.json" in done(folder, "lineage", "--subject", ERASED[0])
    assert "was erased" not in done(folder, "lineage", "--subject", "nobody@")


@pytest.mark.long
def test_of_who_is_half_erased_it_is_said_what_is_gone(store: Path) -> None:
    assert "(their rows are out of it)" not in done(store, "lineage", "--subject", ERASED[0])
    plan = plan_of(store)
    killed = subprocess.run(
        [sys.executable, str(PROGRAM), "after note 8", "--subjects", "persons.txt", "--confirm", plan],
        cwd=store,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    for words in (("--subject", ERASED[0]), ("--case-id", f"case-of-{ERASED[0]}-3")):
        told = done(store, "lineage", *words)
        assert re.match(r"\d runs of \d read rows of this person\n", told)
        assert f"half done  an erasure of theirs was begun {datetime.now(UTC):%-d %B %Y}" in told
        assert (
            "out of pages, the cache, files that jobs left in MLflow, records of trainings, files on this machine"
            in told
        )
        assert f"--confirm {plan}" in told
        assert "copy      output.scores: outputs/scores.parquet (their rows are out of it)" in told
    assert "half done" not in done(store, "lineage", "--subject", "customer-04@")
    assert json.loads(done(store, "lineage", "--subject", ERASED[0], "--json"))["half_erased"][0]["id"] == plan


def test_a_page_that_was_changed_is_no_certificate(erased_store: Path, tmp_path: Path) -> None:
    folder = copied(erased_store, tmp_path / "copy")
    (page,) = (folder / "outputs" / "erasures").glob("*.certificate.html")
    assert said(folder, "erase", "--verify", str(page)).code == 0
    page.write_text(page.read_text().replace("2 persons", "3 persons"))
    changed = said(folder, "erase", "--verify", str(page))
    assert changed.code == 1
    assert "the page was changed after it was written" in changed.err
    # The page lies beside the one that is asked for, and is what people file.
    assert "the page was changed" in said(folder, "erase", "--verify", str(page.with_suffix(".json"))).err
    page.unlink()
    assert said(folder, "erase", "--verify", str(page.with_suffix(".json"))).code == 0
    absent = said(folder, "erase", "--verify", page.with_suffix(".json").name)
    assert "the certificate cannot be read: No such file" in absent.err
    page.write_text("a page alone")
    page.with_suffix(".json").unlink()
    assert (
        "checked by the .json that lies beside it, which is not there"
        in said(folder, "erase", "--verify", str(page)).err
    )


@pytest.mark.long
@pytest.mark.parametrize("policy", ["block", "note"])
def test_the_policy_says_what_becomes_of_models(policy: str, store: Path) -> None:
    setting = ("--set", f"registry.erasure_policy={policy}")
    plan = plan_of(store, *setting)
    shown = said(store, "erase", "--subjects", "persons.txt", *setting).out
    assert ("it stays (this project lets such models stay: registry.erasure_policy is note)" in shown) == (
        policy == "note"
    )
    done = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan, *setting)
    assert done.code == 0, done.err
    if policy == "block":
        demand_erased(store)
        return
    assert (
        "it stays (this project lets such models stay: registry.erasure_policy is note)"
        in said(store, "erase", "--subjects", "persons.txt", *setting).out
        or done.out
    )
    with sqlite3.connect(store / "mlflow.db") as database:
        marks = dict(database.execute("SELECT version, value FROM model_version_tags WHERE key = 'pcc.erasure'"))
        aliases = dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
    assert set(marks) == {1, 2}
    assert aliases["champion"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--subjects", "absent.txt"), "the list cannot be read"),
        (("--subjects", "empty.txt"), "the list is empty"),
        ((), "nobody is named"),
        (("--subjects", "persons.txt", "--confirm", "0123456789ab"), "no plan has this number"),
        (
            ("--subjects", "capitals.txt"),
            "none of them is known in 6 runs: name 1 of the list of persons is not known here",
        ),
        (("--subjects", "persons.txt", "--dry-run", "false"), "nothing is erased before its plan was looked at"),
        (("--subjects", "persons.txt", "--force", "true"), "force needs a reason"),
        (("--subjects", "persons.txt", "--force", "true", "--reason", "…"), "force needs a reason"),
    ],
)
def test_a_mistake_erases_nothing(words: tuple[str, ...], message: str, store: Path) -> None:
    (store / "empty.txt").write_text("\n \n")
    (store / "capitals.txt").write_text("Customer-03@\ncustomer-03@, customer-17@\n")
    done = said(store, "erase", *words)
    assert (done.code, message in done.err) == (1, True), done.err
    assert "Traceback" not in done.err
    assert not (store / "suppressed.json").exists()


@pytest.mark.long
@pytest.mark.parametrize("place", PLACES)
def test_killed_at_any_place_it_goes_on_to_the_same_end(
    place: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)  # how long the killed process is waited for
    plan = plan_of(store)
    line = ["--subjects", "persons.txt", "--confirm", plan]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}"}
    root = str(Path(__file__).parents[2])
    killed = subprocess.run(
        [sys.executable, str(PROGRAM), place, *line],
        cwd=store,
        env={**environment, "PYTHONPATH": root},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    done = said(store, "erase", *line)
    assert done.code == 0, done.err
    demand_erased(store)


# Each a small store of its own: what is asked of them is where a person may stand.


@pytest.fixture
def store_of(new_store: Callable[[str], Store], with_vectors: Callable[..., pd.DataFrame]) -> Callable[..., Path]:
    """A folder with `cases.parquet`, as `change` makes it of the rows, settings, a key and persons.txt."""

    def make(change: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows) -> Path:
        folder = new_store("edge").folder
        change(rows_of_customers(with_vectors)).to_parquet(folder / "cases.parquet", index=False)
        (folder / "params.yaml").write_text(SETTINGS)
        (folder / "persons.txt").write_text("".join(f"{name}\n" for name in ERASED))
        done(folder, "lineage", "key")
        return folder

    return make


def done(folder: Path, *words: str) -> str:
    """What a command says that ends well."""
    ended = said(folder, *words)
    assert ended.code == 0, ended.err
    return ended.out


def erased(folder: Path, option: str = "--subjects", file: str = "persons.txt") -> str:
    """What the erasure says, its plan before it."""
    plan = done(folder, "erase", option, file)
    match = re.search(r"--confirm ([0-9a-f]{12})", plan)
    assert match is not None, plan
    return plan + done(folder, "erase", option, file, "--confirm", match[1])


def aliases_of(folder: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return dict(database.execute("SELECT name || '@' || alias, version FROM registered_model_aliases"))


def trained(folder: Path, *words: str, data: str = "cases.parquet") -> str:
    return done(folder, "train", "--data", data, "--search-method", "none", *words)


@pytest.mark.long
def test_a_text_that_others_wrote_too_stays_theirs(store_of: Callable[..., Path]) -> None:
    def shared(rows: pd.DataFrame) -> pd.DataFrame:
        its = np.flatnonzero(rows["customer"] == ERASED[0])
        for name in ("text", "intent", "embeddings"):
            rows.at[4, name] = rows.at[its[0], name]
        rows["text"] = rows["text"].str.replace(" customer-..@", "", regex=True)
        return rows

    folder = store_of(shared)
    done(folder, "run", "--data", "cases.parquet", "--search-method", "none", "--promote", "auto")
    erased(folder)
    (embedded,) = (folder / "outputs" / "embedded").glob("*.parquet")
    left = pd.read_parquet(embedded)
    assert len(left) == ROWS - 2 * ROWS // CUSTOMERS
    assert "case-of-customer-04@-4" in set(left["case_id"])
    assert aliases_of(folder)[f"{MODEL}@champion"] == 2


@pytest.mark.long
def test_a_person_of_the_test_file_alone_leaves_it_and_the_model_stays(store_of: Callable[..., Path]) -> None:
    folder = store_of()
    rows = pd.read_parquet(folder / "cases.parquet")
    theirs = rows["customer"].isin([*ERASED, "customer-04@", "customer-05@", "customer-06@"])
    rows[theirs].to_parquet(folder / "tested.parquet", index=False)
    rows[~theirs].to_parquet(folder / "cases.parquet", index=False)
    done(
        folder,
        "run",
        "--data",
        "cases.parquet",
        "--test-data",
        "tested.parquet",
        "--search-method",
        "none",
        "--promote",
        "auto",
    )
    said_of_it = erased(folder)
    assert "replace" not in said_of_it
    assert "models that had learned" not in said_of_it
    assert aliases_of(folder)[f"{MODEL}@champion"] == 1
    assert all(holders(folder, name) <= {"tested.parquet"} for name in ERASED)
    again = done(folder, "evaluate", "--model", f"models:/{MODEL}/1")
    assert "12 rows of erased persons kept out" in again
    assert f"on {3 * ROWS // CUSTOMERS} test rows" in again


@pytest.mark.long
def test_a_champion_of_two_promotions_ago_goes_and_those_after_it_stay(store_of: Callable[..., Path]) -> None:
    folder = store_of()
    rows = pd.read_parquet(folder / "cases.parquet")
    for number in (1, 2):
        rows[~rows["customer"].isin([*ERASED, f"customer-3{number}@"])].to_parquet(
            folder / f"later{number}.parquet", index=False
        )
    for data in ("cases", "later1", "later2"):
        trained(folder, data=f"{data}.parquet")
        done(folder, "promote", "--force", "true", "--reason", "a test")
    published = sorted(path.name for path in (folder / "published").glob("v*"))
    said_of_it = erased(folder)
    assert f"remove     the model {MODEL} version 1 (" in said_of_it
    assert "replace" not in said_of_it
    assert aliases_of(folder) == {f"{MODEL}@champion": 3, f"{MODEL}@previous": 2, f"{MODEL}@challenger": 3}
    assert sorted(path.name for path in (folder / "published").glob("v*")) == published[1:]
    # Their test rows are still found in their files, which hold these persons no more.
    done(folder, "evaluate", "--model", f"models:/{MODEL}/2")


@pytest.mark.long
def test_a_model_of_another_name_is_found_and_replaced(store_of: Callable[..., Path]) -> None:
    folder = store_of()
    trained(folder, "--set", "registry.model_name=another")
    said_of_it = erased(folder)
    assert "replace    the model another version 1 (" in said_of_it
    assert aliases_of(folder) == {"another@challenger": 2}


@pytest.mark.long
def test_a_version_that_never_was_champion_nor_challenger_is_not_trained_again(store_of: Callable[..., Path]) -> None:
    folder = store_of()
    trained(folder)
    rows = pd.read_parquet(folder / "cases.parquet")
    rows[~rows["customer"].isin(ERASED)].to_parquet(folder / "later.parquet", index=False)
    trained(folder, data="later.parquet")
    assert f"remove     the model {MODEL} version 1 (" in erased(folder)
    assert aliases_of(folder) == {f"{MODEL}@challenger": 2}


@pytest.mark.long
def test_a_case_that_has_a_made_id_is_erased_by_it(store_of: Callable[..., Path]) -> None:
    folder = store_of(lambda rows: rows.drop(columns=["case_id", "customer"]))
    (folder / "params.yaml").write_text(SETTINGS.replace("data: {subject_column: customer}\n", ""))
    done(folder, "run", "--data", "cases.parquet", "--search-method", "none", "--promote", "auto")
    (embedded,) = (folder / "outputs" / "embedded").glob("*.parquet")
    before = pd.read_parquet(embedded)
    made = str(before["case_id"][7])
    (folder / "made.txt").write_text(f"{made}\n")
    assert "1 case" in erased(folder, "--cases", "made.txt")
    left = pd.read_parquet(embedded)
    assert list(left["case_id"]) == [one for one in before["case_id"] if one != made]
    assert {path for path in holders(folder, made) if path != "made.txt"} == set()
    assert "1 row of erased persons kept out" in trained(folder)


@pytest.mark.long
def test_what_was_encrypted_is_encrypted_still(store_of: Callable[..., Path]) -> None:
    folder = store_of()
    secret = ("--set", "output.encryption=key output.encrypt_scores=true")
    done(folder, "run", "--data", "cases.parquet", "--search-method", "none", "--promote", "auto", *secret)
    done(folder, "score", "--data", "cases.parquet", *secret)
    erased(folder)
    (embedded,) = (folder / "outputs" / "embedded").glob("*.parquet")
    assert embedded.read_bytes()[:4] == (folder / "outputs" / "scores.parquet").read_bytes()[:4] == b"PARE"
    done(folder, "decrypt", "outputs/scores.parquet", "--output", "plain.parquet")
    assert len(pd.read_parquet(folder / "plain.parquet")) == ROWS - 2 * ROWS // CUSTOMERS


@pytest.mark.long
def test_two_at_once_take_turns(store: Path) -> None:
    plan = plan_of(store)
    program = (
        "import sys; from pcc_pipeline.command_line.commands import step_commands; "
        "sys.exit(step_commands.main('erase'))"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}"}
    line = [sys.executable, "-c", program, "--subjects", "persons.txt", "--confirm", plan]
    both = [
        subprocess.Popen(line, cwd=store, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in "ab"
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(b"erased     " in out for out, _ in outputs) == 1
    demand_erased(store)


@pytest.mark.long
def test_one_after_another_are_erased_and_each_certificate_holds(store: Path) -> None:
    (store / "second.txt").write_text("customer-05@\n")
    done(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store))
    assert "replace" in erased(store, file="second.txt")
    certificates = list((store / "outputs" / "erasures").glob("*.certificate.json"))
    assert len(certificates) == 2
    for certificate in certificates:
        done(store, "erase", "--verify", str(certificate))
    assert aliases_of(store)[f"{MODEL}@champion"] == 4


@pytest.mark.long
def test_a_version_that_stays_can_be_measured_without_their_rows(store: Path) -> None:
    setting = ("--set", "registry.erasure_policy=note")
    done(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store, *setting), *setting)
    assert f"on {len(rows_tested(store))} test rows" in done(store, "evaluate", "--model", f"models:/{MODEL}/1")


def rows_tested(folder: Path) -> pd.DataFrame:
    """The test rows of version 1, by the record of its split."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        (uri,) = database.execute(
            "SELECT artifact_uri FROM runs JOIN tags USING (run_uuid) WHERE key = 'pcc.step' AND value = 'train' "
            "ORDER BY start_time LIMIT 1"
        ).fetchone()
    record = pd.read_parquet(Path(uri.removeprefix("file://")) / "split.parquet")
    assert len(record) == ROWS - 2 * ROWS // CUSTOMERS
    return record[record["split"] == "test"]


@pytest.mark.long
def test_cases_that_only_a_document_names_leave_it(store_of: Callable[..., Path]) -> None:
    def conflicting(rows: pd.DataFrame) -> pd.DataFrame:
        its = np.flatnonzero(rows["customer"] == ERASED[0])[0]
        rows.at[its, "text"] = rows.at[4, "text"] = "what is this"
        rows.at[its, "intent"], rows.at[4, "intent"] = "opt_out", "other"
        return rows

    folder = store_of(conflicting)
    trained(folder)
    assert holders(folder, "case-of-customer-03@")
    erased(folder)
    assert holders(folder, "case-of-customer-03@") == set()


@pytest.mark.long
def test_of_two_that_are_half_done_the_first_is_finished_first(store: Path) -> None:
    plan = plan_of(store)
    (store / "second.txt").write_text("customer-05@\n")
    strict = SETTINGS.replace("gates: []", "gates: [{kind: minimum, metric: test/f1_macro, threshold: 1.1}]")
    (store / "params.yaml").write_text(strict)
    other = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan)
    assert (other.code, "is half done" in other.err) == (1, True), other.err
    assert (
        "did not pass 1 of the 1 check that this project sets (asked for: its score test/f1_macro is 1.1" in other.err
    )
    assert "rows left out" not in other.err
    assert "their rows are out of the files that jobs left in MLflow" in other.err
    assert re.search(r"not done yet:\n +- the model .* still there and goes on answering\n", other.err)
    past = f'pcc erase --subjects persons.txt --confirm {plan} --force true --reason "WHO LET IT, AND WHY"'
    assert past in other.err
    assert past in said(store, "erase", "--subjects", "persons.txt").out
    refused = said(store, "erase", "--subjects", "second.txt")
    assert (refused.code, "an erasure of other persons is half done" in refused.err) == (1, True)
    forced = done(
        store, "erase", "--subjects", "persons.txt", "--confirm", plan, "--force", "true", "--reason", "the law"
    )
    assert "nothing of theirs was found" in forced
    demand_erased(store)


@pytest.mark.long
def test_a_champion_that_is_challenger_too_stays_until_its_successor_is_promoted(store_of: Callable[..., Path]) -> None:
    folder = store_of()
    done(folder, "run", "--data", "cases.parquet", "--search-method", "none", "--promote", "auto")
    assert aliases_of(folder) == {f"{MODEL}@champion": 1, f"{MODEL}@challenger": 1}
    plan = plan_of(folder)
    strict = SETTINGS.replace("gates: []", "gates: [{kind: minimum, metric: test/f1_macro, threshold: 1.1}]")
    (folder / "params.yaml").write_text(strict)
    # Refused twice: what the first try trained is challenger by then, and still no successor.
    for _ in range(2):
        refused = said(folder, "erase", "--subjects", "persons.txt", "--confirm", plan)
        assert (refused.code, "did not pass 1 of the 1 check" in refused.err) == (1, True), refused.err
        assert aliases_of(folder)[f"{MODEL}@champion"] == 1
    forced = ("--force", "true", "--reason", "the law")
    assert "waits for a decision: the new model" in said(folder, "audit", "--what", "erase").out
    done(folder, "erase", "--subjects", "persons.txt", "--confirm", plan, *forced)
    assert aliases_of(folder) == {f"{MODEL}@champion": 2, f"{MODEL}@challenger": 2}
    (page,) = (folder / "outputs" / "erasures").glob("*.certificate.html")
    said_of_it = f"The new model, {MODEL} version 2, passed 0 of the 1 check that this project sets"
    assert page.read_text().count(said_of_it) == 1
    assert re.search(rf"{said_of_it}[^<]*because the login or account \w+ let it: the law</p>", page.read_text())
    assert "promoted by" not in page.read_text()
    assert "promoted by" in json.loads(page.with_suffix(".json").read_text())["judged"][MODEL]


def contents_of(folder: Path, bucket: str, scratch: Path) -> bytes:
    """Every byte of the tables in a folder and a bucket, as text."""
    files = [path for path in folder.rglob("*.parquet") if path.is_file()]
    objects = open_store(bucket)
    for place, name in enumerate(objects.names()):
        target = scratch / f"{place}-{Path(name).name}"
        objects.download(name, target)
        files += [target] if target.suffix == ".parquet" else []
    return "".join(pd.read_parquet(file).to_csv() for file in files).encode()


@pytest.mark.long
@pytest.mark.parametrize("ended", [True, False], ids=["whole", "cut off"])
def test_parts_and_objects_in_buckets_lose_their_rows(store: Path, bucket: str, tmp_path: Path, ended: bool) -> None:
    rows = pd.read_parquet(store / "today.parquet")
    (store / "days").mkdir()
    for day in range(4):
        rows.assign(case_id=[f"{case}-{day}" for case in rows["case_id"]]).to_parquet(store / f"days/{day}.parquet")
    # Shards of which one never runs leave a data set that is not whole.
    share = () if ended else ("--shard", "1/2")
    for words in (
        ("score", "--data", "days/", "--output", "scores/", *share),
        ("score", "--data", "days/", "--output", f"{bucket}/scores/", *share),
        ("score", "--data", "days/", "--output", f"{bucket}/one.parquet"),
        ("embed", "--data", "days/", "--parts", f"{bucket}/vectors/", *share),
    ):
        done = said(store, *words)
        assert done.code == 0, done.err
    # A run that was killed has no manifest of persons in MLflow: that of its parts lies beside them.
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_ITS_PARTS, str(store)], env=os.environ, timeout=180, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(list((store / "killed/_lineage").iterdir())) == 4
    shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = contents_of(store, bucket, scratch)
    assert all(name.encode() in before for name in ERASED)
    done = said(store, "lineage", "--case-id", "case-of-customer-03@-3-1")
    assert "killed/" in done.out
    done = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store))
    assert done.code == 0, done.err
    assert ALL_CLEAR in done.out
    for file in (store / "days").iterdir():  # the owner's
        file.unlink()
    for name in ("cases.parquet", "today.parquet"):
        (store / name).unlink()
    scratch = tmp_path / "scratch after"
    scratch.mkdir()
    after = contents_of(store, bucket, scratch)
    assert not any(name.encode() in after for name in ERASED)
    assert b"customer-04@" in after
    if ended:
        manifest = json.loads((store / "scores/_manifest.json").read_text())
        assert manifest["rows"] == 4 * (CUSTOMERS - len(ERASED))
        assert sum(part["rows"] for part in manifest["parts"]) == manifest["rows"]
        assert sum(manifest["labels"].values()) == manifest["rows"]
    # Who was in the parts of the run that was killed stands nowhere.
    done = said(store, "lineage", "--case-id", "case-of-customer-03@-3-1")
    assert "killed/" not in done.out
    done = said(store, "lineage", "--case-id", "case-of-customer-04@-4-1")
    assert "killed/" in done.out


KILLED_AFTER_ITS_PARTS = """
import os, signal, sys
from pcc_pipeline.command_line import pcc
from pcc_pipeline.steps.parts.folder import PartsFolder
os.chdir(sys.argv[1])
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{sys.argv[1]}/mlflow.db"
PartsFolder.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
pcc.main(["score", "--data", "days/", "--output", "killed/"])
"""


def pcc_beside(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`pcc WORDS` in a process of its own, while this one is at work."""
    return subprocess.run(
        [sys.executable, "-c", BESIDE, str(folder), *words], env=os.environ, timeout=300, capture_output=True, text=True
    )


BESIDE = """
import os, sys
from pcc_pipeline.command_line import pcc
from pcc_pipeline.steps import erase
os.chdir(sys.argv[1])
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{sys.argv[1]}/mlflow.db"
if sys.argv[2] == "unasked":
    del sys.argv[2]
    erase._demand_ended = lambda known: None
sys.exit(pcc.main(sys.argv[2:]))
"""


def test_a_training_that_has_read_their_rows_must_end_first_and_makes_no_model_once_somebody_is_erased(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, ended = train._train, list[subprocess.CompletedProcess[str]]()

    def while_it_searches(*arguments: Any, **named: Any) -> Any:
        ended.append(pcc_beside(store, "erase", "--subjects", "persons.txt"))
        plans = re.findall(r"--confirm ([0-9a-f]{12})", ended[0].stdout)
        ended.append(pcc_beside(store, "erase", "--subjects", "persons.txt", "--confirm", *plans))
        # As an erasure does that had looked before this training began.
        (store / "suppressed.json").write_text("{}")
        return own(*arguments, **named)

    monkeypatch.setattr(train, "_train", while_it_searches)
    trained = said(store, "train", "--data", "cases.parquet", "--search-method", "none")
    planned, confirmed = ended
    assert planned.returncode == 0, planned.stderr
    assert "which has read rows of theirs and is under way: let it end" in planned.stdout
    assert (confirmed.returncode, "is under way, so nobody could find" in confirmed.stderr) == (1, True)
    assert (trained.code, "persons were erased since this read its rows" in trained.err) == (1, True), trained.err
    with sqlite3.connect(store / "mlflow.db") as database:
        assert {row[0] for row in database.execute("SELECT version FROM model_versions")} == {1, 2}


@pytest.mark.long
def test_what_a_training_elsewhere_makes_after_the_erasure_is_not_promoted_and_found(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = train._train

    def while_it_searches(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(train, "_train", own)
        planned = pcc_beside(store, "erase", "--subjects", "persons.txt")
        (ident,) = re.findall(r"--confirm ([0-9a-f]{12})", planned.stdout)
        # Whose heart had stopped, so that it counted as ended.
        erased = pcc_beside(store, "unasked", "erase", "--subjects", "persons.txt", "--confirm", ident)
        assert erased.returncode == 0, erased.stderr
        return own(*arguments, **named)

    monkeypatch.setattr(train, "_train", while_it_searches)
    settings = ("--set", "lineage.suppression_file=elsewhere.json")  # that of another machine
    trained = said(store, "train", "--data", "cases.parquet", "--search-method", "none", *settings)
    assert trained.code == 0, trained.err
    late = f"{MODEL} version 4"
    assert f"trained    {late} (" in trained.out
    forced = ("--force", "true", "--reason", "the best")
    refused = said(store, "promote", "--model", f"models:/{MODEL}/4", *forced)
    assert (refused.code, "the list of erased persons is not the one" in refused.err) == (1, True), refused.err
    (page,) = (store / "outputs" / "erasures").glob("*.certificate.html")
    verified = said(store, "erase", "--verify", str(page))
    assert verified.code == 1
    assert re.search(rf"rows of theirs stand in the model {late} .*, which was made after it", verified.out)
    done = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store))
    assert done.code == 0, done.err
    assert ALL_CLEAR in done.out
    assert said(store, "erase", "--verify", str(page)).code == 0
    with sqlite3.connect(store / "mlflow.db") as database:
        rows = database.execute("SELECT version FROM model_versions WHERE current_stage != 'Deleted_Internal'")
        assert 4 not in {row[0] for row in rows}


@pytest.mark.long
@pytest.mark.long
def test_a_training_that_was_killed_after_its_split_stands_in_nobodys_way(store: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_ITS_SPLIT, str(store)], env=os.environ, timeout=180, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    done = said(store, "erase", "--subjects", "persons.txt", "--confirm", plan_of(store))
    assert done.code == 0, done.err
    assert ALL_CLEAR in done.out


KILLED_AFTER_ITS_SPLIT = """
import os, signal, sys
from pcc_pipeline.command_line import pcc
from pcc_pipeline.steps import train
os.chdir(sys.argv[1])
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{sys.argv[1]}/mlflow.db"
train.SplitRows.of = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
pcc.main(["train", "--data", "cases.parquet", "--search-method", "none"])
"""
