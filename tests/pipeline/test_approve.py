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
ASKS = (
    *("--set", "registry.approvals=1"),
    *("--set", "'registry.gates=[{kind: minimum, metric: test/f1_macro, threshold: 0.8}]'"),
)

pytestmark = pytest.mark.pipeline


def test_a_promotion_waits_for_who_did_not_train_it_and_force_does_too(
    command: Any, two_versions: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def asked(*words: str, account: str = "") -> tuple[int, str, str]:
        with process_state.entry_point_undone():
            monkeypatch.chdir(two_versions.folder)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", two_versions.uri)
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account)
            capfd.readouterr()
            given = ("--params-file", str(REPOSITORY / "params.yaml"))
            return pcc.main([*words, *given]), *capfd.readouterr()

    client = two_versions.client
    waits = command("promote", *ASKS, "--model", f"models:/{NAME}/1", "--reason", "the first")
    assert waits.code == 0, waits.err
    assert f"waiting    version 1 of {NAME} passed its gates" in waits.out
    assert "champion" not in client.get_registered_model(NAME).aliases
    tags = client.get_model_version(NAME, "1").tags
    run = two_versions.step("promote")
    assert (tags["pcc.approval"], tags["pcc.approval_run"], run.data.tags["pcc.action"]) == (
        "waiting",
        run.info.run_id,
        "waiting",
    )
    own = asked("approve", "1", "--reason", "mine")
    assert (own[0], "who trained a version does not approve it" in own[2]) == (1, True)
    assert "does not wait for an approver: nobody asked" in asked("approve", "2", "--reason", "x", account="bea")[2]
    assert "needs a reason" in asked("approve", "1", "--reason", " ", account="bea")[2]
    done = asked("approve", "1", "--reason", "looks right", "--json", account="bea")
    assert done[0] == 0, done[2]
    assert {"action": "approved", "champion": "1", "move": 1}.items() <= json.loads(done[1]).items()
    assert "it was approved" in asked("approve", "1", "--reason", "again", account="bea")[2]
    last = two_versions.step("promote").data.tags
    assert (last["pcc.action"], last["pcc.who"], last["pcc.asked_in"]) == ("approved", "bea", run.info.run_id)

    # Past its gates no more than through them; what is declined stays where it was.
    assert command("promote", *ASKS).code == 1
    for decline, champion in ((True, 1), (False, 2)):
        forced = command("promote", *ASKS, "--force", "true", "--reason", "drill")
        assert "is to be forced past its gates" in forced.out, forced.err
        status = asked("status")[1]
        assert "waits for an approver" in status
        words = ("approve", "@challenger", "--reason", "seen", *(["--decline"] if decline else []))
        assert asked(*words, account="bea")[0] == 0
        assert client.get_model_version_by_alias(NAME, "champion").version == champion
    back = command("promote", *ASKS, "--rollback", "true")
    assert "champion is version 1 now" in back.out, back.err

    lines = json.loads(asked("audit", "--json")[1])
    told = [(line["what"], line["outcome"], line["who"] == "bea") for line in lines if line["what"] != "publish"]
    assert told[1:] == [
        ("promote", "waiting for approval", False),
        ("approve", "refused: who trained it", False),
        ("approve", "begun", True),
        ("approve", "done", True),
        ("promote", "refused", False),
        ("force", "waiting for approval", False),
        ("decline", "done", True),
        ("force", "waiting for approval", False),
        ("approve", "begun", True),
        ("approve", "done", True),
        ("roll back", "begun", False),
        ("roll back", "done", False),
    ]
    assert asked("audit", "verify")[0] == 0
