"""Start MLflow's tracking server as this project runs it: the one place for its options, here and in production.

It checks the environment, makes the account of the admin, and then becomes `mlflow server`. The environment gives

  MLFLOW_AUTH_ADMIN_PASSWORD, MLFLOW_FLASK_SERVER_SECRET_KEY, PCC_SERVER_DB_PASSWORD    secrets, see SECRETS
  PCC_SERVER_ARTIFACTS        where artifacts go, such as gs://bucket/mlflow
  PCC_SERVER_ALLOWED_HOSTS    host names by which clients may call it, separated by commas
  PCC_SERVER_ORIGIN           the address that stands in browsers, such as https://mlflow.example.org; may be absent
  PCC_SERVER_APPROVALS        registered models whose champion only approvers move, such as "pcc-*"; may be absent
  PCC_SERVER_AUDIT            the folder of the log of who read or wrote what; without it there is none
  PCC_SERVER_PROXIES          addresses or networks, by commas, of proxies that tell the client's address; may be absent
  PCC_SERVER_HOST, PCC_SERVER_PORT, PCC_SERVER_WORKERS    default 127.0.0.1, 5000, 2
  PGHOST, PGPORT              PostgreSQL with the databases and the role of databases.sql
"""

from __future__ import annotations

import ipaddress
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHORTEST = 12
SECRETS = {
    "MLFLOW_AUTH_ADMIN_PASSWORD": "password of the user admin",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "key that signs the forms of the accounts' pages",
    "PCC_SERVER_DB_PASSWORD": "password of the database role mlflow",
}
NEEDED = {
    "PCC_SERVER_ARTIFACTS": "where artifacts go, such as gs://bucket/mlflow",
    "PCC_SERVER_ALLOWED_HOSTS": "host names by which clients may call the server, such as mlflow.example.org",
    "PGHOST": "host of PostgreSQL",
}


def faults_of_secrets(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with the secrets, one line each, without their values."""
    faults = []
    for name, meaning in SECRETS.items():
        value = environment.get(name, "")
        if not value:
            faults.append(f"{name} is not set ({meaning})")
        elif len(value) < SHORTEST:
            faults.append(f"{name} has {len(value)} characters, fewer than {SHORTEST} ({meaning})")
    return faults


def refusal(faults: list[str]) -> str:
    """The message for `faults`."""
    lines = "\n".join(f"  {fault}" for fault in faults)
    return (
        f"the server's environment is not complete, so nothing was started:\n{lines}\n"
        f"set a secret, for instance, by: export {next(iter(SECRETS))}=$(openssl rand -hex 24)\n"
        "keep it in a secret store; it belongs in no file of the repository"
    )


def environment_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server's processes; the database's password goes to libpq, never onto a command line."""
    return {
        **environment,
        "PGUSER": "mlflow",
        "PGPASSWORD": environment["PCC_SERVER_DB_PASSWORD"],
        "PYTHONPATH": os.pathsep.join(
            [str(HERE / "mlflow_app"), str(HERE.parent), *filter(None, [environment.get("PYTHONPATH")])]
        ),
        "MLFLOW_AUTH_CONFIG_PATH": str(HERE / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        # Whatever the shell says: hosts and origins are checked, and nobody's chat runs commands on this machine.
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
        # A route for which MLflow has no rule is refused, not allowed.
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        # Its runner of jobs is not needed here, and takes 240 MB for each of seven processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Nothing is reported to MLflow's makers, neither by the server nor by the pages that it serves.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def command_of(environment: Mapping[str, str]) -> list[str]:
    """The command line of the server."""
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "pcc-accounts"]
    command += ["--backend-store-uri", "postgresql+psycopg:///mlflow"]
    command += ["--artifacts-destination", environment["PCC_SERVER_ARTIFACTS"], "--serve-artifacts"]
    command += ["--host", environment.get("PCC_SERVER_HOST", "127.0.0.1")]
    command += ["--port", environment.get("PCC_SERVER_PORT", "5000")]
    command += ["--workers", environment.get("PCC_SERVER_WORKERS", "2")]
    command += ["--allowed-hosts", environment["PCC_SERVER_ALLOWED_HOSTS"]]
    if environment.get("PCC_SERVER_ORIGIN"):
        command += ["--cors-allowed-origins", environment["PCC_SERVER_ORIGIN"]]
    # A request that hangs does not hold up the end of the server for ever.
    options = ["--timeout-graceful-shutdown", "10", "--http", "pcc_connections:Bounded"]
    # Left alone, uvicorn would believe whoever calls from this machine.
    proxies = environment.get("PCC_SERVER_PROXIES", "").replace(" ", "")
    options += ["--proxy-headers", "--forwarded-allow-ips", proxies] if proxies else ["--no-proxy-headers"]
    return [*command, "--uvicorn-opts", shlex.join(options)]


def faults_of_proxies(proxies: str) -> list[str]:
    """What is wrong with PCC_SERVER_PROXIES; uvicorn would take a wrong one for a name that nobody has."""
    faults = []
    for proxy in filter(None, proxies.replace(" ", "").split(",")):
        try:
            network = ipaddress.ip_network(proxy)
        except ValueError as error:
            faults.append(f"PCC_SERVER_PROXIES: {error}")
            continue
        if not network.prefixlen:
            faults.append(f"PCC_SERVER_PROXIES: {proxy} is everybody, who could all write any address into the logs")
    return faults


def main() -> None:
    """Run it; what is wrong ends the process with a message."""
    faults = faults_of_secrets(os.environ)
    faults += [f"{name} is not set ({meaning})" for name, meaning in NEEDED.items() if not os.environ.get(name)]
    faults += faults_of_proxies(os.environ.get("PCC_SERVER_PROXIES", ""))
    if faults:
        sys.exit(f"error: {refusal(faults)}")
    environment = environment_of(os.environ)
    os.environ.update(environment)
    # The tables and the admin are made here, by one process; the workers would race for it.
    from mlflow.server.auth import bootstrap_admin_user

    bootstrap_admin_user()
    sys.stdout.flush()
    command = command_of(environment)
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
