"""What is asked and answered at `/v1/classify`, read and written without quoting a word of it in a fault."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pcc_pipeline.features.full_vectors import FULL_WIDTH
from pcc_pipeline.model.decision import certainty
from pcc_pipeline.serving.version import ServedVersion
from pcc_pipeline.tracking.logged_models.served_model import id_text, made_id, text_fault, vector_fault

_FIELDS = frozenset({"text", "vector", "case_id", "cases", "probabilities", "encoder_digest"})
_OF_A_CASE = frozenset({"text", "vector", "case_id"})
_USAGE = 'send {"text": "…"}, or {"cases": [{"text": "…", "case_id": "…"}, …]}'


class RefusedError(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        code: for programs.
        retry_after: seconds, where coming again helps.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
        super().__init__(message)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"error": {"code": self.code, "message": self.message}}


@dataclass(frozen=True)
class Case:
    """One row that is asked about: a text or a vector, or why it is neither.

    Attributes:
        fault: why it cannot be answered; empty if it can.
    """

    case_id: str
    text: str | None = None
    vector: np.ndarray | None = None
    fault: str = ""


@dataclass(frozen=True)
class ClassifyRequest:
    """A request at `/v1/classify`.

    Attributes:
        encoder_digest: of the encoder that made its vectors, where it says so.
    """

    cases: tuple[Case, ...]
    probabilities: bool
    encoder_digest: str | None


@dataclass(frozen=True)
class Answered:
    """What a version says of a case.

    Attributes:
        probabilities: (K,), in the order of the version's classes.
        label: None of a row that is left to a person without one.
        note: why the row is left to a person; None where it is decided.
    """

    version: ServedVersion
    probabilities: np.ndarray
    label: str | None
    confidence: float
    note: str | None

    @staticmethod
    def of(version: ServedVersion, probabilities: np.ndarray) -> Answered:
        """By the version's rule."""
        model, place = version.model, int(probabilities.argmax())
        label, confidence, rule = model.classes[place], float(probabilities[place]), model.decision
        if rule.abstains:
            table = probabilities[np.newaxis]
            if rule.left_to_a_person(table)[0]:
                note = rule.note(float(certainty(table, rule.score)[0]), label)
                return Answered(version, probabilities, rule.label, confidence, note)
        return Answered(version, probabilities, label, confidence, None)


def read_request(body: bytes, most: int) -> ClassifyRequest:
    """The request in a body of JSON.

    Args:
        most: rows of a request.

    Raises:
        RefusedError: it is no such request, or has too many rows. A row that cannot be answered refuses itself alone.
    """
    document = _json(body)
    if not isinstance(document, dict):
        raise RefusedError(400, "not_an_object", f"The body is not a JSON object: {_USAGE}.")
    if not document.keys() <= _FIELDS:
        # The name of a field may be a customer's words.
        raise RefusedError(400, "unknown_field", f"A field is none of {', '.join(sorted(_FIELDS))}.")
    if ("cases" in document) == bool(document.keys() & _OF_A_CASE):
        raise RefusedError(400, "no_cases", f"The body must hold one case, or cases: {_USAGE}.")
    rows = document.get("cases", [{name: document[name] for name in _OF_A_CASE if name in document}])
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() <= _OF_A_CASE for row in rows):
        raise RefusedError(
            400, "not_cases", f"cases is not a list of objects with text or vector, and case_id: {_USAGE}."
        )
    if len(rows) > most:
        raise RefusedError(413, "too_many_cases", f"A request may hold {most:,} cases; this one has {len(rows):,}.")
    wants, digest = document.get("probabilities", False), document.get("encoder_digest")
    if not isinstance(wants, bool):
        raise RefusedError(400, "not_a_truth", "probabilities is neither true nor false.")
    if digest is not None and not isinstance(digest, str):
        raise RefusedError(400, "not_a_digest", "encoder_digest is not a text.")
    return ClassifyRequest(tuple(_case(row) for row in rows), wants, digest)


def case_of(value: Any, case_id: Any, *, of_text: bool) -> Case:
    """A row of a table of one column, of texts or of vectors; ids and faults as `mlflow models serve` gives them."""
    column = "text" if of_text else "embeddings"
    fault = text_fault(value) if of_text else vector_fault(value)
    known = id_text(case_id)
    message = f"{column} {fault}" if fault else "case_id neither text nor a number" * (known is None)
    named = known or made_id(value)
    if message:
        return Case(named, fault=message)
    return Case(named, text=value) if of_text else Case(named, vector=np.asarray(value, dtype=np.float64))


def answer_document(
    request: ClassifyRequest, cases: Sequence[Case], answers: Sequence[Answered | None], version: ServedVersion
) -> bytes:
    """The reply as JSON, one prediction for each case, in the order of the request.

    Args:
        cases: those of the request, with the faults that the version found in them.
        answers: of each; None for a case with a fault.
        version: the champion.
    """
    document = {
        "model_version": version.name,
        "predictions": [
            _refused_row(case) if answer is None else _row(case, answer, request.probabilities)
            for case, answer in zip(cases, answers, strict=True)
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _row(case: Case, answer: Answered, wants: bool) -> dict[str, Any]:
    model = answer.version.model
    row: dict[str, Any] = {
        "case_id": case.case_id,
        "predicted_label": answer.label,
        "confidence": answer.confidence,
        "decided": answer.note is None,
        "note": answer.note,
        "model_version": answer.version.name,
    }
    if model.decision.conformal is not None:
        held = model.decision.label_sets(answer.probabilities[np.newaxis])[0]
        row["label_set"] = [label for label, within in zip(model.classes, held, strict=True) if within]
    if wants:
        row["probabilities"] = dict(zip(model.classes, answer.probabilities.tolist(), strict=True))
    return row


def _refused_row(case: Case) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "predicted_label": None,
        "confidence": None,
        "decided": False,
        "note": f"not predicted: {case.fault}",
        "model_version": None,
    }


def _case(row: Mapping[str, Any]) -> Case:
    if "text" in row and "vector" in row:
        return Case(id_text(row.get("case_id")) or made_id(row["text"]), fault="text and vector in one case")
    of_text = "vector" not in row
    case = case_of(row.get("text") if of_text else row["vector"], row.get("case_id"), of_text=of_text)
    return case if of_text or not case.fault.startswith("embeddings") else _renamed(case)


def _renamed(case: Case) -> Case:
    """Here the column is called otherwise than in a table."""
    return Case(case.case_id, fault=case.fault.replace("embeddings", "vector", 1))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):  # no JSON or UTF-8, numbers of thousands of digits, a deep nest
        pass
    # Outside the handler, so that the first error, which quotes the body, is not chained to this one.
    raise RefusedError(400, "not_json", f"The body is not valid JSON in UTF-8, or a field stands twice: {_USAGE}.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose fields stand once: of two texts a proxy may have read the other one."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a field stands twice")
    return document


_CASE_ID = {
    "description": "A text or a number. Without one it is made of a hash of the text, as in files.",
    "examples": ["c-1"],
}
_ONE = {
    "text": {
        "description": "The message: a text that is not blank, of at most 10,000 characters. Anything else refuses its "
        "row and no other.",
        "examples": ["please delete everything you have on me"],
    },
    "vector": {"description": f"{FULL_WIDTH} finite numbers in place of a text."},
    "case_id": _CASE_ID,
}
_PREDICTION = {
    "type": "object",
    "required": ["case_id", "predicted_label", "confidence", "decided", "note", "model_version"],
    "properties": {
        "case_id": {"type": "string"},
        "predicted_label": {"type": ["string", "null"]},
        "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "decided": {"type": "boolean", "description": "false: a person is to look at it; note says why"},
        "note": {"type": ["string", "null"]},
        "model_version": {"type": ["string", "null"], "description": "who answered this row"},
        "label_set": {"type": "array", "items": {"type": "string"}},
        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
    },
}
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **_ONE,
        "cases": {
            "type": "array",
            "items": {"type": "object", "additionalProperties": False, "properties": _ONE},
            "description": "Several cases; then text, vector and case_id stand in these.",
        },
        "probabilities": {"type": "boolean", "default": False, "description": "of all labels, in each prediction"},
        "encoder_digest": {
            "type": ["string", "null"],
            "description": "of the encoder that made the vectors; if it is not the model's, the request is refused",
        },
    },
    "oneOf": [
        {"required": ["cases"], "not": {"anyOf": [{"required": [name]} for name in sorted(_OF_A_CASE)]}},
        {"not": {"required": ["cases"]}, "anyOf": [{"required": [name]} for name in sorted(_OF_A_CASE)]},
    ],
}
REQUEST_EXAMPLES = {
    "one": {"value": {"text": "please delete everything you have on me"}},
    "several": {
        "value": {
            "cases": [
                {"case_id": "c-1", "text": "stop sending me newsletters"},
                {"case_id": "c-2", "text": "what do you know about me?"},
            ],
            "probabilities": True,
        }
    },
}
REPLY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["model_version", "predictions"],
    "properties": {
        "model_version": {"type": "string", "description": "the champion"},
        "predictions": {"type": "array", "items": _PREDICTION},
    },
}
REPLY_EXAMPLE = {
    "model_version": "v20261126_101500",
    "predictions": [
        {
            "case_id": "case-00c1f0d6fd9be1bb7eb6",
            "predicted_label": "data_deletion",
            "confidence": 0.9731,
            "decided": True,
            "note": None,
            "model_version": "v20261126_101500",
        }
    ],
}
