"""Retention and legal holds: what is old and ours goes, what is held, changed or somebody else's stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest

from pcc_pipeline.command_line import pcc
from pcc_pipeline.config import load_params
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.rows import take_out
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps import retention
from pcc_pipeline.steps.records.audit import Audit, log_of
from pcc_pipeline.steps.records.copies import Copy
from pcc_pipeline.steps.retraining import circle
from tests import process_state

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Project:
    """A copy of a project whose every file is 100 days old, as far as retention can tell."""

    def __init__(self, store: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self.folder, self._capsys = store, store.folder, capsys
        (self.embedded,) = (self.folder / "outputs/embedded").glob("cases-*.parquet")
        self.predictions, self.scores = (self.folder / f"outputs/{name}.parquet" for name in ("predictions", "scores"))

    def allow(self, **days: int) -> None:
        with (self.folder / "params.yaml").open("a") as file:
            file.write(f"preprocessing: {{cache_dir: cache}}\nretention: {json.dumps(days)}\n")

    def __call__(self, *words: str) -> Said:
        self._capsys.readouterr()
        with process_state.entry_point_undone():
            return Said(pcc.main([*words]), *self._capsys.readouterr())

    def plan(self) -> dict[str, Any]:
        done = self("models", "retention", "--json")
        assert done.code == 0, done.err
        document = json.loads(done.out)
        assert isinstance(document, dict)
        return document

    def paths(self) -> set[Path]:
        return {self.folder / part["path"] for part in self.plan()["files"]}

    def take_back(self) -> None:
        """As if version 1 had never served: what was scored with it may go."""
        client = self.store.client
        for alias in ("champion", "challenger", "previous"):
            client.delete_registered_model_alias(NAME, alias)
        client.delete_model_version_tag(NAME, "1", "pcc.state")

    def every_file(self) -> set[Path]:
        kept = {path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("mlflow.db")}
        return {path.relative_to(self.folder) for path in kept}


@pytest.fixture
def project(traced_copy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Project]:
    monkeypatch.chdir(traced_copy.folder)
    later = time.time() + 100 * 86_400
    monkeypatch.setattr(retention.time, "time", lambda: later)
    with process_state.mlflow_undone():
        mlflow.set_tracking_uri(traced_copy.uri)
        yield Project(traced_copy, capsys)


def test_the_plan_is_what_goes_and_nothing_of_others_is_touched(project: Project) -> None:
    mine = project.embedded.with_name("mine.parquet")
    shutil.copyfile(project.embedded, mine)
    link = project.embedded.with_name("link.parquet")
    link.symlink_to(mine)
    # Somebody wrote another file where scores go.
    project.scores.write_bytes(b"somebody's own")
    before = project.every_file()
    assert "no option of retention has days" in project("models", "retention").err
    project.allow(embedded=90, predictions=90, scores=90)
    plan = project.plan()
    assert {project.folder / part["path"] for part in plan["files"]} == {project.embedded, project.predictions}
    assert plan["files"][0]["bytes"] == project.embedded.stat().st_size
    assert [part["file"] for part in plan["logged"]] == ["predictions.parquet"]
    assert [(reason.split(":")[0], number) for reason, number in plan["staying"].items()] == [("scores files", 1)]
    assert project.every_file() == before | {Path("params.yaml")}
    shown = project("models", "retention")
    assert "would remove 1 embedded files" in shown.out
    assert "nothing was removed; --delete removes them" in shown.out
    assert project.every_file() == before | {Path("params.yaml")}
    done = project("models", "retention", "--delete", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {**plan, "removed": True}
    gone = before - project.every_file()
    assert {path.name for path in gone} == {project.embedded.name, "predictions.parquet"}
    assert len(gone) == 3  # the logged predictions, and their copy
    assert mine.is_file()
    assert link.is_symlink()
    assert project.scores.read_bytes() == b"somebody's own"
    again = project.plan()
    assert (again["files"], again["logged"]) == ([], [])


def test_a_file_out_of_which_a_person_was_taken_is_as_old_as_it_was(project: Project) -> None:
    project.allow(scores=99)
    assert take_out(project.scores, Sought.of(Keys((Key(b"k" * 32),)), case_ids=["case-0"]), None) == 1
    assert project.paths() == {project.scores}


def test_what_is_young_stays(project: Project) -> None:
    project.allow(embedded=101, scores=99)
    assert project.paths() == {project.scores}


def test_a_version_that_is_held_keeps_its_runs_and_files(project: Project) -> None:
    project.allow(embedded=90, predictions=90, scores=90, runs=90)
    project.take_back()
    free = project.plan()
    assert len(free["runs"]) == 1, free["staying"]
    assert len(free["files"]) == 3
    assert project("hold", "add", "--version", "1").code == 1
    assert project("hold", "add", "--version", "1", "--reason", "case 12").code == 0
    held = project.plan()
    assert (held["files"], held["logged"], held["runs"]) == ([], [], [])
    assert sum("is held" in reason for reason in held["staying"]) == 5
    assert "case 12" in project("hold", "list").out
    for words in ((), ("--reason", "…")):
        refused = project("hold", "remove", "--version", "1", *words)
        assert (refused.code, "letting a hold go needs a reason" in refused.err) == (1, True)
        assert '--reason "the lawsuit 12/26 is over"' in refused.err
        assert project.plan() == held
    assert project("hold", "remove", "--version", "1", "--reason", "it is over").code == 0
    assert project.plan() == free
    (line,) = json.loads(project("audit", "--what", "release", "--json").out)
    assert (line["on"]["version"], line["reason"]) == ("1", "it is over")
    # A hold that comes between plan and removal stops it.
    with process_state.entry_point_undone():
        params = load_params(project.folder / "params.yaml")
        planned = retention.plan(params, "1")
        assert project("hold", "add", "--version", "1", "--reason", "case 12").code == 0
        with pytest.raises(retention.TrackingError, match="holds were changed meanwhile"):
            retention.carry_out(planned, Audit(params))
    assert project.embedded.is_file()


def test_a_person_who_is_held_keeps_what_they_stand_in_and_no_more(project: Project) -> None:
    project.allow(embedded=90, scores=90, caches=1)
    # customer-5 is in the training file, and not among the scored rows.
    assert "names the person" in project("hold", "add", "--subject", "customer-5", "--reason", "of customer-5").err
    assert project("hold", "add", "--subject", "customer-5", "--reason", "case 13").code == 0
    plan = project.plan()
    assert {project.folder / part["path"] for part in plan["files"]} == {project.scores}
    assert any("embedded files: a subject is held" in reason and "case 13" in reason for reason in plan["staying"])
    tags = project.store.client.get_registered_model(NAME).tags
    assert not any("customer-5" in name + text for name, text in tags.items())
    assert project("hold", "add", "--case-id", "case-0", "--reason", "case 14").code == 0
    assert project.paths() == set()
    # Rows that a later key wrote cannot be told: they stay.
    named = project("hold", "remove", "--case-id", "case-0", "--reason", "case-0 is over")
    assert "the reason names the person, whom the audit log must not know" in named.err
    assert project("hold", "remove", "--case-id", "case-0", "--reason", "it is over").code == 0
    assert project.paths() == {project.scores}
    assert project("lineage", "key", "--rotate").code == 0
    for tag in [name for name in tags if name.startswith("pcc.hold.")]:
        client, text = project.store.client, tags[tag]
        document = json.loads(text)
        document["hashes"] = {"0badc0de": next(iter(document["hashes"].values()))}
        client.set_registered_model_tag(NAME, tag, json.dumps(document))
    assert project.paths() == set()
    assert any("a hold is older than the key" in reason for reason in project.plan()["staying"])
    (ident,) = [hold["id"] for hold in json.loads(project("hold", "list", "--json").out)["persons"]]
    assert project("hold", "remove", "--hold", ident, "--reason", "it is over").code == 0
    assert project("hold", "list").out == "nothing is held\n"
    assert project.paths() == {project.embedded, project.scores}


def test_killed_in_the_middle_and_two_at_once_come_to_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.allow(embedded=90, predictions=90, scores=90)
    with process_state.entry_point_undone():
        params = load_params(project.folder / "params.yaml")
        planned = retention.plan(params, "1")
        child = os.fork()
        if not child:
            removed = Copy.remove

            def killed(copy: Copy) -> bool:
                removed(copy)
                os.kill(os.getpid(), signal.SIGKILL)
                return True

            monkeypatch.setattr(Copy, "remove", killed)
            monkeypatch.setattr(retention, "read_holds", lambda: planned.holds)
            retention.carry_out(planned, Audit(params))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert not project.embedded.exists()
        assert project.scores.exists()
        # Of what was planned some is gone, and one was written again meanwhile.
        project.predictions.write_bytes(project.predictions.read_bytes() + b" ")
        first, second = (retention.carry_out(planned, Audit(params)) for _ in range(2))
        assert {kind: amount.number for kind, amount in first.removed.items()} == {
            "scores files": 1,
            "logged predictions.parquet": 1,
        }
        assert second.removed == {}
        assert project.predictions.is_file()
        assert second.summary[0] == "retention  nothing is old enough"
        # The one that was killed has begun, and did not end.
        told = [
            line.fields["outcome"] for line in log_of(params).lines() if line is not None and line.what == "retention"
        ]
        assert told == ["begun", "begun", "done", "begun", "done"]


def test_runs_that_another_removal_was_quicker_with_are_no_error(project: Project) -> None:
    project.allow(runs=90)
    project.take_back()
    with process_state.entry_point_undone():
        params = load_params(project.folder / "params.yaml")
        planned = retention.plan(params, "1")
        assert [tree.root.data.tags["pcc.step"] for tree in planned.trees] == ["score"]
        for _ in range(2):
            retention.carry_out(planned, Audit(params))
    assert project.plan()["runs"] == []


def test_a_round_of_auto_ends_with_retention(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.allow(scores=90)
    outcomes: list[Callable[..., Any]] = []
    monkeypatch.setattr(circle.retrain, "run", lambda params: outcomes.append(params) or _Nothing())
    with process_state.entry_point_undone():
        outcome = circle.run(load_params(project.folder / "params.yaml"))
    assert len(outcomes) == 1
    assert outcome.exit_code == 0
    assert outcome.lines[-1].startswith("retention  removed 1 scores files")
    assert not project.scores.exists()


class _Nothing:
    summary = ()
