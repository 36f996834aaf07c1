"""A registered model behind `mlflow models serve`, asked over HTTP as a caller would."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.evaluation.predictions import COLUMNS
from pcc_pipeline.tracking.logged_models import served_model
from tests.http_servers import EXAMPLES, NAME, Store, mlflow_server, new_store, pcc_server

pytestmark = pytest.mark.pipeline
MARK = "Zanzibarkowski"
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Served:
    """A running server, its log, and the addresses of its model."""

    address: str
    log: Path
    tracking_uri: str
    is_own: bool

    def ask(self, body: Any, kind: str = JSON) -> tuple[int, str]:
        """Status and body of the reply to POST /invocations."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/invocations", data, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def predict(self, body: Any, kind: str = JSON) -> list[dict[str, Any]]:
        """The rows of a good reply, which must be JSON to the letter (no NaN)."""
        status, text = self.ask(body, kind)
        assert status == 200, text
        rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["predictions"]
        assert all(tuple(row) == COLUMNS for row in rows)
        return rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = new_store(tmp_path_factory.mktemp("serving"))
    store.add("v20260101_000000", "challenger")
    return store


# Our own server takes and gives the very same.
@pytest.fixture(scope="module", params=[pytest.param("mlflow models serve", marks=pytest.mark.long), "pcc serve"])
def served(store: Store, request: pytest.FixtureRequest) -> Iterator[Served]:
    own = request.param == "pcc serve"
    starting = pcc_server(store, "--model", f"models:/{NAME}@challenger") if own else mlflow_server(store)
    with starting as server:
        yield Served(server.address, server.log, store.uri, own)


def test_the_forms_give_the_same_answer(served: Served) -> None:
    texts = ["erase my profile", "stop the phone calls", "send me my data"]
    wanted = ["data_deletion", "opt_out", "privacy_request"]
    requests = {
        "split": ({"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}}, JSON),
        "records": ({"dataframe_records": [{"text": text} for text in texts]}, JSON),
        "inputs, rows": ({"inputs": [{"text": text} for text in texts]}, JSON),
        "inputs, columns": ({"inputs": {"text": texts}}, JSON),
        "instances, rows": ({"instances": [{"text": text} for text in texts]}, JSON),
        "instances, columns": ({"instances": {"text": texts}}, JSON),
        "csv": (("text\n" + "\n".join(texts)).encode(), CSV),
    }
    for name, (body, kind) in requests.items():
        rows = served.predict(body, kind)
        assert [row["predicted_label"] for row in rows] == wanted, name
        assert [row["case_id"] for row in rows] == [served_model.made_case_id(text) for text in texts]
        for row in rows:
            assert 1 / 3 < row["confidence"] <= 1
            assert (row["subtype_label"], row["prediction_notes"]) == (None, None)
            assert (row["model_version"], row["embedding_model"]) == ("v20260101_000000", "all-MiniLM-L6-v2")
            assert row["inference_timestamp"].endswith("+00:00")


def test_rows_without_a_usable_text_are_marked_and_the_others_answered(served: Served) -> None:
    data = [["a", "erase my profile"], ["b", "  "], [None, None], ["d", f"{MARK} " * 2000], ["e", "stop the calls"]]
    data += [["f", {"deep": MARK}], ["g", 7]]
    rows = served.predict({"dataframe_split": {"columns": ["case_id", "text"], "data": data}})
    assert [row["predicted_label"] for row in rows] == ["data_deletion", None, None, None, "opt_out", None, None]
    assert [row["confidence"] is None for row in rows] == [False, True, True, True, False, True, True]
    assert [row["prediction_notes"] for row in rows] == [
        None,
        "not predicted: text blank",
        "not predicted: text missing",
        "not predicted: text longer than 10,000 characters",
        None,
        "not predicted: text not a string",
        "not predicted: text not a string",
    ]
    assert [row["case_id"] for row in rows][:2] == ["a", "b"]


def test_no_form_makes_a_text_or_an_id_of_what_is_none(served: Served) -> None:
    cells: dict[str, list[Any]] = {
        "case_id": [12345678901234567, None, "x", 3.0, ["z"], True],
        "text": [None, "erase my profile", 7, True, "stop the calls", ["a"]],
    }
    records = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    made = served_model.made_case_id("erase my profile")
    requests = [
        {"dataframe_split": {"columns": list(cells), "data": [list(row.values()) for row in records]}},
        {"dataframe_records": records},
        *({form: table} for form in ("inputs", "instances") for table in (records, cells)),
    ]
    for request in requests:
        rows = served.predict(request)
        made_other = served_model.made_case_id("stop the calls")
        assert [row["case_id"] for row in rows] == ["12345678901234567", made, "x", "3", made_other, "1"], request
        assert [row["predicted_label"] for row in rows] == [None, "data_deletion", None, None, None, None], request
        assert [row["prediction_notes"] for row in rows] == [
            "not predicted: text missing",
            None,
            "not predicted: text not a string",
            "not predicted: text not a string",
            "not predicted: case_id neither text nor a number",
            "not predicted: text not a string",
        ], request
    (row,) = served.predict(b"text,case_id\nNone,007\n", CSV)
    assert (row["case_id"], row["prediction_notes"]) == ("007", None)
    sink = io.BytesIO()
    columns = {"text": ["erase my profile", None], "case_id": pa.array([9007199254740993, None], pa.int64())}
    pq.write_table(pa.table(columns), sink)
    first, second = served.predict(sink.getvalue(), PARQUET)
    assert (first["case_id"], first["prediction_notes"]) == ("9007199254740993", None)
    assert second["prediction_notes"] == "not predicted: text missing"


def test_a_column_of_numbers_is_not_taken_for_texts(served: Served) -> None:
    rows = served.predict({"dataframe_split": {"columns": ["text"], "data": [[1], [2]]}})
    assert [row["prediction_notes"] for row in rows] == ["not predicted: text not a string"] * 2


def test_unknown_columns_and_params_are_left_alone_and_not_logged(served: Served) -> None:
    table = {"columns": ["text", MARK], "data": [["erase my profile", MARK]]}
    (row,) = served.predict({"dataframe_split": table, "params": {MARK: MARK}})
    assert row["predicted_label"] == "data_deletion"
    assert MARK not in served.log.read_text()


def test_an_empty_table_gives_an_empty_answer(served: Served) -> None:
    assert served.predict({"dataframe_split": {"columns": ["text"], "data": []}}) == []


BAD = {
    "missing column": ({"dataframe_split": {"columns": ["message"], "data": [[MARK]]}}, JSON, "required column"),
    "JSON sent as CSV": ({"dataframe_split": {"columns": ["text"], "data": [[MARK]]}}, CSV, "required column"),
    "ragged rows": ({"dataframe_split": {"columns": ["text"], "data": [[MARK, MARK, 3]]}}, JSON, "not a table"),
    "not JSON": (f'{{"inputs": [{{"text": "{MARK}'.encode(), JSON, "not valid JSON"),
    "not UTF-8": (MARK.encode("utf-16"), JSON, "not valid JSON"),
    "a bare list": ([MARK], JSON, "not a table"),
    "a bare text": (MARK, JSON, ""),
    "unknown form": ({"rows": [{"text": MARK}]}, JSON, ""),
    "two forms": ({"inputs": [MARK], "instances": [MARK]}, JSON, "exactly one"),
    "an empty list": ({"inputs": []}, JSON, ""),
    "CSV without header": (f"{MARK} says delete\n{MARK} says stop".encode(), CSV, "required column"),
    "CSV with ragged rows": (f"text\na\n{MARK},{MARK},c".encode(), CSV, "not a table"),
    "CSV with an unquoted comma": (f"text\n{MARK},please\n".encode(), CSV, "not a table"),
    "a deep nest": (b'{"inputs": ' + b"[" * 100_000 + MARK.encode(), JSON, "not valid JSON"),
    "a number of 5,000 digits": (b'{"inputs": [{"text": ' + b"1" * 5000 + b"}]}", JSON, "not valid JSON"),
    "columns of unlike length": ({"inputs": {"text": [MARK], "case_id": [1, 2]}}, JSON, "not a table"),
    "a row that is none": ({"inputs": [{"text": MARK}, MARK]}, JSON, "not a table"),
    "CSV not UTF-8": (b"text\n\xff\xfe" + MARK.encode(), CSV, ""),
    "parquet that is none": (MARK.encode(), "application/x-parquet", ""),
    "another type": (MARK.encode(), "text/html", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_and_nothing_of_it_repeated(served: Served, name: str) -> None:
    body, kind, said = BAD[name]
    status, text = served.ask(body, kind)
    assert 400 <= status < 500, (status, text)
    assert said in text
    assert MARK not in text
    assert "Traceback" not in text
    assert MARK not in served.log.read_text()
    assert len(served.predict({"inputs": [{"text": "delete my data"}]})) == 1


def test_many_callers_at_once_get_their_own_answers(served: Served) -> None:
    def one(number: int) -> bool:
        text, label = EXAMPLES[number % len(EXAMPLES)]
        rows = served.predict({"inputs": [{"text": text, "case_id": str(number)}]})
        return (rows[0]["case_id"], rows[0]["predicted_label"]) == (str(number), label)

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(one, range(64)))


@pytest.mark.long
def test_the_model_works_where_this_package_does_not_exist(served: Served, tmp_path: Path) -> None:
    """And shows no text on the way; the environment has no network address of a model hub to fall back on."""
    code = (
        "import sys, json; sys.modules['pcc_pipeline'] = None\n"
        "import mlflow, pandas as pd\n"
        "model = mlflow.pyfunc.load_model('models:/served@challenger')\n"
        f"answer = model.predict(pd.DataFrame({{'text': ['erase my profile', '{MARK}']}}))\n"
        "assert not [name for name in sys.modules if name.startswith('pcc_pipeline.')]\n"
        "import os; assert os.environ['HF_HUB_OFFLINE'] == '1'\n"
        "print(json.dumps([list(answer.columns), answer['predicted_label'][0]]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["MLFLOW_TRACKING_URI"] = served.tracking_uri
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [list(COLUMNS), "data_deletion"]
    assert MARK not in done.stdout + done.stderr


def test_the_log_of_the_whole_session_holds_no_text(served: Served) -> None:
    served.predict({"inputs": [{"text": f"{MARK} wants this deleted"}]})
    log = served.log.read_text()
    assert served.is_own or "/invocations" in log
    assert MARK not in log
