"""Artifact paths stay in their experiment's folder of the bucket, on upload, listing, download and removal."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.server

SECRET = b"not for clients"
API = "/api/2.0/mlflow-artifacts/artifacts"
# A folder above the bucket's, one beside it, and files of the system, in the spellings that have fooled servers.
ESCAPES = [
    "../outside.txt",
    "../../outside.txt",
    "../../../outside.txt",
    "../../../../outside.txt",
    "..%2F..%2F..%2Foutside.txt",
    "%2e%2e/%2e%2e/%2e%2e/outside.txt",
    "%2e%2e%2f%2e%2e%2f%2e%2e%2foutside.txt",
    "%252e%252e%252f%252e%252e%252foutside.txt",
    "..%5C..%5C..%5Coutside.txt",
    "..\\..\\..\\outside.txt",
    "a/../../../../outside.txt",
    "a/%2e%2e/%2e%2e/%2e%2e/%2e%2e/outside.txt",
    "..;/..;/..;/outside.txt",
    "%2Fetc%2Fpasswd",
    "//etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "file:%2F%2F%2Fetc%2Fpasswd",
    "..%c0%af..%c0%afoutside.txt",
    "..%00/outside.txt",
    "C:%5CWindows%5Cwin.ini",
]


@pytest.fixture(scope="module")
def outside(server: Any) -> Iterator[list[Path]]:
    """Files beside and above the bucket's folder and its objects, which a path that escapes would reach."""
    state = server.local.state
    bucket = server.local.objects_folder
    (bucket / "mlflow").mkdir(parents=True, exist_ok=True)
    places = [state.parent, state, server.local.bucket_folder, bucket.parent, bucket, bucket / "mlflow"]
    files = [place / "outside.txt" for place in places]
    for file in files:
        file.write_bytes(SECRET)
    yield files
    for file in files:
        file.unlink()


@pytest.fixture(scope="module")
def others(server: Any, outside: list[Path]) -> Callable[[], dict[str, bytes]]:
    """Content of all files but the objects below the proxy's folder of the bucket; logs and databases change anyway."""
    objects = server.local.objects_folder

    def look() -> dict[str, bytes]:
        found = {path for root in (server.local.state.parent, server.local.state) for path in root.glob("*")}
        found |= {path for path in objects.rglob("*") if objects / "mlflow" not in path.parents}
        kept = {path for path in found if path.is_file() and path.suffix != ".log" and path.name != "lock"}
        return {str(path): path.read_bytes() for path in kept | set(outside)}

    return look


def request(server: Any, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """As the bytes stand: http.client changes no path, as a careful client would."""
    login = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", server.local.ports["mlflow"], timeout=60)
    try:
        connection.request(method, path, body=body, headers={"Authorization": f"Basic {login}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def run_id(server: Any) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", server.user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
        client = MlflowClient(server.address)
        run = client.create_run(client.create_experiment("artifact-paths"))
        client.log_text(run.info.run_id, "inside", "inside.txt")
        return str(run.info.run_id)


@pytest.fixture(scope="module")
def root(server: Any, run_id: str) -> str:
    """The run's artifacts within the proxy's address space."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", server.user)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
        return str(MlflowClient(server.address).get_run(run_id).info.artifact_uri).removeprefix("mlflow-artifacts:/")


def test_a_path_that_stays_inside_works(server: Any, root: str) -> None:
    assert request(server, "PUT", f"{API}/{root}/a/b.txt", b"b") == (200, b"")
    assert request(server, "GET", f"{API}/{root}/a/b.txt") == (200, b"b")
    assert b"inside.txt" in request(server, "GET", f"{API}?path={root}")[1]


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_path_leads_out(
    server: Any, root: str, run_id: str, escape: str, others: Callable[[], dict[str, bytes]]
) -> None:
    """Some of these are odd names that stay inside; what counts is what is read, listed, written and removed."""
    before = others()
    for prefix in (f"{root}/", ""):
        for api in (API, f"/ajax-api{API.removeprefix('/api')}"):
            for method, body in (("GET", None), ("PUT", b"from outside"), ("GET", None), ("DELETE", None)):
                _, answer = request(server, method, f"{api}/{prefix}{escape}", body)
                assert SECRET not in answer, (method, prefix, escape)
                assert b"root:" not in answer, (method, prefix, escape)
        status, answer = request(server, "GET", f"{API}?path={prefix}{escape}")
        assert status >= 400 or b"outside.txt" not in answer, (prefix, answer)
        for action in ("create", "complete", "abort"):
            route = f"/api/2.0/mlflow-artifacts/mpu/{action}/{prefix}{escape}"
            assert request(server, "POST", route, b"{}")[0] != 200
    for method, route in (
        ("GET", f"/get-artifact?run_id={run_id}&path={escape}"),
        ("GET", f"/ajax-api/2.0/mlflow/artifacts/list?run_id={run_id}&path={escape}"),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run_id}&path={escape}"),
        ("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path={escape}"),
    ):
        status, answer = request(server, method, route, b"from outside" if method == "POST" else None)
        assert SECRET not in answer, route
        assert b"root:" not in answer, route
        assert status >= 400 or b"is_dir" not in answer, (route, answer)
    assert others() == before


@pytest.mark.parametrize(
    "source", ["file:///etc", "/etc", "../../..", "gs://another-bucket/x", "mlflow-artifacts:/../.."]
)
def test_a_model_version_cannot_be_made_of_files_elsewhere(server: Any, run_id: str, source: str) -> None:
    """A version's source is later read by the server in its user's name."""
    request(server, "POST", "/api/2.0/mlflow/registered-models/create", b'{"name": "escape"}')
    body = f'{{"name": "escape", "source": "{source}", "run_id": "{run_id}"}}'.encode()
    status, answer = request(server, "POST", "/api/2.0/mlflow/model-versions/create", body)
    if status == 200:
        status, answer = request(server, "GET", "/model-versions/get-artifact?name=escape&version=1&path=passwd")
        assert status >= 400
        assert b"root:" not in answer


@pytest.mark.parametrize("place", ["file:///etc", "/etc", "mlflow-artifacts:/../.."])
def test_an_experiment_cannot_be_put_over_the_servers_own_files(server: Any, place: str) -> None:
    name = f"elsewhere {place}".replace("/", "-")
    body = f'{{"name": "{name}", "artifact_location": "{place}"}}'.encode()
    status, answer = request(server, "POST", "/api/2.0/mlflow/experiments/create", body)
    if status != 200:
        return
    made = json.loads(answer)["experiment_id"]
    status, answer = request(server, "POST", "/api/2.0/mlflow/runs/create", f'{{"experiment_id": "{made}"}}'.encode())
    run = json.loads(answer)["run"]["info"]["run_id"]
    status, answer = request(server, "GET", f"/get-artifact?run_id={run}&path=../passwd")
    assert b"root:" not in answer
    status, answer = request(server, "GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=")
    assert status >= 400 or b"files" not in answer
