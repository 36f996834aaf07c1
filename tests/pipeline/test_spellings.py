"""Labels that differ by blanks or case alone: trainings that make them one may each take another spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcc_pipeline.data.sample.messages import sample

pytestmark = [pytest.mark.pipeline, pytest.mark.long]

ONE = "data.normalise_labels=true model.search_method=none"


def _file(folder: Path, name: str, most: str, some: str) -> str:
    """The sample, one of its labels spelled in one way in most rows, and in another in some."""
    rows = sample(400)
    own = rows.index[rows["intent"] == "opt_out"]
    rows.loc[own, "intent"] = most
    rows.loc[own[::4], "intent"] = some
    rows.to_parquet(folder / name, index=False)
    return str(folder / name)


def test_the_gate_against_the_champion_compares_labels_and_not_spellings(command, store, tmp_path) -> None:
    """Else every right answer of the champion to that label would be wrong, and a far worse version pass."""
    for name, most, some in (("first", "Opt Out", "opt out"), ("second", "opt out", "Opt Out")):
        file = _file(tmp_path, f"{name}.parquet", most, some)
        done = command("train", "--data", file, "--set", ONE, store=store)
        assert done.code == 0, done.err
        done = command("promote", "--force", "true", "--reason", "a test", store=store)
        assert done.code == 0, done.err
    # The same rows and so the same answers, but for the spelling.
    assert "(measured +0.0000)" in done.out
    assert "of which 0 are labelled differently" in done.out
    assert "'test/class/opt out/f1'" in str(store.step("promote").data.metrics)
