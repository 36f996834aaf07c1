"""A signed address, whose query is a secret, is refused by steps that cannot read it, and then stands nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcc_pipeline.config import Params, load_params
from pcc_pipeline.errors import PccError
from pcc_pipeline.steps import embed, evaluate, monitor, profile, score, train

SECRET = "s3cretvalue"
SIGNED = f"https://host/cases.csv?X-Amz-Signature={SECRET}"


def params(path: str | list[str] = "sample", test_path: str | None = None) -> Params:
    return load_params(None, {"data.path": path, "data.test_path": test_path})


@pytest.mark.parametrize(
    "step",
    [
        lambda: score.run(params(path=SIGNED)),
        lambda: score.run(params(path=["others.csv", SIGNED])),
        lambda: score.run(params(), output=SIGNED),
        lambda: score.run(params(), output=f"{SIGNED}/"),
        lambda: monitor.run(params(path=SIGNED)),
        lambda: monitor.run(params(), labels=SIGNED),
        lambda: embed.run(params(path=SIGNED)),
        lambda: train.run(params(path=SIGNED)),
        lambda: train.run(params(test_path=SIGNED)),
        lambda: evaluate.run(params(test_path=SIGNED)),
        lambda: profile.run(params(path=SIGNED)),
    ],
)
def test_a_signed_address_stands_in_no_record_and_no_message(
    step: Callable[[], Any], mlflow_store: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "pcc_pipeline")
    with pytest.raises(PccError) as refused:
        step()
    texts = [str(refused.value), caplog.text, *capfd.readouterr()]
    texts += [path.read_bytes().decode(errors="replace") for path in mlflow_store.rglob("*") if path.is_file()]
    assert [text for text in texts if SECRET in text] == []
    assert any("host/cases.csv?X-Amz-Signature=***" in text for text in texts)
