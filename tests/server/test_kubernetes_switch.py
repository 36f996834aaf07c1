"""deploy/kubernetes/switch.py against a stand-in for kubectl and real servers: who is called, and when."""

from __future__ import annotations

import fcntl
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.http_servers import free_port, new_store, pcc_server

SCRIPT = Path(__file__).parents[2] / "deploy" / "kubernetes" / "switch.py"
NAME = {"app.kubernetes.io/name": "pcc-serve"}
BLUE, GREEN = {**NAME, "pcc/colour": "blue"}, {**NAME, "pcc/colour": "green"}


class Readyz(http.server.ThreadingHTTPServer):
    """A server that says of itself what it is told to."""

    def __init__(self) -> None:
        self.document: Any = {"ready": True, "champion": "v20260101_000000"}
        self.asked = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server = self.server
                assert isinstance(server, Readyz)
                server.asked += 1
                body = json.dumps(server.document).encode()
                self.send_response(200 if self.path == "/readyz" and server.document.get("ready") else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@dataclass
class Cluster:
    """What the stand-in for kubectl knows."""

    folder: Path
    servers: dict[str, Readyz] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / "state.json"

    @property
    def state(self) -> dict[str, Any]:
        for _ in range(50):
            try:
                return dict(json.loads(self.path.read_text()))
            except ValueError:  # it is being written
                time.sleep(0.02)
        raise AssertionError(self.path.read_text())

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        with self.path.open("r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            state = json.load(file)
            change(state)
            file.seek(0)
            file.truncate()
            json.dump(state, file)

    @property
    def selector(self) -> dict[str, str] | None:
        found: dict[str, str] | None = self.state["service"]["pcc-serve"]["spec"].get("selector")
        return found

    def start(self, *words: str) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            # It must not be asked for what is on this machine.
            "http_proxy": "http://127.0.0.1:1",
        }
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def switch(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, errors = process.communicate(timeout=120)
        return process.returncode, out, errors

    def patches(self, kind: str) -> list[dict[str, Any]]:
        return [
            json.loads(next(word for word in call if word.startswith("--patch=")).removeprefix("--patch="))
            for call in self.state["calls"]
            if call[2:4] == ["patch", kind]
        ]


def deployment(pods: int) -> dict[str, Any]:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), pods)
    return {
        "metadata": {"generation": 3},
        "spec": {"replicas": pods, "template": {"spec": {"containers": [{"image": "pcc-pipeline:0.1.0"}]}}},
        "status": {"observedGeneration": 3, **counts},
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Blue is called, and both have two pods that are ready."""
    cluster = Cluster(tmp_path)
    names = [f"{colour}-{number}" for colour in ("blue", "green") for number in (1, 2)]
    cluster.servers = {name: Readyz() for name in names}
    pods = {
        name: {"colour": name[:-2], "port": server.server_address[1], "kubelet": True}
        for name, server in cluster.servers.items()
    }
    limits = {"metadata": {}, "spec": {"minReplicas": 2, "maxReplicas": 8}}
    state = {
        "calls": [],
        "service": {"pcc-serve": {"metadata": {"resourceVersion": "1"}, "spec": {"selector": BLUE}}},
        "deployment": {f"pcc-serve-{colour}": deployment(2) for colour in ("blue", "green")},
        "horizontalpodautoscaler": {f"pcc-serve-{colour}": limits for colour in ("blue", "green")},
        "pods": pods,
    }
    cluster.path.write_text(json.dumps(state))
    program = tmp_path / "kubectl"
    stand_in = Path(__file__).parent / "kubectl_stand_in.py"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{stand_in}" "{cluster.path}" "$@"\n')
    program.chmod(0o755)
    yield cluster
    for server in cluster.servers.values():
        server.shutdown()
        server.server_close()


def wait_until(what: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def forwarding(cluster: Cluster) -> list[int]:
    """Processes of the stand-in that forward a port."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(cluster.path) in words and "port-forward" in words:
            found.append(process.pid)
    return found


def test_callers_move_by_way_of_both_colours_and_every_pod_was_asked(cluster: Cluster) -> None:
    code, out, errors = cluster.switch("green", "--overlap", "0.5")
    assert (code, errors) == (0, "")
    assert cluster.selector == GREEN
    selectors = [each["spec"]["selector"] for each in cluster.patches("service")]
    assert selectors == [{**NAME, "pcc/colour": None}, GREEN]
    # Before both are called, and once more before it is called alone.
    assert [cluster.servers[name].asked for name in cluster.servers] == [0, 0, 2, 2]
    assert "green      2 pods are ready, with v20260101_000000" in out
    assert out.splitlines()[-1] == "called     green"
    assert cluster.state["service"]["pcc-serve"]["metadata"]["annotations"] == {"pcc/colour-before": "blue"}
    assert cluster.patches("horizontalpodautoscaler") == []
    assert all(call[0] == "--namespace=pcc" for call in cluster.state["calls"])
    assert forwarding(cluster) == []


def test_back_goes_to_the_colour_before_and_back_again(cluster: Cluster) -> None:
    assert cluster.switch("back")[0] == 1  # there was none
    assert cluster.switch("green", "--overlap", "0")[0] == 0
    assert [each["spec"]["selector"] for each in cluster.patches("service")] == [GREEN]
    for selector in (BLUE, GREEN):
        code, _, errors = cluster.switch("back", "--overlap", "0.1")
        assert (code, errors) == (0, "")
        assert cluster.selector == selector


def test_back_to_a_colour_that_is_not_ready_moves_nobody(cluster: Cluster) -> None:
    cluster.switch("green", "--overlap", "0")
    cluster.servers["blue-1"].document = {"ready": False, "reason": "no version is on duty"}
    code, _, errors = cluster.switch("back", "--overlap", "0", "--timeout", "0")
    assert (code, cluster.selector) == (1, GREEN)
    assert "error: blue is not ready after 0 s: blue-1 is not ready: no version is on duty" in errors


def test_a_colour_that_never_gets_ready_is_not_called(cluster: Cluster) -> None:
    cluster.servers["green-2"].document = {"ready": False, "reason": "it is starting"}
    code, out, errors = cluster.switch("green", "--timeout", "4")
    assert code == 1
    assert "green      waiting: green-2 is not ready: it is starting" in out
    assert errors == "error: green is not ready after 4 s: green-2 is not ready: it is starting\n"
    assert cluster.selector == BLUE
    assert cluster.patches("service") == []
    assert cluster.servers["green-2"].asked == 2


@pytest.mark.parametrize("fault", ["no server", "kubelet", "old pods", "not taken up", "another thing"])
def test_what_kubernetes_calls_ready_is_not_enough_and_what_it_does_not_is_too_little(
    cluster: Cluster, fault: str
) -> None:
    status = ("deployment", "pcc-serve-green", "status")

    def change(state: dict[str, Any]) -> None:
        described = state[status[0]][status[1]][status[2]]
        if fault == "no server":
            state["pods"]["green-1"]["port"] = free_port()
        elif fault == "kubelet":
            state["pods"]["green-1"]["kubelet"] = False
        elif fault == "old pods":
            described["updatedReplicas"] = 1
        elif fault == "not taken up":
            described["observedGeneration"] = 2

    cluster.change(change)
    if fault == "another thing":
        cluster.servers["green-1"].document = {"ready": "yes"}
    code, _, errors = cluster.switch("green", "--timeout", "0")
    assert (code, cluster.selector) == (1, BLUE)
    reason = {
        "no server": "green-1 is not ready: it does not answer",
        "kubelet": "1 of 2 pods are ready",
        "old pods": "1 pods are of an earlier description",
        "not taken up": "its newest description is not taken up yet",
        "another thing": "green-1 is not ready: it does not answer",
    }[fault]
    assert errors == f"error: green is not ready after 0 s: {reason}\n"


def test_the_new_colour_gets_as_many_pods_as_the_old_one_has(cluster: Cluster) -> None:
    cluster.change(lambda state: state["deployment"].update({"pcc-serve-blue": deployment(3)}))
    process = cluster.start("green", "--overlap", "0", "--timeout", "60")
    wait_until(lambda: cluster.patches("horizontalpodautoscaler"))
    assert cluster.patches("horizontalpodautoscaler") == [{"spec": {"minReplicas": 3}}]
    time.sleep(1)
    assert cluster.selector == BLUE
    third = cluster.servers["green-3"] = Readyz()
    pod = {"colour": "green", "port": third.server_address[1], "kubelet": True}
    cluster.change(lambda state: state["pods"].update({"green-3": pod}))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "green      gets 3 pods, as many as are called now" in out
    assert cluster.selector == GREEN


def test_the_first_colour_ever_is_called_at_once(cluster: Cluster) -> None:
    cluster.change(lambda state: state["service"]["pcc-serve"]["spec"].pop("selector"))
    code, _, errors = cluster.switch("blue")
    assert (code, errors, cluster.selector) == (0, "", BLUE)
    assert cluster.switch("back")[0] == 1


def test_the_colour_that_is_called_already_changes_nothing(cluster: Cluster) -> None:
    code, out, _ = cluster.switch("blue")
    assert (code, out) == (0, "called     blue, as before: nothing is changed\n")
    assert cluster.patches("service") == []


def test_a_colour_that_fails_while_both_are_called_is_taken_out_again(cluster: Cluster) -> None:
    process = cluster.start("green", "--overlap", "2")
    wait_until(lambda: cluster.selector == NAME)
    cluster.servers["green-1"].document = {"ready": False, "reason": "no version is on duty"}
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert cluster.selector == BLUE
    assert out.splitlines()[-1] == "called     blue"
    assert "was ready, and is not any more: green-1 is not ready: no version is on duty" in errors
    assert "annotations" not in cluster.state["service"]["pcc-serve"]["metadata"] or (
        cluster.state["service"]["pcc-serve"]["metadata"]["annotations"] == {}
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_waits_leaves_callers_where_they_were(cluster: Cluster, number: signal.Signals) -> None:
    cluster.servers["green-1"].document = {"ready": False}
    process = cluster.start("green")
    wait_until(lambda: cluster.servers["green-1"].asked)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert errors == f"ended by {number.name}\n"
    assert cluster.selector == BLUE
    wait_until(lambda: not forwarding(cluster))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_both_are_called_takes_the_new_one_out_again(cluster: Cluster, number: signal.Signals) -> None:
    process = cluster.start("green", "--overlap", "60")
    wait_until(lambda: cluster.selector == NAME)
    process.send_signal(number)
    process.send_signal(number)  # who is impatient cuts the way back short no more than the way there
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert cluster.selector == BLUE
    assert out.splitlines()[-1] == "called     blue"


@pytest.mark.parametrize("overlap", ["0", "0.1"])
def test_a_signal_during_the_change_itself_waits_for_it_and_what_stands_is_said(cluster: Cluster, overlap: str) -> None:
    cluster.change(lambda state: state.update(slow={"patch": 1.5}))
    process = cluster.start("green", "--overlap", overlap)
    wait_until(lambda: cluster.patches("service")[-1:] == [{**last_change(cluster), "spec": {"selector": GREEN}}])
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert cluster.selector == GREEN
    assert out.splitlines()[-1] == "called     green"


def last_change(cluster: Cluster) -> dict[str, Any]:
    return (cluster.patches("service") or [{}])[-1]


def test_a_switch_that_was_killed_while_both_were_called_is_ended_by_the_next(cluster: Cluster) -> None:
    for colour, selector in (("green", GREEN), ("back", BLUE)):
        cluster.change(lambda state: state["service"]["pcc-serve"]["spec"].update(selector=BLUE))
        process = cluster.start("green", "--overlap", "60")
        wait_until(lambda: cluster.selector == NAME)
        process.kill()
        process.communicate()
        assert "called     both colours; before: blue" in cluster.switch()[1]
        assert cluster.switch(colour)[0] == 0
        assert cluster.selector == selector


def test_somebody_elses_change_is_not_undone(cluster: Cluster) -> None:
    other = {"app": "maintenance"}
    process = cluster.start("green", "--overlap", "2")
    wait_until(lambda: cluster.selector == NAME)
    cluster.change(lambda state: state["service"]["pcc-serve"]["spec"].update(selector=other))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "somebody else changed the Service" in errors
    assert cluster.selector == other


def test_a_controller_that_writes_to_the_service_meanwhile_is_no_reason_to_give_up(cluster: Cluster) -> None:
    cluster.change(lambda state: state.update(conflicts=2))
    assert cluster.switch("green", "--overlap", "0.1")[0] == 0
    assert cluster.selector == GREEN


def test_what_kubernetes_refuses_is_told_in_its_words(cluster: Cluster) -> None:
    cluster.change(lambda state: state.update(refuses="patch"))
    code, _, errors = cluster.switch("green")
    assert code == 1
    assert errors == "error: kubectl patch service: Error from server (Forbidden): you may not patch\n"
    assert cluster.selector == BLUE
    (cluster.folder / "kubectl").unlink()
    found = shutil.which("kubectl")
    if found is None:
        assert cluster.switch("green")[2] == "error: there is no kubectl on the PATH\n"


def test_without_a_colour_it_shows_what_is_there(cluster: Cluster) -> None:
    cluster.change(lambda state: state["deployment"].pop("pcc-serve-green"))
    code, out, _ = cluster.switch()
    assert code == 0
    assert out.splitlines() == [
        "called     blue; before: none",
        "blue       2 of 2 pods ready, pcc-pipeline:0.1.0",
        "green      not there",
    ]
    assert cluster.switch("red")[0] == 2


@pytest.mark.long
@pytest.mark.pipeline
def test_it_waits_for_a_real_server_that_loads_its_version(cluster: Cluster, tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add("v20260102_000000", "champion")
    with pcc_server(store, wait=False) as server:
        port = int(server.address.rpartition(":")[2])
        cluster.change(lambda state: state["pods"]["green-1"].update(port=port))
        began = time.monotonic()
        code, out, errors = cluster.switch("green", "--overlap", "0", "--timeout", "120")
    assert (code, errors) == (0, "")
    assert "green-1 is not ready: it does not answer" in out
    assert time.monotonic() - began > 2
    assert "with v20260101_000000 and v20260102_000000" in out
    assert cluster.selector == GREEN
