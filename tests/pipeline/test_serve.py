"""`pcc serve`: the champion of now behind HTTP, whatever happens around it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest

from pcc_pipeline.config import load_params
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import ModelError, TrackingError
from pcc_pipeline.serving.follow import Followed
from pcc_pipeline.steps.erasing.published import published_as, unpublish
from pcc_pipeline.tracking.logged_models import served_model
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.registry.erased import mark_version, take_alias
from tests import process_state
from tests.certificates import new_certificate
from tests.http_servers import EXAMPLES, PHRASES, Server, Store, new_store, pcc_server, small_model

pytestmark = pytest.mark.pipeline
MARK = "Zanzibarkowski"
FIRST, SECOND = "v20260101_000000", "v20260102_000000"
# The second version's labels are its own, so that no answer can be taken for the first one's.
OTHER = [(text, f"other_{label}") for text, label in EXAMPLES]
FAST = ("--set", "serving.follow_seconds=0.3")


def ask(server: Server, body: Any, path: str = "/v1/classify", **headers: str) -> tuple[int, dict[str, Any], Any]:
    """Status, document and headers of the reply to a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{server.address}{path}", data, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply), reply.headers
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read()), refusal.headers


def get(server: Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{server.address}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def reached(server: Server) -> bool:
    with contextlib.suppress(OSError):  # nobody listens, or who does is slow to begin
        return bool(get(server, "/healthz")[0] == 200)
    return False


def champion(server: Server) -> str | None:
    document = json.loads(get(server, "/readyz")[1])
    name: str | None = document["champion"]
    return name


def wait_until(what: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


@contextlib.contextmanager
def callers(server: Server, count: int) -> Iterator[list[tuple[float, int, str]]]:
    """Clients that ask again and again meanwhile: when each request was sent, its status, and who answered."""
    replies: list[tuple[float, int, str]] = []
    ended = threading.Event()

    def call(number: int) -> None:
        while not ended.is_set():
            began = time.monotonic()
            try:
                status, document, _ = ask(server, {"text": EXAMPLES[number % len(EXAMPLES)][0]})
                rows = document.get("predictions", [])
                # Version and label belong together, or it was half of one model and half of another.
                named = {(row["model_version"], row["predicted_label"].startswith("other_")) for row in rows}
                assert named <= {(FIRST, False), (SECOND, True)}
                replies.append((began, status, rows[0]["model_version"] if rows else ""))
            except Exception as error:  # a request that is lost in any way is a failed one
                replies.append((began, 0, repr(error)))
            number += 1

    with ThreadPoolExecutor(count) as pool:
        calls = [pool.submit(call, number) for number in range(count)]
        try:
            yield replies
        finally:
            ended.set()
            for each in calls:
                each.result()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = new_store(tmp_path_factory.mktemp("serve"))
    store.add(FIRST, "champion")
    return store


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[Server]:
    with pcc_server(store) as server:
        yield server


def test_it_says_how_to_try_it_and_the_line_works(server: Server) -> None:
    wait_until(lambda: "end:" in server.log.read_text())
    text = server.log.read_text()
    assert f"serving    {FIRST} at {server.address}" in text
    body = text.partition("-d '")[2].partition("'")[0]
    assert ask(server, body.encode())[1]["predictions"][0]["predicted_label"] in PHRASES


def test_one_message_and_several_with_their_ids_and_probabilities(server: Server) -> None:
    status, one, _ = ask(server, {"text": "erase my profile"})
    assert (status, one["model_version"]) == (200, FIRST)
    (row,) = one["predictions"]
    made = served_model.made_case_id("erase my profile")
    assert row["case_id"] == made
    assert (row["predicted_label"], row["decided"], row["note"]) == ("data_deletion", True, None)
    cases = [{"case_id": 7, "text": "stop the calls"}, {"case_id": "b", "text": "send me my data"}]
    _, several, _ = ask(server, {"cases": cases, "probabilities": True})
    assert [row["case_id"] for row in several["predictions"]] == ["7", "b"]
    assert [row["predicted_label"] for row in several["predictions"]] == ["opt_out", "privacy_request"]
    for row in several["predictions"]:
        assert set(row["probabilities"]) == set(PHRASES)
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert max(row["probabilities"].values()) == row["confidence"]


def test_the_answers_are_those_of_the_model_whatever_stands_beside_a_text(server: Server) -> None:
    model, encoder = small_model(FIRST), SentenceEncoder(backend="auto")
    texts = [text for text, _ in EXAMPLES] + [
        f"{text}, and quickly!" * (1 + number) for number, (text, _) in enumerate(EXAMPLES[:8])
    ]
    expected = model.probabilities(encoder.encode(texts), texts)
    chance = random.Random(0)
    groups: list[list[int]] = [[place] for place in range(len(texts))]
    groups += [chance.sample(range(len(texts)), chance.randint(2, len(texts))) for _ in range(24)]
    chance.shuffle(groups)

    def check(group: list[int]) -> None:
        body = {"cases": [{"text": texts[place]} for place in group], "probabilities": True}
        status, document, _ = ask(server, body)
        assert status == 200
        for place, row in zip(group, document["predictions"], strict=True):
            given = [row["probabilities"][label] for label in model.classes]
            assert given == pytest.approx(expected[place], abs=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, groups))


def test_a_row_that_is_no_text_refuses_itself_alone(server: Server) -> None:
    cases = [None, "", " ", 7, ["a"], {"a": MARK}, MARK * 1000, "erase my profile"]
    _, document, _ = ask(server, {"cases": [{"text": text, "case_id": n} for n, text in enumerate(cases)]})
    rows = document["predictions"]
    assert [row["predicted_label"] for row in rows] == [None] * 7 + ["data_deletion"]
    assert [row["note"] for row in rows] == [
        "not predicted: text missing",
        "not predicted: text blank",
        "not predicted: text blank",
        "not predicted: text not a string",
        "not predicted: text not a string",
        "not predicted: text not a string",
        "not predicted: text longer than 10,000 characters",
        None,
    ]
    assert not any(row["decided"] for row in rows[:7])
    lone = b'{"cases": [{"text": "a \\ud800"}, {"text": "erase my profile", "case_id": [1]}, {"vector": [1, NaN]}, '
    lone += b'{"vector": [' + b"9" * 400 + b"]}]}"
    _, document, _ = ask(server, lone)
    assert [row["note"] for row in document["predictions"]] == [
        "not predicted: text not valid Unicode (a lone surrogate)",
        "not predicted: case_id neither text nor a number",
        "not predicted: vector not 584 numbers",
        "not predicted: vector not a list of numbers",
    ]
    assert ask(server, {"cases": []})[1]["predictions"] == []


def test_whole_vectors_are_taken_if_they_are_of_the_models_encoder(server: Server) -> None:
    vector = [0.01] * 584
    status, document, _ = ask(server, {"vector": vector, "encoder_digest": SentenceEncoder().digest})
    assert (status, document["predictions"][0]["decided"]) == (200, True)
    status, document, _ = ask(server, {"vector": vector, "encoder_digest": "0" * 64})
    assert (status, document["error"]["code"]) == (409, "another_encoder")


BAD: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b'{"text": "' + MARK.encode(), 400, "not_json"),
    "not UTF-8": (json.dumps({"text": MARK}).encode("utf-16"), 400, "not_json"),
    "a deep nest": (b'{"cases": ' + b"[" * 100_000, 400, "not_json"),
    "a field twice": (json.dumps({"text": MARK})[:-1].encode() + b', "text": "a"}', 400, "not_json"),
    "a number of 5,000 digits": (b'{"text": ' + b"1" * 5000 + b"}", 400, "not_json"),
    "a list": (json.dumps([MARK]).encode(), 400, "not_an_object"),
    "nothing": (b"{}", 400, "no_cases"),
    "both": (json.dumps({"text": MARK, "cases": []}).encode(), 400, "no_cases"),
    "an unknown field": (json.dumps({"text": "a", MARK: 1}).encode(), 400, "unknown_field"),
    "cases that are none": (json.dumps({"cases": [MARK]}).encode(), 400, "not_cases"),
    "a case with more": (json.dumps({"cases": [{"text": "a", MARK: 1}]}).encode(), 400, "not_cases"),
    "no truth": (json.dumps({"text": "a", "probabilities": MARK}).encode(), 400, "not_a_truth"),
    "no digest": (json.dumps({"text": "a", "encoder_digest": [MARK]}).encode(), 400, "not_a_digest"),
    "too many": (json.dumps({"cases": [{"text": "a"}] * 1001}).encode(), 413, "too_many_cases"),
    "too large": (b" " * 17_000_000, 413, "too_large"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_and_nothing_of_it_repeated(server: Server, name: str) -> None:
    body, expected, code = BAD[name]
    try:
        status, document, _ = ask(server, body)
    except urllib.error.URLError:  # the server hung up before it had read all of a body that it will not have
        assert name == "too large"
        return
    assert (status, document["error"]["code"]) == (expected, code)
    assert MARK not in json.dumps(document) + server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_other_content_types_paths_and_methods_are_refused(server: Server) -> None:
    assert ask(server, {"text": "a"}, Content_Type="text/plain")[0] == 415
    assert get(server, "/nowhere")[0] == 404
    assert get(server, "/v1/classify")[0] == 405


def test_a_caller_who_hangs_up_is_counted_and_nothing_is_left(server: Server) -> None:
    body = json.dumps({"cases": [{"text": f"{text} {n}"} for n in range(12) for text, _ in EXAMPLES]}).encode()
    host, _, port = server.address.rpartition("/")[2].partition(":")
    with socket.create_connection((host, int(port))) as caller:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        caller.sendall(f"{head}\r\n\r\n".encode() + body)
        time.sleep(0.05)
    wait_until(lambda: "pcc_queue_texts 0.0" in get(server, "/metrics")[1])
    assert ask(server, {"text": "erase my profile"})[0] == 200


def raw(server: Server) -> socket.socket:
    host, _, port = server.address.rpartition("/")[2].partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


ENDLESS = {
    "headers": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n", b"a: b\r\n"),
    "one header": (b"GET /healthz HTTP/1.1\r\nHost: a\r\na: ", b"bbbbbb"),
    "an address": (b"GET /", b"aaaaaa"),
    "trailers": (
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
        b"a: b\r\n",
    ),
    "the size of a chunk": (
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2;",
        b"aaaaaa",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_comes_beside_a_body_without_end_is_refused_soon(server: Server, name: str) -> None:
    begin, more = ENDLESS[name]
    with raw(server) as client:
        client.sendall(begin)
        sent = 0
        with contextlib.suppress(OSError):  # the server hung up
            while sent < 20_000_000:
                client.sendall(more * 1000)
                sent += 1000 * len(more)
    # What the system holds for both sides is some megabytes.
    assert sent < 20_000_000
    assert reached(server)


def test_an_offer_of_another_protocol_is_passed_over(server: Server) -> None:
    """As curl --http2 and Java's client send it on plain connections; the body may come later, and another request."""
    body = json.dumps({"text": "erase my profile"}).encode()
    head = (
        b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    )
    sized, chunked = b"Content-Length: %d\r\n\r\n" % len(body), b"Transfer-Encoding: chunked\r\n\r\n"
    for parts in (
        [head + sized + body],
        [head + sized, body],
        [head[:90], head[90:] + sized + body[:5], body[5:]],
        [head + chunked + b"5\r\n" + body[:5] + b"\r\n", b"%x\r\n" % (len(body) - 5) + body[5:] + b"\r\n0\r\n\r\n"],
    ):
        connection = http.client.HTTPConnection("unused", timeout=30)
        with raw(server) as connection.sock:
            for part in parts:
                connection.sock.sendall(part)
                time.sleep(0.1)
            reply = http.client.HTTPResponse(connection.sock)
            reply.begin()
            assert (reply.status, json.load(reply)["predictions"][0]["predicted_label"]) == (200, "data_deletion")
            if reply.will_close:
                continue
            connection.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.sock.recv(15) == b"HTTP/1.1 200 OK"
    with raw(server) as client:
        client.sendall(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(10).startswith(b"HTTP/1.1 4")
    assert "websockets" not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.long
def test_who_reads_no_answer_is_let_go(server: Server) -> None:
    with raw(server) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 2000)
        number = client.getsockname()[1]
        wait_until(
            lambda: (
                not [
                    one
                    for one in psutil.net_connections("tcp")
                    if one.laddr and one.raddr and one.raddr.port == number and one.status == "ESTABLISHED"
                ]
            ),
            90,
        )


def test_the_queue_is_empty_once_all_are_answered(server: Server) -> None:
    for _ in range(3):
        assert ask(server, {"cases": [{"text": text} for text, _ in EXAMPLES]})[0] == 200
    assert "pcc_queue_texts 0.0" in get(server, "/metrics")[1]


def test_metrics_count_and_openapi_describes(server: Server) -> None:
    ask(server, {"text": f"{MARK} erase my profile"})
    metrics = get(server, "/metrics")[1]
    assert f'pcc_predictions_total{{label="data_deletion",model_version="{FIRST}"}}' in metrics
    assert f'pcc_version_info{{model_version="{FIRST}",role="champion"}} 1.0' in metrics
    for name in (
        "pcc_requests_total",
        "pcc_batch_texts_bucket",
        "pcc_request_seconds_bucket",
        "pcc_rows_refused_total",
    ):
        assert name in metrics
    assert MARK not in metrics
    paths = json.loads(get(server, "/openapi.json")[1])["paths"]
    assert set(paths) == {"/v1/classify", "/healthz", "/readyz", "/metrics"}


def test_a_page_in_a_browser_gets_nothing_from_here(server: Server) -> None:
    host, _, port = server.address.rpartition("/")[2].partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(
        "OPTIONS", "/v1/classify", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    with contextlib.closing(connection):
        reply = connection.getresponse()
        reply.read()
    assert reply.status == 405
    assert not [name for name, _ in reply.getheaders() if name.lower().startswith("access-control")]


def test_promotions_rollbacks_and_bad_versions_are_taken_up_or_refused_while_it_is_asked(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    one, two = store.add(FIRST, "champion"), store.add(SECOND, None, OTHER)
    bad = store.add("v20260103_000000", None, EXAMPLES[::2])
    with pcc_server(store, *FAST) as server, callers(server, 8) as replies:
        for number, name in ((two, SECOND), (one, FIRST), (two, SECOND)):
            store.point("champion", number)
            wait_until(lambda name=name: champion(server) == name)
            switched = time.monotonic()
            wait_until(lambda switched=switched: sum(began > switched for began, _, _ in replies) > 20)
            assert {who for began, _, who in replies if began > switched} == {name}
        # The newest bundle in the store.
        (altered,) = [
            file
            for file in (tmp_path / "store" / "artifacts").rglob("classifier.skops")
            if file.stat().st_mtime
            == max(other.stat().st_mtime for other in (tmp_path / "store" / "artifacts").rglob("classifier.skops"))
        ]
        altered.write_bytes(altered.read_bytes()[:-1] + b"x")
        store.point("champion", bad)
        wait_until(lambda: "refused" in json.loads(get(server, "/readyz")[1]))
        assert champion(server) == SECOND
        assert "pcc_versions_refused 1.0" in get(server, "/metrics")[1]
        store.point("champion", one)
        wait_until(lambda: champion(server) == FIRST)
        assert "refused" not in json.loads(get(server, "/readyz")[1])
    assert len(replies) > 100
    assert {status for _, status, _ in replies} == {200}
    log = server.log.read_text()
    assert "is refused, v20260102_000000 goes on" in log
    assert "altered after the model was logged" in log


@pytest.mark.long
def test_it_serves_on_without_the_registry_and_begins_without_it(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    database, away = tmp_path / "store" / "mlflow.db", tmp_path / "away.db"
    with pcc_server(store, *FAST) as server:
        database.rename(away)
        shutil.rmtree(tmp_path / "store" / "artifacts")
        wait_until(lambda: json.loads(get(server, "/readyz")[1]).get("registry") == "away")
        assert ask(server, {"text": "erase my profile"})[0] == 200
    with pcc_server(store, *FAST) as server:
        assert ask(server, {"text": "erase my profile"})[1]["predictions"][0]["predicted_label"] == "data_deletion"
        away.rename(database)
        wait_until(lambda: "registry" not in json.loads(get(server, "/readyz")[1]))
    # What was altered on this machine is not served.
    (kept,) = (tmp_path / "store" / "empty" / "outputs" / "serving").glob("*/classifier.skops")
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    database.rename(away)
    with pcc_server(store, *FAST, wait=False) as server:
        wait_until(lambda: reached(server))
        assert get(server, "/readyz")[0] == 503
        assert "altered after the model was logged" in server.log.read_text()


@pytest.mark.long
def test_a_version_that_was_erased_is_taken_off_duty(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    number = store.add(FIRST, "champion")
    with pcc_server(store, *FAST) as server:
        client = mlflow.MlflowClient(store.uri)
        client.delete_registered_model_alias("served", "champion")
        wait_until(lambda: "refused" in json.loads(get(server, "/readyz")[1]))
        assert ask(server, {"text": "erase my profile"})[0] == 200
        client.delete_model_version("served", number)
        wait_until(lambda: get(server, "/readyz")[0] == 503)
        status, document, headers = ask(server, {"text": "erase my profile"})
        assert (status, document["error"]["code"], headers["Retry-After"]) == (503, "no_model", "5")
        second = store.add(SECOND, "champion", OTHER)
        wait_until(lambda: get(server, "/readyz")[0] == 200)
        # As `erase` does where it may not train again.
        with process_state.mlflow_undone():
            mlflow.set_tracking_uri(store.uri)
            run_id = client.get_model_version("served", second).run_id
            params = load_params(None, settings=[f"serving.models_dir={store.folder}/empty/outputs/serving"])
            (copy,) = published_as(params, run_id, [])
            assert (Path(copy) / "classifier.skops").is_file()
            mark_version("served", second, "e-1: learned from 2 rows of erased persons")
            take_alias("served", second, "champion")
            unpublish([copy])
        wait_until(lambda: get(server, "/readyz")[0] == 503)
        assert not Path(copy).exists()


def test_what_is_served_by_another_address_than_the_champions_is_withdrawn_if_it_is_deleted_and_not_before(
    tmp_path: Path,
) -> None:
    store = new_store(tmp_path / "store")
    number = store.add(FIRST, "tried")
    settings = [f"serving.models_dir={tmp_path}/serving", "registry.model_name=another"]
    with process_state.mlflow_undone():
        mlflow.set_tracking_uri(store.uri)
        by_alias, by_number = (
            Followed(load_params(None, settings=settings), uri)
            for uri in ("models:/served@tried", f"models:/served/{number}")
        )
        for followed in (by_alias, by_number):
            followed.first()
        client = mlflow.MlflowClient()
        client.delete_registered_model_alias("served", "tried")
        for followed in (by_alias, by_number):
            followed.look()
            assert (followed.duty.champion is not None, followed.away) == (True, None)
        with pytest.raises(TrackingError, match="has no alias tried"):
            Followed(load_params(None, settings=settings), "models:/served@tried").bring()
        client.delete_model_version("served", number)
        for followed in (by_alias, by_number):
            followed.look()
            assert (followed.duty.champion, followed.away) == (None, None)


def altered(store: Store, number: str) -> None:
    """Another byte in the model of a version, so that no server takes it."""
    model_id = mlflow.MlflowClient().get_model_version("served", number).source.removeprefix("models:/")
    (file,) = store.folder.glob(f"artifacts/**/{model_id}/**/classifier.skops")
    file.write_bytes(file.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("how", "policy"),
    [
        ("marked", "retrain"),
        *(
            pytest.param(how, policy, marks=pytest.mark.long)
            for how, policy in [("marked", "note"), ("deleted", "retrain"), ("deleted", "note")]
        ),
    ],
)
def test_what_was_erased_does_not_serve_on_where_its_successor_is_refused_nor_after_a_restart(
    tmp_path: Path, how: str, policy: str
) -> None:
    store = new_store(tmp_path / "store")
    first, second = store.add(FIRST, "champion"), store.add(SECOND, None, OTHER)
    settings = [f"serving.models_dir={tmp_path}/serving", "registry.model_name=served"]
    params = load_params(None, settings=[*settings, f"registry.erasure_policy={policy}"])
    with process_state.mlflow_undone():
        mlflow.set_tracking_uri(store.uri)
        altered(store, second)
        followed, away = Followed(params, None), Followed(params, None)
        followed.first()
        versions.set_alias("served", "champion", second)
        followed.look()
        assert followed.duty.champion is not None
        assert "altered" in followed.refused[0].reason
        again = Followed(params, None)
        again.first()
        assert again.duty.champion is not None
        # As `erase` does at last, and with `block` at once.
        if how == "deleted":
            mlflow.MlflowClient().delete_model_version("served", first)
        else:
            mark_version("served", first, "e-1: learned from 2 rows of erased persons")
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/nowhere/mlflow.db")
        away.first()  # nobody can tell
        assert away.duty.champion is not None
        mlflow.set_tracking_uri(store.uri)
        stays = (how, policy) == ("marked", "note")
        again.look()
        assert (again.duty.champion is not None) == stays
        last = Followed(params, None)
        if stays:
            last.first()
            assert last.duty.champion is not None
            return
        with pytest.raises(ModelError, match="altered"):
            last.first()
        followed.look()
        assert (followed.duty.champion, followed.away) == (None, None)


@pytest.mark.long
@pytest.mark.parametrize("whole_group", [False, True])
def test_it_ends_once_it_has_answered_what_it_took(tmp_path: Path, whole_group: bool) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    with pcc_server(store, "--set", "serving.drain_seconds=2") as server:
        with callers(server, 8) as replies:
            wait_until(lambda: len(replies) > 20)
            if whole_group:  # as a terminal's Ctrl-C, and systemd
                os.killpg(server.process.pid, signal.SIGTERM)
            else:
                server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: get(server, "/readyz")[0] == 503)
            said_no = time.monotonic()
            time.sleep(1)
        # Who was told to send no more, and did, has been answered all the same.
        assert {status for _, status, _ in replies} == {200}
        assert any(began > said_no for began, _, _ in replies)
        assert server.process.wait(40) == 0
    assert "ended      what was taken has been answered" in server.log.read_text()


@pytest.mark.long
def test_a_worker_that_is_killed_is_started_anew(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    with pcc_server(store) as server:
        workers = [
            child
            for child in psutil.Process(server.process.pid).children(recursive=True)
            if "resource_tracker" not in " ".join(child.cmdline())
        ]
        (worker,) = [child for child in workers if child.net_connections(kind="tcp")] or workers
        worker.send_signal(signal.SIGKILL)
        # The socket stays, so that who asks now waits and is answered.
        assert ask(server, {"text": "erase my profile"})[0] == 200


@pytest.mark.long
def test_workers_end_with_their_parent_and_the_address_is_free(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    with pcc_server(store) as server:
        server.process.kill()
        wait_until(lambda: not reached(server), 30)
        with socket.create_server(("127.0.0.1", int(server.address.rpartition(":")[2]))):
            pass


@pytest.mark.long
def test_overload_is_told_at_once_and_what_is_taken_is_answered(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    small = [
        "serving.queue_texts=40",
        "serving.request_texts=40",
        "serving.batch_texts=8",
        "serving.requests_per_minute=500",
    ]
    with pcc_server(store, *(word for each in small for word in ("--set", each))) as server:
        long = {"cases": [{"text": f"{text} {n} " * 40} for n, (text, _) in enumerate(EXAMPLES[:20])]}
        with ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(lambda _: ask(server, long), range(24)))
        statuses = [status for status, _, _ in replies]
        assert set(statuses) == {200, 429}
        for status, document, headers in replies:
            if status == 429:
                assert document["error"]["code"] == "full"
                assert 1 <= int(headers["Retry-After"]) <= 60
        # A body that does not come, and one that comes in time for no answer.
        host, _, port = server.address.rpartition("/")[2].partition(":")
        head = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            slow.sendall(head + b'{"text": "')
            assert slow.recv(12) == b"HTTP/1.1 408"
        # And one caller's share.
        with ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(lambda _: ask(server, b"{}")[1]["error"]["code"], range(600)))
        assert "too_many_requests" in codes


@pytest.mark.long
def test_tokens_let_in_who_has_one_and_nobody_else(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    file = tmp_path / "tokens"
    of_file = ["--set", f"serving.tokens_file={file}"]
    with pcc_server(store, "--new-token", "web", *of_file, wait=False) as made:
        assert made.process.wait(60) == 0
    token = made.log.read_text().splitlines()[-2]
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    with pcc_server(store, "--host", "0.0.0.0", *of_file, "--set", "serving.accounts=tokens") as server:
        local = f"http://127.0.0.1:{server.address.rpartition(':')[2]}"
        assert local == server.address
        status, document, headers = ask(server, {"text": "erase my profile"})
        assert (status, document["error"]["code"], headers["WWW-Authenticate"]) == (
            401,
            "no_token",
            'Bearer realm="pcc"',
        )
        assert ask(server, {"text": "erase my profile"}, Authorization=f"Bearer {token}")[0] == 200
        assert get(server, "/metrics")[0] == 401
        assert get(server, "/readyz")[0] == 200
        file.write_text("# nobody\nother " + "0" * 64 + "\n")
        assert ask(server, {"text": "erase my profile"}, Authorization=f"Bearer {token}")[0] == 401
    with pcc_server(store, *of_file, "--set", "serving.accounts=tokens serving.open_metrics=true") as server:
        assert get(server, "/metrics")[0] == 200
        assert ask(server, {"text": "erase my profile"})[0] == 401
    with pcc_server(store, "--host", "0.0.0.0", wait=False) as refused:
        assert refused.process.wait(60) == 1
    assert "set accounts to tokens or tracking" in refused.log.read_text()


@pytest.mark.long
def test_it_speaks_https_and_ends_connections_that_ask_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    certificate, private = new_certificate(tmp_path)
    options = [f"serving.tls_certificate={certificate}", f"serving.tls_key={private}"]
    with pcc_server(store, *(word for one in options for word in ("--set", one)), scheme="https", wait=False) as server:
        wait_until(lambda: "end:" in server.log.read_text())
        assert f"serving    {FIRST} at {server.address}" in server.log.read_text()
        context = ssl.create_default_context(cafile=str(certificate))
        body, kind = b'{"text": "erase my profile"}', {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.address}/v1/classify", body, kind)
        with urllib.request.urlopen(request, timeout=30, context=context) as reply:
            assert json.load(reply)["predictions"][0]["predicted_label"] == "data_deletion"
    with pcc_server(store) as server:
        host, _, port = server.address.rpartition("/")[2].partition(":")
        with socket.create_connection((host, int(port))) as silent, socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nX-")
            began = time.monotonic()
            for connection in (silent, slow):
                connection.settimeout(60)
                assert connection.recv(1) == b""
            assert 15 < time.monotonic() - began < 40


@pytest.mark.long
def test_the_challenger_answers_its_share_or_beside(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "champion")
    store.add(SECOND, "challenger", OTHER)
    cases = [{"case_id": str(number), "text": EXAMPLES[number % len(EXAMPLES)][0]} for number in range(200)]
    with pcc_server(store, "--set", "ab_test.challenger_share=0.3") as server:
        rows = [ask(server, {"cases": cases})[1]["predictions"] for _ in range(2)]
        assert rows[0] == rows[1]
        theirs = [row for row in rows[0] if row["model_version"] == SECOND]
        assert 30 < len(theirs) < 90
        assert all(row["predicted_label"].startswith("other_") == (row in theirs) for row in rows[0])
        (one,) = ask(server, {"inputs": [cases[0]]}, "/invocations")[1]["predictions"]
        assert one["model_version"] == rows[0][0]["model_version"]
    with pcc_server(store, "--set", "ab_test.shadow=true") as server:
        rows = [ask(server, {"cases": cases})[1]["predictions"]]
        assert {row["model_version"] for row in rows[0]} == {FIRST}
        wait_until(lambda: 'pcc_shadow_rows_total{same="false"} 200.0' in get(server, "/metrics")[1])


@pytest.mark.long
def test_what_a_user_can_mend_is_told_before_anything_listens(tmp_path: Path) -> None:
    store = new_store(tmp_path / "store")
    store.add(FIRST, "challenger")
    with pcc_server(store, "--set", "registry.model_name=another", wait=False) as nothing:
        assert nothing.process.wait(60) == 1
    assert "no model is registered as another" in nothing.log.read_text()
    with pcc_server(store, wait=False) as unpromoted:
        assert unpromoted.process.wait(60) == 1
    assert "promote one with: pcc promote" in unpromoted.log.read_text()
    store.point("champion", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pcc_server(store, "--port", port, wait=False) as busy:
            assert busy.process.wait(60) == 1
    assert "this address cannot be listened at" in busy.log.read_text()
    no_pem = tmp_path / "key.pem"
    no_pem.write_text("no key\n")
    with pcc_server(
        store, "--set", f"serving.tls_certificate={no_pem}", "--set", f"serving.tls_key={no_pem}", wait=False
    ) as unpaired:
        assert unpaired.process.wait(60) == 1
    assert "certificate and key cannot be used" in unpaired.log.read_text()
    if os.geteuid() == 0:  # may mount a small disk
        small = tmp_path / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=True, timeout=20)
        try:
            with pcc_server(store, "--set", f"serving.models_dir={small}", wait=False) as full:
                assert full.process.wait(60) == 1
            assert not list(small.iterdir())
        finally:
            subprocess.run(["umount", str(small)], check=True, timeout=20)
        assert "there is no room for the model's files" in full.log.read_text()
    for server in (nothing, unpromoted, busy, unpaired):
        assert "Traceback" not in server.log.read_text()
