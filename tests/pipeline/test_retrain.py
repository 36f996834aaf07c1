"""What the champion has not learned is learned once, judged and promoted; what it has, or what is odd, is not."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from pcc_pipeline.steps import retrain

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
PLAIN = (
    *("--search-method", "none"),
    *("--set", "'registry.gates=[{kind: minimum, metric: test/f1_macro, threshold: 0.1}]'"),
    *("--set", "retrain.settle_seconds=0 retrain.min_new_rows=20"),
)


@pytest.mark.long
@pytest.mark.timeout(1200)  # nine retrainings
def test_new_rows_are_learned_once_and_odd_ones_are_not(command, store, small_frame, monkeypatch) -> None:
    folder = store.folder / "arriving"
    folder.mkdir()
    watch = ("--watch", str(folder / "cases_*.parquet"), *PLAIN)

    def arrives(name: str, frame: pd.DataFrame) -> None:
        frame.to_parquet(folder / name, index=False)

    def champion() -> int:
        return int(store.client.get_model_version_by_alias(NAME, "champion").version)

    arrives("cases_20260101.parquet", small_frame[:160])
    done = command("retrain", *watch)
    assert done.code == 0, done.err
    assert re.search(r"retrained  version 1 \(v\d+_\d+\) learned 160 rows, and was promoted", done.out)
    assert champion() == 1
    assert store.step("train").data.params["data.split"] == "stable"
    # The same rows under another name are the same rows.
    (folder / "cases_20260101.parquet").rename(folder / "cases_20260102.parquet")
    done = command("retrain", *watch)
    assert done.code == 0, done.err
    assert "no need    the champion, version 1 (v20" in done.out
    arrives("cases_20260103.parquet", small_frame[160:170])
    done = command("retrain", *watch)
    assert done.code == 1
    assert "10 texts are new or have another label since version 1" in done.err
    # An alert that says that the champion is wrong demands a training on what is new, and on nothing else.
    store.client.set_model_version_tag(NAME, "1", "pcc.alert", "messages have changed: lengths")
    (folder / "cases_20260103.parquet").rename(store.folder / "later.parquet")
    for told in (True, False):
        done = command("retrain", *watch)
        assert done.code == 0, done.err
        assert "stands: messages have changed: lengths; there is nothing new to learn from" in done.out
        assert ("an alert demands training, and there is nothing new" in done.out) == told
    store.client.delete_model_version_tag(NAME, "1", "pcc.alert")
    arrives("cases_20260103.parquet", small_frame[160:200].assign(intent="new_label"))
    done = command("retrain", *watch)
    assert done.code == 1
    assert "labels have appeared or vanished since version 1" in done.err
    assert "+new_label" in done.err
    # A file that is written while it is read is left for the next time.
    arrives("cases_20260103.parquet", small_frame[160:200])
    load = retrain.load_dataset

    def meanwhile(*arguments):
        dataset = load(*arguments)
        arrives("cases_20260103.parquet", small_frame[160:])
        return dataset

    with monkeypatch.context() as patch:
        patch.setattr(retrain, "load_dataset", meanwhile)
        done = command("retrain", *watch)
    assert done.code == 0, done.err
    assert "a file was written while it was read" in done.out

    # Ended after the training, before it was judged: the next one judges what was trained.
    def ended(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pcc_pipeline.steps.pipeline.evaluate.run", ended)
        assert command("retrain", *watch).code != 0
    assert champion() == 1
    done = command("retrain", *watch)
    assert done.code == 0, done.err
    assert re.search(r"version 2 \(.*\) learned 240 rows, and was promoted; it had been trained before", done.out)
    assert champion() == 2
    assert len(store.client.search_model_versions(f"name='{NAME}'")) == 2
    other = {"text": [f"Once more {number}" for number in range(10)], "case_id": [f"new {n}" for n in range(10)]}
    arrives("cases_20260104.parquet", small_frame[:10].assign(**other))
    done = command("retrain", *watch, "--set", "retrain.most_a_day=2")
    assert done.code == 1
    assert "2 versions were trained today already" in done.err
    done = command("retrain", *watch, "--since", "champion")
    assert "no need    no file is as new as is asked for" in done.out
    # Rows that are changed under an old name are learned; who takes that back has it stay so.
    for name in ("cases_20260102.parquet", "cases_20260104.parquet"):
        (folder / name).unlink()
    whole = small_frame[:200].assign(intent=small_frame["intent"].where(small_frame.index % 6 > 0, "other")[:200])
    arrives("cases_20260103.parquet", whole)
    done = command("retrain", *watch, "--set", "retrain.worse_by=null")
    assert done.code == 0, done.err
    assert champion() == 3
    assert command("manage_models", "rollback", "--reason", "a drill").code == 0
    done = command("retrain", *watch)
    assert "no need    version 3 learned these 200 rows, and was champion before" in done.out
    assert champion() == 2
    assert not [tag for tag in store.client.get_registered_model(NAME).tags if "turn" in tag or "beat" in tag]
