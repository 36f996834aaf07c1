"""What is told of a cluster whose last worker went."""

from __future__ import annotations

import threading
import time

import pytest

from pcc_pipeline.search.pools import dask_cluster


class Client:
    """Of a cluster that has workers, or none."""

    def __init__(self) -> None:
        self.threads: dict[str, int] = {"tcp://worker": 1}
        self.looks = 0

    def nthreads(self, **_: object) -> dict[str, int]:
        self.looks += 1
        if self.looks == 2:
            raise TimeoutError("a scheduler that has much to do")
        return self.threads

    def looked(self, times: int, since: int | None = None) -> None:
        """Wait for so many looks, from now on or since there were so many."""
        before, end = self.looks if since is None else since, time.monotonic() + 20
        while self.looks < before + times:
            assert time.monotonic() < end
            time.sleep(0.001)


def test_a_run_says_once_and_then_from_time_to_time_that_it_waits_for_a_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dask_cluster, "_LOOK", 0.001)
    caplog.set_level("INFO")
    client, waits = Client(), threading.Event()
    said = "the cluster at tcp://host:8786 has no worker any more, and this waits for the next one that comes"
    with dask_cluster.DaskCluster("tcp://host:8786", 1).watched(client, lambda: client.looks < 4 or waits.is_set()):
        client.looked(4, since=0)
        assert not caplog.messages
        client.threads = {}
        time.sleep(0.05)
        assert not caplog.messages, "nothing is under way"
        waits.set()
        client.looked(20)
        assert [message.partition(": start")[0] for message in caplog.messages] == [said]
        assert "dask worker tcp://host:8786 --nthreads 1" in caplog.messages[0]
        client.threads = {"tcp://another": 1}
        client.looked(3)
        assert caplog.messages[1:] == ["the cluster at tcp://host:8786 has a worker again, and it goes on"]
        monkeypatch.setattr(dask_cluster, "_AGAIN", 0.0)
        client.threads = {}
        client.looked(10)
        assert len(caplog.messages) > 4
    assert not [thread for thread in threading.enumerate() if thread.name == "pcc-dask-watch"]
