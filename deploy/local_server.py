"""The tracking server on this machine, without containers: PostgreSQL, a bucket emulator and MLflow with accounts.

    python deploy/local_server.py start|stop|status [--state FOLDER] [--port PORT] [--workers N]

Everything it keeps lies in the state folder: databases, bucket, logs, and which processes are its own. Those alone
does `stop` end. It listens on 127.0.0.1 only. The secrets are those of tracking_server.py, from the environment.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from postgresql import (  # noqa: E402 # beside this file, in a folder that is no package: found by the line above
    ServerError,
    enters,
    number,
    plain,
    postgres_user,
    programs,
    succeed,
)
from processes import HOST, Process, any_port, descendants, is_free, status_of  # noqa: E402 # the same
from tracking_server import faults_of_secrets, refusal  # noqa: E402 # the same

BUCKET = "pcc-server"
DEFAULT_STATE = Path("outputs/server")
PARTS = ("postgres", "emulator", "mlflow")
# Stands in the environment of our processes, so that one whose parent was killed is still known as ours.
MARK = "PCC_SERVER_MARK"
READY_S = {"postgres": 60, "emulator": 60, "mlflow": 240}
STOP_S = 30
OLDEST = 15  # databases.sql reads the password from the environment, which psql can since then


@dataclass
class LocalServer:
    """The three parts over one state folder. `environment` is that of the caller, with the secrets in it.

    Ports that are 0 are chosen: those of the last start if they are free, else any.
    """

    state: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    port: int = 5000
    postgres_port: int = 0
    emulator_port: int = 0
    workers: int = 2
    say: Callable[[str], None] = field(default=lambda line: print(line, flush=True))

    def __post_init__(self) -> None:
        self.state = self.state.resolve()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    # What clients need

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.ports['mlflow']}"

    @property
    def emulator_address(self) -> str:
        return f"http://{HOST}:{self.ports['emulator']}"

    @property
    def ports(self) -> dict[str, int]:
        return dict(self._record()["ports"])

    @property
    def bucket_folder(self) -> Path:
        return self.state / "bucket"

    @property
    def objects_folder(self) -> Path:
        """Where the emulator keeps the objects of the bucket, a file each."""
        return self.bucket_folder / ".cloudstorage" / BUCKET

    @property
    def postgres_folder(self) -> Path:
        return self.state / "postgres"

    @property
    def audit_folder(self) -> Path:
        """The log of who read or wrote what."""
        return self.state / "audit"

    @property
    def stop_command(self) -> str:
        state = "" if self.state == DEFAULT_STATE.resolve() else f" STATE={shlex.quote(str(self.state))}"
        return f"make server-stop{state}"

    def log(self, part: str) -> Path:
        return self.state / f"{part}.log"

    # All parts

    def start(self) -> None:
        """Start all parts and wait until each answers; if one does not, end those that were started."""
        faults = faults_of_secrets(self.environment)
        if faults:
            raise ServerError(refusal(faults))
        said = subprocess.run([programs()["postgres"], "--version"], capture_output=True, text=True, check=True).stdout
        if number(said.split()[2].partition(".")[0]) < OLDEST:
            raise ServerError(f"PostgreSQL {OLDEST} or newer is needed; here is {said.strip()}")
        # For our login alone; but where PostgreSQL runs as another user, that one must pass through to its own folder.
        self.state.mkdir(mode=0o711 if postgres_user() else 0o700, parents=True, exist_ok=True)
        with self._alone():
            running = self.running()
            if running == set(PARTS):
                raise ServerError(f"the server is running already at {self.address}; end it with: {self.stop_command}")
            if running:
                self.say(f"ending what is left of a server: {', '.join(sorted(running))}")
                self._stop(PARTS)
            ports = self._choose_ports()
            self._write({**self._record(), "ports": ports, "mark": secrets.token_hex(8), "parts": {}})
            try:
                for part in PARTS:
                    self._start(part)
            except BaseException:  # an interruption too must not leave half a server
                self._stop(PARTS)
                raise

    def stop(self) -> bool:
        """End all parts; False if none was running."""
        if not self.state.is_dir():
            return False
        with self._alone():
            was = bool(self.running())
            self._stop(PARTS)
        return was

    def running(self) -> set[str]:
        """The parts of which a process is alive."""
        return {part for part in PARTS if self._processes(part)}

    # Single parts, for tests of what happens without one

    def start_part(self, part: str) -> None:
        with self._alone():
            if self._processes(part):
                raise ServerError(f"{part} is running already")
            self._start(part)

    def stop_part(self, part: str) -> None:
        with self._alone():
            self._stop([part])

    def kill_part(self, part: str) -> None:
        """End a part as a crash of the machine would, with nothing flushed or closed."""
        with self._alone():
            self._end(part, signal.SIGKILL)

    # Starting

    def _start(self, part: str) -> None:
        command, environment, user = getattr(self, f"_{part}")()
        record = self._record()
        environment = {**environment, MARK: f"{record['mark']}-{part}"}
        with _private(self.log(part), "ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.state, env=environment,
                start_new_session=True, **user,
            )  # fmt: skip
        self._children[part] = process
        ours = Process.of(process.pid)
        record["parts"][part] = {"pid": ours.pid, "began": ours.began}
        self._write(record)
        self._wait(part, process)
        self.say(f"{part:9} ready on {HOST}:{self.ports[part]}")

    def _wait(self, part: str, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + READY_S[part]
        answers = getattr(self, f"_{part}_answers")
        while not answers():
            if process.poll() is not None:
                raise ServerError(f"{part} ended with code {process.returncode}; its log ends:\n{self._tail(part)}")
            if time.monotonic() > until:
                raise ServerError(f"{part} does not answer after {READY_S[part]} s; its log ends:\n{self._tail(part)}")
            time.sleep(0.2)
        if part == "postgres":
            self._databases()
        if part == "mlflow":
            self._log_in()

    def _tail(self, part: str) -> str:
        lines = self.log(part).read_text(errors="replace").splitlines()[-12:]
        return "\n".join(f"  {line}" for line in [*lines, f"({self.log(part)})"])

    def _postgres(self) -> tuple[list[str], dict[str, str], dict[str, Any]]:
        user = postgres_user()
        if not (self.postgres_folder / "PG_VERSION").exists():
            self._initdb(user)
        sockets = tempfile.mkdtemp(prefix="pcc-postgres-")  # a socket's path may have 107 characters: not in `state`
        if user:
            os.chown(sockets, user["user"], user["group"])
        self._write({**self._record(), "sockets": sockets})
        options = ["-h", HOST, "-p", str(self.ports["postgres"]), "-k", sockets]
        command = [programs()["postgres"], "-D", str(self.postgres_folder), *options]
        return command, plain(self.environment), user

    def _initdb(self, user: dict[str, Any]) -> None:
        self.say("making the databases")
        shutil.rmtree(self.postgres_folder, ignore_errors=True)  # of a first start that was broken off
        self.postgres_folder.mkdir(mode=0o700)
        if user:
            os.chown(self.postgres_folder, user["user"], user["group"])
            if not enters(self.state, user):
                name = pwd.getpwuid(user["user"]).pw_name
                raise ServerError(
                    f"PostgreSQL does not run as root, and the user {name} may not enter {self.state}\n"
                    "name a folder that all may enter: make server STATE=/var/lib/pcc-server (and so for server-stop)"
                )
        # The superuser has no password: the system's user logs in as it over the local socket alone.
        command = [programs()["initdb"], "-D", str(self.postgres_folder), "-E", "UTF8", "--locale=C", "-U", "postgres"]
        command += ["--auth-local=peer", "--auth-host=scram-sha-256"]
        succeed("initdb", command, plain(self.environment), user)
        name = pwd.getpwuid(user["user"] if user else os.getuid()).pw_name
        (self.postgres_folder / "pg_ident.conf").write_text(f"server {name} postgres\n")
        (self.postgres_folder / "pg_hba.conf").write_text(
            "local all postgres peer map=server\n" + f"host all mlflow {HOST}/32 scram-sha-256\n"
        )

    def _databases(self) -> None:
        """The databases if they are not there yet, and whether the role's password is the one given."""
        environment = {**plain(self.environment), "PCC_SERVER_DB_PASSWORD": self.environment["PCC_SERVER_DB_PASSWORD"]}
        psql = [programs()["psql"], "-X", "-q", "-p", str(self.ports["postgres"]), "-d", "postgres"]
        local = [*psql, "-h", self._record()["sockets"], "-U", "postgres"]
        user = postgres_user()
        there = succeed("psql", [*local, "-Atc", "SELECT 1 FROM pg_roles WHERE rolname = 'mlflow'"], environment, user)
        if not there.strip():
            with (HERE / "databases.sql").open() as script:
                succeed("psql", [*local, "-f", "-"], environment, user, stdin=script)
        environment["PGPASSWORD"] = environment["PCC_SERVER_DB_PASSWORD"]
        tried = subprocess.run(
            [*psql[:-1], "mlflow", "-h", HOST, "-U", "mlflow", "-c", "SELECT 1"], env=environment, capture_output=True
        )
        if tried.returncode:
            raise ServerError(
                "the database in the state folder was made with another PCC_SERVER_DB_PASSWORD\n"
                f"give that one, or begin anew without {self.state}"
            )

    def _postgres_answers(self) -> bool:
        command = [programs()["pg_isready"], "-q", "-h", HOST, "-p", str(self.ports["postgres"])]
        command += ["-U", "mlflow", "-d", "mlflow"]
        return subprocess.run(command, env=plain(self.environment), capture_output=True).returncode == 0

    def _emulator(self) -> tuple[list[str], dict[str, str], dict[str, Any]]:
        self.bucket_folder.mkdir(mode=0o700, exist_ok=True)
        program = str(Path(sys.executable).with_name("gcp-storage-emulator"))
        if not Path(program).exists():
            fix = "pip install -c constraints.txt -e '.[local-server]'"
            raise ServerError(f"gcp-storage-emulator is not installed beside this Python; {fix}")
        command = [
            program,
            "-d",
            str(self.bucket_folder),
            "start",
            "--host",
            HOST,
            "--port",
            str(self.ports["emulator"]),
        ]
        return [*command, "--default-bucket", BUCKET], plain(self.environment), {}

    def _emulator_answers(self) -> bool:
        return status_of(f"{self.emulator_address}/storage/v1/b/{BUCKET}") == 200

    def _mlflow(self) -> tuple[list[str], dict[str, str], dict[str, Any]]:
        port = str(self.ports["mlflow"])
        environment = {
            **self.environment,
            "PGHOST": HOST,
            "PGPORT": str(self.ports["postgres"]),
            "STORAGE_EMULATOR_HOST": self.emulator_address,
            "PCC_SERVER_ARTIFACTS": f"gs://{BUCKET}/mlflow",
            "PCC_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
            "PCC_SERVER_ORIGIN": "",
            "PCC_SERVER_PROXIES": "",
            "PCC_SERVER_AUDIT": str(self.audit_folder),
            "PCC_SERVER_HOST": HOST,
            "PCC_SERVER_PORT": port,
            "PCC_SERVER_WORKERS": str(self.workers),
        }
        # A client's settings would make the server a client of itself or of another one.
        for name in [name for name in environment if name.startswith("MLFLOW_TRACKING_") or name == "MLFLOW_RUN_ID"]:
            del environment[name]
        return [sys.executable, str(HERE / "tracking_server.py")], environment, {}

    def _mlflow_answers(self) -> bool:
        return status_of(f"{self.address}/health") == 200

    def _log_in(self) -> None:
        password = self.environment["MLFLOW_AUTH_ADMIN_PASSWORD"]
        token = base64.b64encode(f"admin:{password}".encode()).decode()
        if status_of(f"{self.address}/version", {"Authorization": f"Basic {token}"}) != 200:
            raise ServerError(
                "the user admin has another password than MLFLOW_AUTH_ADMIN_PASSWORD, which only makes the first one\n"
                f"give that one, or begin anew without {self.state}"
            )

    # Stopping

    def _stop(self, parts: tuple[str, ...] | list[str]) -> None:
        for part in reversed(PARTS):
            if part in parts:
                # PostgreSQL ends its sessions at SIGINT; at SIGTERM it would wait for the clients to leave.
                self._end(part, signal.SIGINT if part == "postgres" else signal.SIGTERM)

    def _end(self, part: str, gently: signal.Signals) -> None:
        first = self._first(part)
        children = descendants(first.pid) if first and first.alive else []
        if first and first.alive:
            os.kill(first.pid, gently)
        until = time.monotonic() + STOP_S
        while alive := [process for process in {*children, *self._processes(part)} if process.alive]:
            if gently == signal.SIGKILL or time.monotonic() > until or not (first and first.alive):
                for process in alive:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(
                            process.pid, signal.SIGKILL if gently == signal.SIGKILL or part != "postgres" else gently
                        )
            time.sleep(0.05)
        if part in self._children:  # of this very process, as in tests: its exit code is ours to take
            self._children.pop(part).wait(timeout=STOP_S)
        record = self._record()
        record["parts"].pop(part, None)
        if part == "postgres" and (sockets := record.pop("sockets", None)):
            shutil.rmtree(sockets, ignore_errors=True)
        self._write(record)

    def _first(self, part: str) -> Process | None:
        first = self._record()["parts"].get(part)
        return Process(first["pid"], first["began"]) if first else None

    def _processes(self, part: str) -> list[Process]:
        """The live processes of a part: the one that was started, and all that carry its mark."""
        record, processes = self._record(), []
        first = self._first(part)
        if first and first.alive:
            processes.append(first)
        if first and part != "postgres":  # PostgreSQL's processes end with their first one, and hide their environment
            mark = f"{record['mark']}-{part}"
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                        processes.append(Process.of(process.pid))
        return processes

    # The state folder

    def _choose_ports(self) -> dict[str, int]:
        before: dict[str, int] = self._record()["ports"]
        chosen: dict[str, int] = {}
        for part, named in (("mlflow", self.port), ("postgres", self.postgres_port), ("emulator", self.emulator_port)):
            port = named or before.get(part, 0)
            if port and not is_free(port):
                if named:
                    raise ServerError(f"port {port} for {part} is taken; name another: make server PORT=5050")
                port = 0
            chosen[part] = port or any_port(set(chosen.values()))
        return chosen

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with _private(self.state / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ServerError(f"another start or stop is under way in {self.state}") from error
            yield

    def _record(self) -> dict[str, Any]:
        path = self.state / "state.json"
        if not path.exists():
            return {"ports": {}, "mark": "", "parts": {}}
        return dict(json.loads(path.read_text()))

    def _write(self, record: Mapping[str, Any]) -> None:
        path = self.state / "state.json"
        with _private(path.with_suffix(".new"), "w") as new:
            new.write(json.dumps(record, indent=2))
        path.with_suffix(".new").replace(path)


def _private(path: Path, mode: str) -> IO[Any]:
    """A file to write to that, if it is made, is for our login alone."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))  # Path takes no opener


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(
        description="PostgreSQL, a bucket emulator and MLflow with accounts, on this machine"
    )
    parser.add_argument("action", choices=("start", "stop", "status"))
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, help="folder for all it keeps")
    parser.add_argument("--port", type=int, default=5000, help="port of MLflow (0: any)")
    parser.add_argument("--workers", type=int, default=2, help="MLflow's processes")
    options = parser.parse_args(arguments)
    server = LocalServer(options.state, port=options.port, workers=options.workers)
    try:
        if options.action == "start":
            server.start()
            print(
                f"\nthe tracking server runs at {server.address}; log in as admin with MLFLOW_AUTH_ADMIN_PASSWORD"
                f"\nuse it:    export MLFLOW_TRACKING_URI={server.address} MLFLOW_TRACKING_USERNAME=admin"
                ' MLFLOW_TRACKING_PASSWORD="$MLFLOW_AUTH_ADMIN_PASSWORD"'
                f"\nend it:    {server.stop_command}\nlogs:      {server.state}/*.log"
            )
        elif options.action == "stop":
            print("the tracking server has ended" if server.stop() else "no tracking server was running")
        else:
            running = server.running()
            for part in PARTS:
                place = f"running on {HOST}:{server.ports[part]}" if part in running else "not running"
                print(f"{part:9} {place}")
            return 0 if running == set(PARTS) else 1
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
