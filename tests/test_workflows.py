"""GitHub's workflows keep their schema, say what they may and no more, and what they run runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pcc_pipeline.command_line.commands.auto_command import AutoCommand
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.data.sample.messages import sample

REPOSITORY = Path(__file__).parents[1]
FILES = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
# YAML 1.1 takes the word `on` for true.
WORKFLOWS: dict[str, Any] = {
    path.stem: {("on" if name is True else name): value for name, value in yaml.safe_load(path.read_text()).items()}
    for path in FILES
}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"].values()]
STEPS: list[dict[str, Any]] = [step for _, job in JOBS for step in job["steps"]]
PIPELINE = WORKFLOWS["ml-pipeline"]
ROUND = next(step for step in STEPS if "auto_pipeline" in step.get("run", ""))


def test_they_keep_githubs_schema() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", "vendor.github-workflows", *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [*WORKFLOWS] == ["checks", "ml-pipeline"]


def test_no_job_runs_without_end_or_may_do_more_than_it_must() -> None:
    for name, job in JOBS:
        assert job["timeout-minutes"] <= 360, name
        assert job["defaults"]["run"]["shell"] == "bash", "which ends at the first command that fails, in a pipe too"
    assert WORKFLOWS["checks"]["permissions"] == {"contents": "read"}
    assert PIPELINE["permissions"] == {"contents": "read", "id-token": "write"}
    assert PIPELINE["concurrency"]["cancel-in-progress"] is False


def test_actions_are_named_by_a_version_or_a_digest() -> None:
    for step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|[0-9a-f]{40})", step["uses"]), step["uses"]
    assert all(step["with"]["persist-credentials"] is False for step in STEPS if "checkout" in step.get("uses", ""))


def test_scripts_are_of_bash_and_take_no_expression() -> None:
    """What stands in an input or a branch's name would be run as a command."""
    for step in STEPS:
        if "run" in step:
            assert "${{" not in step["run"], step["run"]
            subprocess.run(["bash", "-n", "-c", step["run"]], check=True, timeout=20)


def test_the_round_comes_daily_and_by_hand_and_logs_in_without_a_key() -> None:
    ((schedule,),) = [each.values() for each in PIPELINE["on"]["schedule"]]
    minute, hour, *every = schedule.split()
    assert int(minute) % 2 == 1
    assert hour.isdigit()
    assert every == ["*", "*", "*"]
    assert set(PIPELINE["on"]["workflow_dispatch"]["inputs"]) == {"watch", "monitor", "search_method", "set"}
    (login,) = [step for step in STEPS if "google" in step.get("uses", "")]
    assert set(login["with"]) == {"workload_identity_provider", "service_account"}
    text = (REPOSITORY / ".github" / "workflows" / "ml-pipeline.yml").read_text()
    assert "credentials_json" not in text
    # Passwords and addresses that are secrets are such of the repository; and each name stands in the document.
    environments = {name: value for part in (*PIPELINE["jobs"].values(), ROUND) for name, value in part["env"].items()}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PCC_NOTIFY"):
        assert environments[name] == f"${{{{ secrets.{name} }}}}"
    told = (REPOSITORY / "docs" / "retraining.md").read_text()
    for name in {*re.findall(r"(?:secrets|vars)\.(\w+)", text)}:
        assert f"`{name}`" in told, name


def test_what_is_installed_is_pinned_and_there() -> None:
    (install,) = [step["run"] for step in STEPS if "pip install" in step.get("run", "")]
    assert "-c constraints.txt" in install
    match = re.search(r"\.\[(.*)\]", install)
    assert match is not None
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert {*match[1].split(",")} <= {*project["optional-dependencies"]}


def test_the_options_that_are_handed_on_are_those_of_the_command() -> None:
    parser = Parser()
    AutoCommand().add_options(parser)
    named = re.findall(r"(--[a-z-]+) ", ROUND["run"])
    assert named == ["--watch", "--search-method", "--monitor", "--set"]
    parser.parse_args([word for name in named for word in (name, "x")])


def test_the_checks_are_those_of_ci() -> None:
    """Not run here, where they would run themselves."""
    (step,) = [step for step in STEPS if step.get("name") == "Check and test"]
    assert step["run"] == ".ci/run"
    script = (REPOSITORY / ".ci" / "run").read_text()
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
    for target in ("check", "test"):
        assert re.search(rf"^make {target}\b", script, re.MULTILINE)
    subprocess.run(["bash", "-n", "-c", script], check=True, timeout=20)
    done = subprocess.run(
        ["make", "-n", "check", "test"], cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    (image,) = {job["container"] for name, job in JOBS if name == "checks"}
    assert image.startswith("python:3.11-")


@pytest.mark.long
@pytest.mark.pipeline
def test_the_round_runs_as_a_script_and_its_summary_says_what_was_decided(tmp_path: Path) -> None:
    """In a folder of its own, with the repository's entry points, over a folder of data that grows."""
    (tmp_path / "entrypoints").symlink_to(REPOSITORY / "entrypoints")
    settings = {
        "registry": {"gates": []},
        "retrain": {"settle_seconds": 0, "worse_by": None},
        "model": {"calibration": "none"},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "incoming").mkdir()
    rows: pd.DataFrame = sample(300)
    rows[:200].to_csv(tmp_path / "incoming" / "cases_20260101.csv", index=False)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PCC_"))}
    given = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "RUNNER_TEMP": str(tmp_path),
        "SEARCH_METHOD": "none",
        "WATCH": "incoming/",
        "MONITOR": "incoming/",
        "SET": "",
    }

    def ran(**environment: str) -> tuple[int, str]:
        (tmp_path / "summary.md").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", ROUND["run"]],
            cwd=tmp_path,
            env={**kept, **given, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        summary = (tmp_path / "summary.md").read_text() if (tmp_path / "summary.md").exists() else ""
        assert done.stdout.strip() in summary
        return done.returncode, summary + done.stderr

    code, said = ran()
    assert code == 0, said
    assert re.search(r"retrained  version 1 \(v\d+_\d+\) learned 200 rows, and was promoted", said)
    assert "monitored  200 rows of incoming/" in said
    code, said = ran(SET="retrain.most_a_day=9")
    assert code == 0, said
    assert "no need    the champion, version 1" in said
    (tmp_path / "incoming" / "more.csv").write_text("text,intent\nThis label is new,surprise\n")
    code, said = ran(MONITOR="")
    assert (code, "exit code 1" in said) == (1, True), said
    assert "labels have appeared or vanished since version 1" in said
    assert "+surprise" in said
    code, said = ran(WATCH="")
    assert code != 0
    assert "set the variable PCC_WATCH" in said
