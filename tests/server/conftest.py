"""One real tracking server for the session: PostgreSQL, the bucket emulator, MLflow with accounts, on free ports.

Each test makes experiments of its own and never counts on being alone. A test that stops or kills a part starts it
again before it ends (`server.whole()` does that, as a context).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mlflow import MlflowClient
from sqlalchemy import create_engine, text

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "deploy"))

from local_server import BUCKET, PARTS, LocalServer, ServerError, programs  # noqa: E402  (in the folder named above)
from tracking_server import environment_of  # noqa: E402  (the same)

# Registered models whose champion only approvers move.
APPROVED = "approved-*"


def absent(what: str) -> NoReturn:
    """Skip for want of `what`; where the tests are demanded, as in CI, fail."""
    if os.environ.get("PCC_DEMAND_SERVER_TESTS") == "1":
        pytest.fail(f"PCC_DEMAND_SERVER_TESTS=1, but {what}")
    pytest.skip(what)


def new_secrets() -> dict[str, str]:
    names = ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "PCC_SERVER_DB_PASSWORD")
    return {name: secrets.token_hex(24) for name in names}


def outer_environment() -> dict[str, str]:
    """This process's environment without anything of MLflow, PostgreSQL, the bucket or the server."""
    hidden = ("MLFLOW_", "PCC_", "PG", "STORAGE_EMULATOR_HOST")
    return {name: value for name, value in os.environ.items() if not name.startswith(hidden)}


@contextlib.contextmanager
def state_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter; pytest's own are closed to it where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="pcc-server-"))
    folder.chmod(0o755)
    try:
        yield folder / "state"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Server:
    """The running server and what its clients need."""

    local: LocalServer
    secrets: dict[str, str] = field(repr=False)  # pytest prints fixtures where a test fails

    user = "admin"
    bucket = BUCKET

    @property
    def address(self) -> str:
        return self.local.address

    @property
    def password(self) -> str:
        return self.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"]

    @property
    def emulator_address(self) -> str:
        return self.local.emulator_address

    @property
    def database(self) -> str:
        """Address of MLflow's database for SQLAlchemy; `mlflow_auth` beside it holds the accounts."""
        password = self.secrets["PCC_SERVER_DB_PASSWORD"]
        return f"postgresql+psycopg://mlflow:{password}@127.0.0.1:{self.local.ports['postgres']}/mlflow"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a client's process that works as admin, by proxied artifacts."""
        return {
            **outer_environment(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": self.address,
            "MLFLOW_TRACKING_USERNAME": self.user,
            "MLFLOW_TRACKING_PASSWORD": self.password,
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        }

    def start(self, part: str) -> None:
        self.local.start_part(part)

    def stop(self, part: str) -> None:
        self.local.stop_part(part)

    def kill(self, part: str) -> None:
        self.local.kill_part(part)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """All parts run again at the end, whatever was stopped or killed."""
        try:
            yield
        finally:
            for part in PARTS:
                if part not in self.local.running():
                    self.start(part)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    try:
        programs()
    except ServerError as error:
        absent(str(error))
    given = new_secrets()
    with state_folder() as state:
        local = LocalServer(state, {**outer_environment(), **given, "PCC_SERVER_APPROVALS": APPROVED}, port=0)
        local.start()
        try:
            yield Server(local, given)
        finally:
            local.stop()


@pytest.fixture
def study_storage(server: Server) -> Iterator[str]:
    """A database address of this test's own, for studies: a schema beside MLflow's tables."""
    schema = f"studies_{secrets.token_hex(4)}"
    engine = create_engine(server.database)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield f"{server.database}?options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.fixture
def client(server: Server, as_user: Callable[[str, str], None]) -> MlflowClient:
    """A client that works as admin, in this process."""
    as_user(server.user, server.password)
    return MlflowClient(server.address)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`as_user(name, password)` makes MLflow's clients in this process work as that user, for this test."""

    def set_user(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    return set_user


@pytest.fixture(scope="session")
def server_environment(server: Server) -> dict[str, str]:
    """The environment of MLflow's own processes, to look into its app."""
    given = {
        **outer_environment(),
        **server.secrets,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.local.ports["postgres"]),
    }
    return environment_of(given)


@pytest.fixture(scope="session")
def listed_routes(server: Server, server_environment: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Every route of the server's app, Flask's and FastAPI's: its path with <parameters>, and its methods."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("list_routes.py"))],
        env=server_environment | {"_MLFLOW_SGI_NAME": "uvicorn"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [(path, methods) for path, methods in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="session")
def accounts(server: Server) -> dict[str, tuple[str, str]]:
    """Name and password of an account of each role: admin, approver, trainer, reader."""
    made = {"admin": (server.user, server.password)}
    for role, options in (("trainer", []), ("reader", ["--reader"]), ("approver", ["--role", "approver"])):
        made[role] = (f"a-{role}", f"password of a {role}")
        command = [sys.executable, str(REPOSITORY / "deploy" / "accounts.py"), "add", made[role][0], *options]
        command += ["--audit", str(server.local.state.parent / "audit")]
        given = {**server.environment, "PCC_ACCOUNT_PASSWORD": made[role][1]}
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
    return made


@dataclass
class Raw:
    """Requests with nothing of their path, headers or body changed on the way."""

    port: int
    connection: http.client.HTTPConnection | None = None

    def __call__(
        self,
        method: str,
        path: str,
        account: tuple[str, str] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with small letters, and content of the answer; a `body` that is no bytes goes as JSON."""
        sent = dict(headers or {})
        if account is not None:
            sent["Authorization"] = basic(*account)
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        for again in (True, False):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            try:
                self.connection.request(method, path, body, sent)
                answer = self.connection.getresponse()
                content = answer.read()
                return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()  # it was idle for too long
                if not again:
                    raise
        raise AssertionError("the second try returns or raises")

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@pytest.fixture
def raw(server: Server) -> Iterator[Raw]:
    """`raw(method, path, account, body, headers)`."""
    asking = Raw(server.local.ports["mlflow"])
    yield asking
    asking.close()


@pytest.fixture(scope="session")
def local_server() -> Any:
    """The module deploy/local_server.py; skips or fails where PostgreSQL is absent."""
    import local_server

    try:
        programs()
    except ServerError as error:
        absent(str(error))
    return local_server


@pytest.fixture
def folder(local_server: Any) -> Iterator[Path]:
    """A state folder of this test's own, not made yet."""
    with state_folder() as state:
        yield state


@pytest.fixture(name="new_secrets", scope="session")
def new_secrets_fixture() -> Callable[[], dict[str, str]]:
    return new_secrets


@pytest.fixture(scope="session")
def outer() -> dict[str, str]:
    return outer_environment()


_CHROMIUM = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_CHROMIUM += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real chromium without a window."""
    program = shutil.which("chromium")
    if program is None:
        reason = "chromium is not on PATH; on Debian: apt-get install chromium"
        if os.environ.get("PCC_DEMAND_SERVER_TESTS") == "1":
            pytest.fail(f"PCC_DEMAND_SERVER_TESTS=1, but {reason}")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, headless=True, args=_CHROMIUM)
        yield started
        started.close()
