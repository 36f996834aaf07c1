"""Processes as machines of their own, with one study in PostgreSQL: some are killed, and nothing is lost or doubled."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.artifacts import download_artifacts
from sqlalchemy import create_engine, text

pytestmark = [pytest.mark.server, pytest.mark.pipeline]

STUDY = "together"


@dataclass
class Machines:
    """`train` with the same options on several machines, each with a folder of its own."""

    shell: Any
    storage: str
    cases: Path
    n_iter: int
    processes: list[subprocess.Popen[str]]
    killed: set[int]

    def start(self, number: int, *, cases: Path | None = None, script: str = "train") -> None:
        for place in range(len(self.processes), len(self.processes) + number):
            shell = self.at(place)
            shell.folder.mkdir()
            options = ["--params-file", shell.params_file, "--data", str(cases or self.cases)]
            options += ["--search-method", "optuna", "--n-iter", str(self.n_iter), "--set"]
            options += [
                f"search.study_name={STUDY} search.n_jobs=1 model.cv_folds=2 model.refit=false "
                "'model.search_space={C: {low: 0.01, high: 100, log: true}}'"
            ]
            self.processes.append(shell.start(script, *options, PCC_SEARCH__STORAGE=self.storage))

    def at(self, place: int) -> Any:
        return replace(self.shell, folder=self.shell.folder / f"machine-{place}")

    def said(self, place: int) -> str:
        return str(self.at(place).said("train"))

    def kill(self, place: int) -> None:
        self.processes[place].kill()
        self.processes[place].wait()
        self.killed.add(place)

    @property
    def living(self) -> list[int]:
        return [place for place, process in enumerate(self.processes) if process.poll() is None]

    def ask(self, statement: str) -> list[Any]:
        engine = create_engine(self.storage)
        try:
            with engine.connect() as connection:
                return list(connection.execute(text(statement)).all())
        except Exception:  # the tables are not there yet
            return []
        finally:
            engine.dispose()

    def told(self) -> int:
        rows = self.ask("SELECT count(*) FROM trials WHERE state = 'COMPLETE'")
        return int(rows[0][0]) if rows else 0

    def trials(self) -> list[Any]:
        storage = optuna.storages.RDBStorage(self.storage)
        try:
            return storage.get_all_trials(storage.get_study_id_from_name(STUDY))
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def wait_for(self, condition: Callable[[], Any], seconds: float = 400) -> Any:
        deadline = time.monotonic() + seconds
        while not (seen := condition()):
            assert time.monotonic() < deadline, self.all_said()
            for place, process in enumerate(self.processes):
                assert process.poll() in (None, 0) or place in self.killed, self.said(place)
            time.sleep(0.05)
        return seen

    def all_said(self) -> str:
        return "\n".join(f"--- {place}\n{self.said(place)[-2000:]}" for place in range(len(self.processes)))

    def demand_one_end(self) -> None:
        """Every candidate once, one model, one version; the other runs end well and name the one that made it."""
        for place, process in enumerate(self.processes):
            if place not in self.killed:
                assert process.wait(400) == 0, self.said(place)
        trials = self.trials()
        by_state: dict[str, list[Any]] = {}
        for trial in trials:
            by_state.setdefault(trial.state.name, []).append(trial)
        assert len(by_state.pop("COMPLETE")) == self.n_iter
        lost = by_state.pop("FAIL", [])
        assert all(trial.user_attrs["reason"] == "interrupted" for trial in lost)
        assert not by_state, "nothing is under way or queued"
        assert len({trial.params["C"] for trial in trials if trial.state.name == "COMPLETE"}) == self.n_iter
        shell = self.shell
        experiment = shell.client.get_experiment_by_name(shell.experiment).experiment_id
        (version,) = shell.client.search_model_versions(f"name='{shell.experiment}'")
        assert shell.client.get_model_version_by_alias(shell.experiment, "challenger").version == version.version == "1"
        finished = [model for model in shell.client.search_logged_models([experiment]) if model.status == "READY"]
        made = [model for model in finished if model.source_run_id == version.run_id]
        assert len(made) == 1
        assert len({trial.info.run_name for trial in shell.step("trial")}) == len(shell.step("trial")) <= self.n_iter
        runs = {run.info.run_id: run for run in shell.step("train")}
        metadata = Path(download_artifacts(run_id=version.run_id, artifact_path="metadata.json"))
        assert json.loads(metadata.read_text())["search_info"]["trials"] == self.n_iter
        said = [self.said(place) for place in range(len(self.processes)) if place not in self.killed]
        made_it = [text for text in said if "alias challenger" in text]
        left = [text for text in said if f"by run {version.run_id}" in text]
        assert len(made_it) + len(left) == len(said), self.all_said()
        assert len(made_it) <= 1
        ended = [run for run in runs.values() if run.data.tags.get("pcc.concluded_by") == version.run_id]
        assert len(ended) == len(left)
        assert {run.info.status for run in ended} <= {"FINISHED"}
        assert not made_it or runs[version.run_id].info.status == "FINISHED"


@pytest.fixture
def machines(shell: Any, cases: Path, study_storage: str, here: Any) -> Any:
    made = []

    def build(n_iter: int) -> Machines:
        made.append(Machines(shell, study_storage, cases, n_iter, [], set()))
        return made[-1]

    yield build
    for one in made:
        for place in one.living:
            one.kill(place)


@pytest.mark.long
def test_three_machines_search_one_study_and_one_of_them_is_killed(machines: Any) -> None:
    together = machines(40)
    together.start(3)
    together.wait_for(lambda: together.told() >= 3)
    owner = "SELECT a.value_json FROM trials t JOIN trial_user_attributes a USING (trial_id) WHERE a.key = 'claim'"
    claimed = together.wait_for(lambda: together.ask(f"{owner} AND t.state = 'RUNNING'"))
    worker = json.loads(claimed[0][0])[0]
    (process,) = together.ask(f"SELECT process FROM pcc_search_workers WHERE worker = '{worker}'")
    pid = int(process[0].split("/")[2])
    together.kill(next(place for place, one in enumerate(together.processes) if one.pid == pid))
    together.demand_one_end()


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("concluder", [False, True], ids=["three", "and the one that concludes"])
def test_eight_machines_200_candidates_and_three_killed_at_random(concluder: bool, machines: Any) -> None:
    together, seed = machines(200), time.time_ns() % 100_000
    chance = random.Random(seed)
    print(f"seed {seed}")
    together.start(8)
    for told in sorted(chance.sample(range(1, 198), 3)):
        together.wait_for(lambda told=told: together.told() >= told)
        time.sleep(chance.uniform(0, 0.2))
        together.kill(victim := chance.choice(together.living))
        print(f"killed {victim} at {told} told")
    if concluder:
        concluding = "SELECT process FROM pcc_search_workers WHERE state = 'concluding'"
        process = together.wait_for(lambda: together.ask(concluding))
        time.sleep(chance.uniform(0, 4))
        pid = int(process[0][0].split("/")[2])
        together.kill(place := next(place for place, one in enumerate(together.processes) if one.pid == pid))
        print(f"killed {place} as it concluded")
    together.demand_one_end()
    for place in range(8):
        print(place, "killed" if place in together.killed else together.said(place).splitlines()[-3:])


@pytest.mark.long
def test_a_machine_with_other_data_is_refused(machines: Any, tmp_path: Path, cases: Path) -> None:
    import pandas as pd

    together = machines(4)
    pd.read_parquet(cases)[:120].to_parquet(tmp_path / "other.parquet", index=False)
    together.start(1)
    together.wait_for(lambda: together.told() >= 1)
    together.start(1, cases=tmp_path / "other.parquet")
    assert together.processes[1].wait(120) == 1
    together.killed.add(1)
    assert "data_digest was" in together.said(1)
    assert "another search.study_name" in together.said(1)
    together.demand_one_end()


@pytest.mark.long
def test_the_whole_pipeline_on_two_machines_is_measured_once(machines: Any, shell: Any) -> None:
    together = machines(12)
    together.start(2, script="main")
    assert [process.wait(400) for process in together.processes] == [0, 0]
    said = [str(together.at(place).said("main")) for place in range(2)]
    (version,) = shell.client.search_model_versions(f"name='{shell.experiment}'")
    assert len(shell.step("evaluate")) == 1
    assert {run.info.status for run in shell.runs()} == {"FINISHED"}
    left = [run for run in shell.step("pipeline") if "pcc.concluded_by" in run.data.tags]
    assert [run.data.tags["pcc.concluded_by"] for run in left] == [version.run_id]
    assert sum(f"by run {version.run_id}" in text for text in said) == 1
