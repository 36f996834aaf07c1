"""Accounts of the tracking server: add, password, remove. Run it as an admin, on any machine with Python.

    python deploy/accounts.py add NAME [--reader]

It works on the server of MLFLOW_TRACKING_URI, as MLFLOW_TRACKING_USERNAME with MLFLOW_TRACKING_PASSWORD. The new
password comes from PCC_ACCOUNT_PASSWORD, or is asked for, or is read from standard input where that is no terminal.
"""

from __future__ import annotations

import argparse
import base64
import getpass
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

ROLE, WORKSPACE = "trainer", "default"
# What a trainer may do with runs and models that others made: add to them and change them, not delete them.
GRANTS = {"experiment": "EDIT", "registered_model": "EDIT"}


def call(method: str, route: str, **fields: Any) -> dict[str, Any]:
    """Ask the server; it ends the program with the first line of the server's reason, as the rest may hold a hash."""
    url = f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/{route}"
    login = f"{os.environ.get('MLFLOW_TRACKING_USERNAME', '')}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
    headers = {
        "Authorization": f"Basic {base64.b64encode(login.encode()).decode()}",
        "Content-Type": "application/json",
    }
    body = None if method == "GET" else json.dumps(fields).encode()
    if method == "GET":
        url = f"{url}?{urllib.parse.urlencode(fields)}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=60) as answer:
            return dict(json.loads(answer.read() or b"{}"))
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            reason = str(json.loads(text)["message"])
        except (ValueError, KeyError):
            reason = text
        first = reason.strip().partition("\n")[0].partition(" Error: (")[0]
        sys.exit(f"error: the server answered {error.code}: {first}")
    except OSError as error:
        sys.exit(f"error: {os.environ['MLFLOW_TRACKING_URI']} does not answer: {error}")


def new_password(name: str) -> str:
    """The new password, which is never an argument: other users of the machine see those."""
    given = os.environ.get("PCC_ACCOUNT_PASSWORD")
    if given is None:
        given = getpass.getpass(f"password of {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(given) < 12:
        sys.exit("error: a password has at least 12 characters; nothing was changed")
    return given


def trainer_role() -> int:
    """The role's number; it is made or completed as needed."""
    listed = call("GET", "3.0/mlflow/roles/list", workspace=WORKSPACE)["roles"]
    found = [role for role in listed if role["name"] == ROLE]
    role = found[0] if found else call("POST", "3.0/mlflow/roles/create", workspace=WORKSPACE, name=ROLE)["role"]
    number = int(role["id"])
    there = call("GET", "3.0/mlflow/roles/permissions/list", role_id=number)["role_permissions"]
    for kind in GRANTS.keys() - {grant["resource_type"] for grant in there}:
        call(
            "POST", "3.0/mlflow/roles/permissions/add",
            role_id=number, resource_type=kind, resource_pattern="*", permission=GRANTS[kind],
        )  # fmt: skip
    return number


def parser_of_accounts() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(description="accounts of the tracking server of MLFLOW_TRACKING_URI")
    actions = parser.add_subparsers(dest="action", required=True)
    adding = actions.add_parser("add", help="a new user, who may look at everything, train and promote")
    adding.add_argument("--reader", action="store_true", help="a user who may only look")
    for action in (
        adding,
        actions.add_parser("password", help="give a user a new password"),
        actions.add_parser("remove", help="end a user's access"),
    ):
        action.add_argument("name")
    return parser


def main() -> None:
    """Run it; what is wrong ends the process with a message."""
    given = parser_of_accounts().parse_args()
    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        sys.exit("error: MLFLOW_TRACKING_URI names no server; set it, and the name and password of an admin")

    if given.action == "add":
        password, role = new_password(given.name), None if given.reader else trainer_role()
        call("POST", "2.0/mlflow/users/create", username=given.name, password=password)
        if role is not None:
            call("POST", "3.0/mlflow/roles/assign", username=given.name, role_id=role)
        print(f"added {given.name}, who may {'look at everything' if given.reader else 'look, train and promote'}")
    elif given.action == "password":
        call("PATCH", "2.0/mlflow/users/update-password", username=given.name, password=new_password(given.name))
        print(f"{given.name} has a new password")
    else:
        call("DELETE", "2.0/mlflow/users/delete", username=given.name)
        print(f"removed {given.name}")


if __name__ == "__main__":
    main()
