"""`retrain` on a server: two at once, and a server that is away when it begins and goes away before it is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.faults.conftest import SEARCH

pytestmark = [pytest.mark.server, pytest.mark.pipeline, pytest.mark.long, pytest.mark.timeout(1500)]

SETTINGS = "registry.gates=[] retrain.settle_seconds=0 tracking.patience=1 monitoring.notify=[]"


def retrain(shell: Any, cases: Path, *options: str) -> Any:
    given = ["--params-file", shell.params_file, "--watch", str(cases.parent), "--set", SETTINGS, *options]
    return shell.start("retrain", *given)


def demand_one_of_each(shell: Any) -> None:
    """One version, promoted, published and told of once; nobody has a turn, and nothing waits to be logged."""
    (version,) = shell.client.search_model_versions(f"name='{shell.experiment}'")
    assert version.tags["pcc.retrained"] == "promoted"
    assert version.tags["pcc.published_move"] == version.tags["pcc.move"] == "1"
    model = shell.client.get_registered_model(shell.experiment)
    assert model.aliases == {"challenger": version.version, "champion": version.version}
    # Beside the anchor of the audit log: no place in a queue stays.
    left = {name: value for name, value in model.tags.items() if name.startswith("pcc.") and "audit" not in name}
    assert left == {"pcc.promotions": "1"}
    assert len([run for run in shell.step("promote") if run.data.tags.get("pcc.move")]) == 1
    published = [path.name for path in (shell.folder / "outputs" / "models").iterdir()]
    assert published == [version.tags["pcc.version"]]
    told = json.loads((shell.folder / "outputs" / "alerts" / "book.json").read_text())["events"]
    assert len([key for key in told if key.startswith("retrained ")]) == 1
    assert not shell.unlogged.exists(), shell.kept()
    assert "Traceback" not in shell.said("retrain")


def test_of_two_that_begin_at_once_one_trains(shell: Any, cases: Path) -> None:
    shell.client.search_experiments()  # a server that has just started takes long for its first answer
    processes = [retrain(shell, cases, "--search-method", "none") for _ in range(2)]
    assert [process.wait(timeout=500) for process in processes] == [0, 0], shell.said("retrain")
    said = shell.said("retrain")
    # The other found it done, or under way for longer than it waits.
    assert said.count("retrained  version 1 ") == said.count("no need    ") == 1
    demand_one_of_each(shell)


def test_a_server_that_is_away_ends_it_clearly_and_the_next_goes_on(shell: Any, server: Any, cases: Path) -> None:
    with server.whole():
        server.kill("mlflow")
        assert retrain(shell, cases).wait(timeout=200) == 1
        said = shell.said("retrain")
        assert "no MLflow server answers" in said
        assert f"{shell.experiment}: retraining failed" in said
        server.start("mlflow")
        process = retrain(shell, cases, *SEARCH)
        shell.wait_for(lambda: shell.step("trial"), process, seconds=500)
        server.kill("mlflow")
        assert process.wait(timeout=400) == 1
        assert "Nothing is lost" in shell.said("retrain")
        assert shell.kept() != []
        server.start("mlflow")
    # It logs what was kept, passes the turn of the process that could not give it back, and judges the version.
    process = retrain(shell, cases, *SEARCH)
    assert process.wait(timeout=400) == 0, shell.said("retrain")
    said = shell.said("retrain")
    assert f"registered {shell.experiment} version 1 " in said
    assert "was promoted; it had been trained before" in said
    assert len(shell.step("train")) == 1
    demand_one_of_each(shell)
