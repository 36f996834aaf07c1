"""With registry.approvals 1 a version that passes the gates waits for somebody who did not train it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pcc_pipeline.command_line import pcc
from tests import process_state

REPOSITORY = Path(__file__).parents[2]
NAME = "pcc-intent-classifier"
pytestmark = pytest.mark.pipeline


def asks(threshold: str) -> tuple[str, ...]:
    """Options for a promotion that waits if it passes the one gate."""
    gate = f"{{kind: minimum, metric: test/f1_macro, threshold: {threshold}}}"
    return "--set", "registry.approvals=1", "--set", f"'registry.gates=[{gate}]'"


@pytest.mark.long
def test_a_promotion_waits_for_who_did_not_train_it_and_force_does_too(
    command: Any, one_version: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def asked(*words: str, account: str = "") -> tuple[int, str, str]:
        with process_state.entry_point_undone():
            monkeypatch.chdir(one_version.folder)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", one_version.uri)
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account)
            capfd.readouterr()
            given = ("--params-file", str(REPOSITORY / "params.yaml"))
            return pcc.main([*words, *given]), *capfd.readouterr()

    client = one_version.client
    waits = command("promote", *asks("0.1"), "--reason", "the first")
    assert waits.code == 0, waits.err
    assert f"waiting    version 1 of {NAME} passed its gates" in waits.out
    tags, run = client.get_model_version(NAME, "1").tags, one_version.step("promote")
    assert (tags["pcc.approval"], tags["pcc.approval_run"]) == ("waiting", run.info.run_id)
    assert run.data.tags["pcc.action"] == "waiting"
    own = asked("approve", "1", "--reason", "mine")
    assert (own[0], "who trained a version does not approve it" in own[2]) == (1, True)
    assert "needs a reason" in asked("approve", "1", "--reason", " ", account="bea")[2]
    assert "waits for an approver" in asked("status")[1]
    assert asked("approve", "@challenger", "--decline", "--reason", "not yet", account="bea")[0] == 0
    assert "it was declined" in asked("approve", "1", "--reason", "again", account="bea")[2]
    # Past its gates no more than through them.
    forced = command("promote", *asks("1"), "--force", "true", "--reason", "drill")
    assert "is to be forced past its gates" in forced.out, forced.err
    assert "champion" not in client.get_registered_model(NAME).aliases
    done = asked("approve", "1", "--reason", "looks right", "--json", account="bea")
    assert done[0] == 0, done[2]
    assert {"action": "approved", "champion": "1", "move": 1}.items() <= json.loads(done[1]).items()
    assert client.get_model_version_by_alias(NAME, "champion").version == 1
    last, asking = one_version.step("promote").data.tags, one_version.runs()[-2].info.run_id
    assert (last["pcc.action"], last["pcc.who"], last["pcc.asked_in"]) == ("approved", "bea", asking)

    lines = json.loads(asked("audit", "--json")[1])
    told = [(line["what"], line["outcome"], line["who"] == "bea") for line in lines if line["what"] != "publish"]
    assert told[1:] == [
        ("promote", "waiting for approval", False),
        ("approve", "refused: who trained it", False),
        ("decline", "done", True),
        ("force", "waiting for approval", False),
        ("approve", "begun", True),
        ("approve", "done", True),
    ]
    assert asked("audit", "verify")[0] == 0
