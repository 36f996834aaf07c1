"""Accounts of the tracking server: add, list, role, password, remove. Run it as an admin, where there is Python 3.11.

    python deploy/accounts.py add NAME [--role reader|trainer|approver|admin]
    python deploy/accounts.py list

It works on the server of MLFLOW_TRACKING_URI, as MLFLOW_TRACKING_USERNAME with MLFLOW_TRACKING_PASSWORD: an address
that holds an account is refused, since what shows an address would show that. It needs no package of Python. The new
password comes from PCC_ACCOUNT_PASSWORD, or is asked for, or is read from standard input where that is no terminal.
What it changes stands in the audit log of --audit (PCC_AUDIT__FOLDER, else outputs/audit).
"""

from __future__ import annotations

import argparse
import base64
import getpass
import http.client
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

# The project's audit log needs nothing but Python; it need not be installed here.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pcc_pipeline.auditing.chain import Entry  # found by the line above
from pcc_pipeline.auditing.log import AuditLog  # the same
from pcc_pipeline.errors import StorageError  # the same
from pcc_pipeline.masking import masked, quotable  # the same
from pcc_pipeline.processes import login_here  # the same

WORKSPACE = "default"
# Role -> what who has it may do.
ROLES = {
    "reader": "look at everything",
    "trainer": "look, train and promote",
    "approver": "look, train, promote and approve what others trained",
    "admin": "do everything",
}
# Of these MLflow holds a role; an admin is a mark of the account, and a reader has neither.
HELD = ("trainer", "approver")
# What they may do with runs and models that others made: add to them and change them, not delete them.
GRANTS = {"experiment": "EDIT", "registered_model": "EDIT"}


def call(method: str, route: str, **fields: Any) -> dict[str, Any]:
    """Ask the server; it ends the program with the first line of the server's reason, as the rest may hold a hash."""
    address = os.environ["MLFLOW_TRACKING_URI"]
    url = f"{address.rstrip('/')}/api/{route}"
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
    except (OSError, ValueError, http.client.HTTPException) as error:  # the latter two: it is no address, or no server
        sys.exit(f"error: {masked(address)} does not answer: {quotable(str(error), address)}")


def new_password(name: str) -> str:
    """The new password, which is never an argument: other users of the machine see those."""
    password = os.environ.get("PCC_ACCOUNT_PASSWORD")
    if password is None:
        password = getpass.getpass(f"password of {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(password) < 12:
        sys.exit("error: a password has at least 12 characters; nothing was changed")
    return password


def roles_held() -> dict[str, int]:
    """Name of a role that MLflow holds -> its number."""
    listed = call("GET", "3.0/mlflow/roles/list", workspace=WORKSPACE)["roles"]
    return {role["name"]: int(role["id"]) for role in listed if role["name"] in HELD}


def role_number(role: str) -> int:
    """The number of a role; it is made or completed as needed."""
    number = roles_held().get(role)
    if number is None:
        number = int(call("POST", "3.0/mlflow/roles/create", workspace=WORKSPACE, name=role)["role"]["id"])
    there = call("GET", "3.0/mlflow/roles/permissions/list", role_id=number)["role_permissions"]
    for kind in GRANTS.keys() - {grant["resource_type"] for grant in there}:
        call(
            "POST", "3.0/mlflow/roles/permissions/add",
            role_id=number, resource_type=kind, resource_pattern="*", permission=GRANTS[kind],
        )  # fmt: skip
    return number


def role_of(user: dict[str, Any]) -> str:
    """The role of an account as the server lists it: the highest, where it has several."""
    held = {role["name"] for role in user["roles"]}
    return "admin" if user["is_admin"] else next((role for role in reversed(HELD) if role in held), "reader")


def users() -> dict[str, dict[str, Any]]:
    """All accounts, by name."""
    return {user["username"]: user for user in call("GET", "2.0/mlflow/users/list")["users"]}


def give_role(name: str, role: str) -> None:
    """Make it the only role of an account. What it may not do any more goes first."""
    user = users().get(name)
    if user is None:
        sys.exit(f"error: there is no account {name}; `list` shows those that there are")
    if user["is_admin"] and role != "admin":
        call("PATCH", "2.0/mlflow/users/update-admin", username=name, is_admin=False)
    numbers = roles_held()
    for held in {each["name"] for each in user["roles"]} & (numbers.keys() - {role}):
        call("DELETE", "3.0/mlflow/roles/unassign", username=name, role_id=numbers[held])
    if role in HELD and role not in {each["name"] for each in user["roles"]}:
        call("POST", "3.0/mlflow/roles/assign", username=name, role_id=role_number(role))
    if role == "admin" and not user["is_admin"]:
        call("PATCH", "2.0/mlflow/users/update-admin", username=name, is_admin=True)


def record(folder: str, what: str, name: str, outcome: str, role: str | None = None) -> None:
    """Put a change into the audit log; where that is not possible, say so."""
    about = {"server": masked(os.environ["MLFLOW_TRACKING_URI"]), "account": name}
    who = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    entry = Entry(who, what, about if role is None else {**about, "role": role}, outcome, login_here())
    try:
        AuditLog(Path(folder)).append([entry])
    except StorageError as error:
        print(f"warning: {error.what} ({error.where}): this change is not on record there", file=sys.stderr)


def parser_of_accounts() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(description="accounts of the tracking server of MLFLOW_TRACKING_URI")
    actions = parser.add_subparsers(dest="action", required=True)
    adding = actions.add_parser("add", help="a new account")
    changing = actions.add_parser("role", help="give an account another role")
    adding.add_argument("name")
    adding.add_argument("--role", choices=ROLES, default="trainer", help="default: trainer")
    adding.add_argument("--reader", action="store_const", const="reader", dest="role", help="the same as --role reader")
    changing.add_argument("name")
    changing.add_argument("role", choices=ROLES)
    password = actions.add_parser("password", help="give an account a new password")
    removing = actions.add_parser("remove", help="end an account's access")
    for action in (password, removing):
        action.add_argument("name")
    listing = actions.add_parser("list", help="all accounts, with their roles")
    listing.add_argument("--json", action="store_true", help="for machines")
    for action in (adding, changing, password, removing):
        default = os.environ.get("PCC_AUDIT__FOLDER", "outputs/audit")
        action.add_argument("--audit", metavar="FOLDER", default=default, help=f"the audit log; default: {default}")
    return parser


def main() -> None:
    """Run it; what is wrong ends the process with a message."""
    options = parser_of_accounts().parse_args()
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address.startswith("http"):
        sys.exit("error: MLFLOW_TRACKING_URI names no server; set it, and the name and password of an admin")
    if masked(address) != address:
        sys.exit(
            f"error: MLFLOW_TRACKING_URI is to be {masked(address)}, with no account or secret in it; set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if options.action == "list":
        roles = {name: role_of(user) for name, user in sorted(users().items())}
        width = max(map(len, roles), default=0)
        print(json.dumps(roles) if options.json else "\n".join(f"{name:{width}}  {roles[name]}" for name in roles))
        return
    password = new_password(options.name) if options.action in ("add", "password") else ""
    what, role = f"account {options.action}", getattr(options, "role", None)
    record(options.audit, what, options.name, "begun", role)
    try:
        print(change(options, password))
    except SystemExit:
        record(options.audit, what, options.name, "failed", role)
        raise
    record(options.audit, what, options.name, "done", role)


def change(options: argparse.Namespace, password: str) -> str:
    """Do what is asked; what was done, in words."""
    if options.action == "add":
        call("POST", "2.0/mlflow/users/create", username=options.name, password=password)
        if options.role != "reader":
            give_role(options.name, options.role)
        return f"added {options.name}, who may {ROLES[options.role]}"
    if options.action == "role":
        give_role(options.name, options.role)
        return f"{options.name} is {options.role} now, who may {ROLES[options.role]}"
    if options.action == "password":
        call("PATCH", "2.0/mlflow/users/update-password", username=options.name, password=password)
        return f"{options.name} has a new password"
    call("DELETE", "2.0/mlflow/users/delete", username=options.name)
    return f"removed {options.name}"


if __name__ == "__main__":
    main()
