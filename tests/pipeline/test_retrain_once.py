"""Whatever kills `retrain`, and however many begin at once: one training, promotion, publication and notice."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pcc_pipeline.tracking.registry import turns
from tests.pipeline.retrain_killed import PLACES

pytestmark = [pytest.mark.pipeline, pytest.mark.long]

NAME = "pcc-intent-classifier"
REPOSITORY = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("retrain_killed.py")


class Receiver:
    """An HTTP server that people are told at; `titles` of what it took."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        titles = self.titles

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                titles.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["title"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://127.0.0.1:{self.server.server_address[1]}/"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    one = Receiver()
    thread = threading.Thread(target=one.server.serve_forever)
    thread.start()
    monkeypatch.setenv("TEST_RECEIVER", one.address)
    yield one
    one.server.shutdown()
    thread.join()
    one.server.server_close()


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


def demand_one_of_each(store: Any, receiver: Receiver) -> None:
    client = store.client
    (version,) = client.search_model_versions(f"name='{NAME}'")
    assert version.tags["pcc.retrained"] == "promoted"
    assert version.tags["pcc.published_move"] == version.tags["pcc.move"] == "1"
    model = client.get_registered_model(NAME)
    assert model.aliases["champion"] == version.version
    assert {name: value for name, value in model.tags.items() if name.startswith("pcc.")} == {"pcc.promotions": "1"}
    assert len([run for run in store.runs() if run.data.tags.get("pcc.move")]) == 1
    assert len([run for run in store.runs() if run.info.status == "RUNNING"]) == 0
    for target in ("published", "outputs/models"):
        assert [path.name for path in (store.folder / target).iterdir()] == [version.tags["pcc.version"]]
    assert receiver.titles == [f"{NAME}: trained again"]


@pytest.mark.parametrize("place", [*PLACES])
def test_what_a_kill_leaves_is_done_by_the_next_and_nothing_twice(
    place: str,
    outside: Callable[..., Any],
    command: Callable[..., Any],
    store: Any,
    options: list[str],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "STALE_SECONDS", 1.0)
    process = outside(store.folder, sys.executable, str(PROGRAM), place, *options)
    out, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, out + err
    if place == "after the notice":  # it is told already, and not told again
        assert len(receiver.titles) == 1
    done = command("retrain", *options)
    assert done.code == 0, done.err
    demand_one_of_each(store, receiver)
    done = command("retrain", *options)
    assert done.code == 0, done.err
    assert "no need    the champion, version 1 (v20" in done.out
    demand_one_of_each(store, receiver)


def test_of_two_that_begin_at_once_one_trains(
    outside: Callable[..., Any], store: Any, options: list[str], receiver: Receiver
) -> None:
    program = REPOSITORY / "entrypoints" / "retrain.py"
    processes = [outside(store.folder, sys.executable, str(program), *options) for _ in range(2)]
    said = [process.communicate(timeout=400) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    # The other found it done, or under way for longer than it waits.
    assert sorted("no need    " in out for out, _ in said) == [False, True], said
    demand_one_of_each(store, receiver)
