"""Whatever kills `retrain`, and however many begin at once: one training, promotion, publication and notice."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pcc_pipeline.tracking.registry import locks
from tests.http_receiver import HttpReceiver, receiving
from tests.pipeline.retrain_killed import PLACES

pytestmark = [pytest.mark.pipeline, pytest.mark.long]

NAME = "pcc-intent-classifier"
REPOSITORY = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("retrain_killed.py")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    with receiving() as one:
        monkeypatch.setenv("TEST_RECEIVER", f"json://127.0.0.1:{one.port}/")
        yield one


@pytest.fixture
def options(store: Any, small_frame: pd.DataFrame, embedding_cache: Path) -> list[str]:
    """Of a `retrain` that finds a data set of 160 rows."""
    folder = store.folder / "arriving"
    folder.mkdir()
    small_frame[:160].to_parquet(folder / "cases_20260101.parquet", index=False)
    return [
        *("--params-file", str(REPOSITORY / "params.yaml"), "--watch", str(folder), "--search-method", "none"),
        *("--set", "registry.gates=[] retrain.settle_seconds=0 monitoring.notify=[TEST_RECEIVER]"),
        *("--set", f"registry.publish.target={store.folder / 'published'} model.calibration=none"),
    ]


def demand_one_of_each(store: Any, receiver: HttpReceiver) -> None:
    client = store.client
    (version,) = client.search_model_versions(f"name='{NAME}'")
    assert version.tags["pcc.retrained"] == "promoted"
    assert version.tags["pcc.published_move"] == version.tags["pcc.move"] == "1"
    model = client.get_registered_model(NAME)
    assert model.aliases["champion"] == version.version
    # Beside the anchor of the audit log: no place in a queue stays.
    left = {name: value for name, value in model.tags.items() if name.startswith("pcc.") and "audit" not in name}
    assert left == {"pcc.promotions": "1"}
    assert len([run for run in store.runs() if run.data.tags.get("pcc.move")]) == 1
    assert len([run for run in store.runs() if run.info.status == "RUNNING"]) == 0
    for target in ("published", "outputs/models"):
        assert [path.name for path in (store.folder / target).iterdir()] == [version.tags["pcc.version"]]
    assert [letter["title"] for letter in receiver.documents] == [f"{NAME}: trained again"]


@pytest.mark.parametrize("place", [*PLACES])
def test_what_a_kill_leaves_is_done_by_the_next_and_nothing_twice(
    place: str,
    outside: Callable[..., Any],
    command: Callable[..., Any],
    store: Any,
    options: list[str],
    receiver: HttpReceiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    process = outside(store.folder, sys.executable, str(PROGRAM), place, *options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, out + err
    if place == "after the notice":  # it is told already, and not told again
        assert len([letter["title"] for letter in receiver.documents]) == 1
    done = command("retrain", *options)
    assert done.code == 0, done.err
    demand_one_of_each(store, receiver)
    done = command("retrain", *options)
    assert done.code == 0, done.err
    assert "no need    the champion, version 1 (v20" in done.out
    demand_one_of_each(store, receiver)


def test_of_two_that_begin_at_once_one_trains(
    outside: Callable[..., Any], store: Any, options: list[str], receiver: HttpReceiver
) -> None:
    program = REPOSITORY / "entrypoints" / "retrain.py"
    processes = [outside(store.folder, sys.executable, str(program), *options) for _ in range(2)]
    said = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    # The other found it done, or under way for longer than it waits.
    assert sorted("no need    " in out for out, _ in said) == [False, True], said
    demand_one_of_each(store, receiver)
