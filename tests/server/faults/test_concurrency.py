"""Many at once: eight processes log fifty trials each to one server, and no run is lost or mixed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from mlflow.entities import ViewType

pytestmark = [pytest.mark.server, pytest.mark.pipeline]

PROCESSES, TRIALS = 8, 50
PROGRAM = """
import sys, time
from pcc_pipeline.search.trials import Trial
from pcc_pipeline.tracking.runs import step_run
from pcc_pipeline.tracking.trial_runs import TrialRuns

own, trials = int(sys.argv[1]), int(sys.argv[2])
with step_run("train") as run, TrialRuns(run, "f1_macro", lambda values: "scikit-learn") as logged:
    print(run.run_id, flush=True)
    for number in range(trials):
        mark = own * 1000 + number
        scores = ({"f1_macro": mark / 1e6}, {"f1_macro": (mark + 1) / 1e6})
        logged.log(Trial(number, {"C": mark}, "complete", scores, mark / 1e6, 0.0, 1.0, "", time.time()))
"""


@pytest.mark.long
def test_many_processes_log_at_once_and_each_run_is_its_own(shell: Any, server: Any) -> None:
    shell.client.create_experiment(shell.experiment)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(own), str(TRIALS)],
            cwd=shell.folder,
            env=shell.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in range(PROCESSES)
    ]
    said = [process.communicate(timeout=500) for process in processes]
    failed = [err for process, (_, err) in zip(processes, said, strict=True) if process.returncode]
    assert not failed, failed[0][-3000:]
    # MLflow may print the run's address after it.
    parents = {out.split()[0]: own for own, (out, _) in enumerate(said)}
    assert len(parents) == PROCESSES
    experiment = shell.client.get_experiment_by_name(shell.experiment).experiment_id
    trials = shell.client.search_runs([experiment], "tags.`pcc.step` = 'trial'", ViewType.ALL, max_results=1000)
    assert len(trials) == PROCESSES * TRIALS
    seen = set()
    for run in trials:
        own, number = parents[run.data.tags["mlflow.parentRunId"]], int(run.info.run_name.removeprefix("trial-"))
        mark = own * 1000 + number
        seen.add(mark)
        assert run.info.status == "FINISHED"
        assert run.data.params == {"model.hyperparameters.C": str(mark)}
        assert run.data.metrics == {
            "cv/f1_macro": (mark + 1) / 1e6,
            "cv/f1_macro_mean": mark / 1e6,
            "cv/f1_macro_std": 0.0,
            "trial/seconds": 1.0,
        }
    assert len(seen) == PROCESSES * TRIALS
    assert {shell.client.get_run(run).info.status for run in parents} == {"FINISHED"}
    assert not shell.unlogged.exists()
