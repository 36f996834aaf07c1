"""What we use of libraries though they do not offer it: each in one module, with what to do when it is gone.

A library may change or drop such a name in any release, so a new pin fails here first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("pcc_pipeline", "deploy", "entrypoints", "benchmarks")


@dataclass(frozen=True)
class Private:
    """A name that a library keeps to itself.

    Attributes:
        user: the only module of ours that uses it.
        owner: dotted path of the module or class that has it.
        mend: what to do when it is there no more.
    """

    user: str
    owner: str
    name: str
    mend: str


_CALIBRATION = (
    "`decided` builds by hand the calibration that fitting would build: see what CalibratedClassifierCV.fit makes now"
)
_REQUEST = (
    "a request must be read as MLflow's own handler reads it, or an account may hide what it asks for: see what "
    "mlflow.server.handlers reads requests by now"
)
PRIVATE = (
    Private("pcc_pipeline/model/probabilities.py", "sklearn.calibration", "_CalibratedClassifier", _CALIBRATION),
    Private("pcc_pipeline/model/probabilities.py", "sklearn.calibration", "_SigmoidCalibration", _CALIBRATION),
    Private("pcc_pipeline/model/probabilities.py", "sklearn.calibration", "_TemperatureScaling", _CALIBRATION),
    Private("deploy/mlflow_app/pcc_rights.py", "mlflow.server.handlers", "_get_request_json", _REQUEST),
    Private("deploy/mlflow_app/pcc_rights.py", "mlflow.server.handlers", "_get_request_message", _REQUEST),
    Private("deploy/mlflow_app/pcc_rights.py", "mlflow.server.handlers", "_get_tracking_store", _REQUEST),
    Private("deploy/mlflow_app/pcc_approvals.py", "mlflow.server.handlers", "_get_model_registry_store", _REQUEST),
    Private(
        "benchmarks/interruptions.py",
        "mlflow.utils.requirements_utils",
        "_init_packages_to_modules_map",
        "the call may go: it only spares the benchmark's forks some seconds each",
    ),
    Private(
        "pcc_pipeline/serving/connections.py",
        "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol",
        "_unset_keepalive_if_required",
        "what the protocol does first with bytes that came, ours does too: see its data_received",
    ),
    Private(
        "benchmarks/random_search.py",
        "multiprocessing.context",
        "_concrete_contexts",
        "the peer's workers start by joblib's loky, and ours by loky: see how to keep both",
    ),
    Private(
        "pcc_pipeline/command_line/running.py",
        "atexit",
        "_run_exitfuncs",
        "what libraries remove at the end must go, though no thread is waited for: see how multiprocessing ends",
    ),
    Private(
        "pcc_pipeline/model/balance.py",
        "imblearn.over_sampling.SMOTE",
        "_generate_samples",
        "no public name says which rows were mixed; where it tells otherwise than the rows, fits go by the rows",
    ),
    Private(
        "pcc_pipeline/data/formats/pickles.py",
        "zoneinfo.ZoneInfo",
        "_unpickle",
        "a pickle names what makes its values: see by what name pickles of a time with a zone call it now",
    ),
    Private(
        "pcc_pipeline/data/formats/pickles.py",
        "pyarrow.lib",
        "_restore_array",
        "the same of a column of pyarrow's",
    ),
    Private(
        "pcc_pipeline/data/formats/pickles.py",
        "pandas.core.indexes.base",
        "_new_Index",
        "the same of an index of pandas",
    ),
)
# An attribute of each client alone.
CREDENTIALS = Private(
    "pcc_pipeline/tracking/delivery/preflight.py",
    "google.cloud.storage.Client",
    "_credentials",
    "MLflow falls back to an anonymous client and tries for a minute: find another way to tell such a client",
)


@cache
def own_names() -> set[str]:
    """What our modules define: functions, and attributes that they or their classes set."""
    nodes = [node for path in modules() for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    stored = (node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store))
    return functions | {node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "") for node in stored}


def modules() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def private_names(path: Path) -> Iterator[str]:
    """Private names that a module imports, or takes of something else than `self` and `cls`, or of a base of these."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
            names = [node.attr] if node.attr not in own_names() else []
        elif isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id == "os"  # os._exit is documented
        ):
            names = [node.attr]
        elif (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "vars"
        ):
            names = [part.value for part in ast.walk(node.slice) if isinstance(part, ast.Constant)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            names = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        yield from (name for name in names if name.startswith("_") and not name.startswith("__"))


def test_a_private_name_of_a_library_is_used_in_one_module_that_is_listed_here() -> None:
    used = {(path.relative_to(REPOSITORY).as_posix(), name) for path in modules() for name in private_names(path)}
    assert used == {(private.user, private.name) for private in (*PRIVATE, CREDENTIALS)}


@pytest.mark.parametrize("private", PRIVATE, ids=lambda private: private.name)
def test_the_library_still_has_it(private: Private) -> None:
    module, _, kind = private.owner.rpartition(".")
    owner = getattr(import_module(module), kind) if kind[0].isupper() else import_module(private.owner)
    assert hasattr(owner, private.name), gone(private)


def test_an_anonymous_client_of_a_bucket_is_told_by_its_credentials() -> None:
    from google.cloud.storage import Client

    client = Client.create_anonymous_client()
    assert type(getattr(client, CREDENTIALS.name, None)).__name__ == "AnonymousCredentials", gone(CREDENTIALS)


def gone(private: Private) -> str:
    return f"{private.owner}.{private.name} is gone. {private.user}: {private.mend}"
