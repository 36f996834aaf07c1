"""A configuration file of the older system in the words of this one, with a note for each of its keys that changed.

The older system's file is known by what only it has: `grid_search`, or a `data.schema` of `{name, type}`. Options that
such a file has besides and that have no meaning here are left out with a note; in any other file they stay faults.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

from pcc_pipeline.config.schema import ContractColumn, Params

# The contract's columns that are demanded of every labelled file, by data.schema or without it.
_ALWAYS = ("text",)
_TEXT = frozenset({"str", "string", "text", "object", "varchar", "char", "category", "categorical"})
_WHOLE = frozenset({"int", "int8", "int16", "int32", "int64", "integer", "bigint", "long"})
_NUMBER = frozenset({"float", "float16", "float32", "float64", "double", "number", "numeric", "decimal"})
_BOOLEAN = frozenset({"bool", "boolean"})
_TIME = frozenset({"timestamp", "datetime", "datetime64", "date", "time"})
_LIST = frozenset({"list", "array", "vector", "sequence", "json"})
# Column -> what the contract asks for there, and the types that say no more than that.
_TYPES: dict[str, tuple[str, frozenset[str]]] = {
    "text": ("text", _TEXT),
    "case_id": ("an id, of any type", _TEXT | _WHOLE),
    "confidence": ("a number from 0 to 1", _NUMBER),
    "timestamp": ("an ISO 8601 time", _TIME | _TEXT),
    "text_length": ("a whole number", _WHOLE),
    "word_count": ("a whole number", _WHOLE),
    "has_personal_info": ("true or false", _BOOLEAN),
    "formality_score": ("a number from 0 to 1", _NUMBER),
    "urgency_score": ("a number from 0 to 1", _NUMBER),
    "embeddings": ("a list of numbers", _LIST | _TEXT),
}
# Arguments of scikit-learn's classifiers that are no hyperparameters here -> what does it instead.
_ARGUMENTS = {
    "n_jobs": "search.n_jobs sets the worker processes",
    "verbose": "logging.level sets what is logged",
    "class_weight": "preprocessing.balance_method: class_weight weighs the classes",
    "multi_class": "the solver decides it",
    "warm_start": "each fit starts anew",
    "dual": "the solver decides it",
    "fit_intercept": "an intercept is always fitted",
    "intercept_scaling": "the solver decides it",
}


@dataclass(frozen=True)
class Translation:
    """A file's document in today's words; `notes` are sentences, each about one key of the file."""

    document: dict[str, Any]
    notes: tuple[str, ...] = ()


def translate(document: dict[str, Any]) -> Translation:
    """The document of a parameter file, with what the older system wrote taken, translated or left out."""
    section = document.get("data"), document.get("model")
    data, model = (copy.deepcopy(value) if isinstance(value, dict) else None for value in section)
    translated = {**document, **({"data": data} if data is not None else {}), **({"model": model} if model else {})}
    notes: list[str] = []
    older = False
    if data is not None and _is_typed(data.get("schema")):
        older = True
        notes.append(_schema(data))
    if model is not None:
        if "grid_search" in model and isinstance(model["grid_search"], bool | None):
            older = True
            notes.append(_grid_search(model))
        if isinstance(model.get("hyperparameters"), dict):
            notes += _seed(translated, model["hyperparameters"])
            notes += _arguments(model["hyperparameters"]) if older else []
    if older:
        if model is not None and _searches_its_space(model):
            model["search_space"] = "older"
            notes.append("model.search_space: older, the older system's own, since the file names none")
        notes += _unknown(translated, Params, "")
    return Translation(translated, tuple(notes))


def _searches_its_space(model: dict[str, Any]) -> bool:
    return (
        model.get("type", "LogisticRegression") == "LogisticRegression"
        and model.get("search_method", "random") != "none"
        and model.get("search_space") is None
    )


def _is_typed(schema: Any) -> bool:
    return isinstance(schema, list) and bool(schema) and all(isinstance(e, dict) and "name" in e for e in schema)


def _schema(data: dict[str, Any]) -> str:
    """Puts the names of `{name, type}` in their place."""
    entries = [(str(entry["name"]), entry) for entry in data["schema"]]
    label = data.get("label_column", Params().data.label_column)
    optional = get_args(ContractColumn)
    may_lack = [name for name, entry in entries if entry.get("required") is False or entry.get("nullable") is True]
    names = [name for name, _ in entries if name in optional and name not in may_lack]
    data["schema"] = list(dict.fromkeys(names))
    parts = [f"the file must have {', '.join(dict.fromkeys(names))}" if names else "it demands no optional column"]
    if may_lack:
        parts.append(f"optional: {', '.join(may_lack)}")
    strange = [name for name, _ in entries if name not in (*optional, *_ALWAYS, label)]
    if strange:
        parts.append(f"left alone, as no columns of the data contract: {', '.join(strange)}")
    parts.append("types are checked as the data contract has them")
    for name, entry in entries:
        meaning, known = _TYPES.get(name, ("", frozenset()))
        kind = str(entry.get("type", "")).strip().lower()
        if meaning and kind and kind.partition("[")[0].partition("<")[0].partition("(")[0] not in known:
            parts.append(f"{name} is {meaning} there, not {entry['type']}")
    return f"data.schema: read as a list of names: {'; '.join(parts)}"


def _grid_search(model: dict[str, Any]) -> str:
    value = model.pop("grid_search")
    word = "null" if value is None else str(value).lower()
    if value is None:
        return "model.grid_search: null says nothing and is left out"
    if model.get("search_method") is not None:
        return f"model.grid_search: {word} is left out: model.search_method says {model['search_method']}"
    model["search_method"] = "grid" if value else "none"
    return f"model.grid_search: {word} is taken as model.search_method: {model['search_method']}"


def _seed(document: dict[str, Any], hyperparameters: dict[str, Any]) -> Iterator[str]:
    """One seed serves the split, the folds, the search and the classifier."""
    if "random_state" not in hyperparameters:
        return
    seed = hyperparameters.pop("random_state")
    key = "model.hyperparameters.random_state"
    data = document.get("data")
    data = data if isinstance(data, dict) else {}
    if seed is None:
        yield f"{key}: null is left out: data.random_state is the seed of all"
    elif data.get("random_state") is None:
        document["data"] = {**data, "random_state": seed}
        yield f"{key}: {seed} is taken as data.random_state, the seed of all"
    elif data["random_state"] == seed:
        yield f"{key}: {seed} stands in data.random_state already, the seed of all"
    else:
        yield f"{key}: {seed} is left out: data.random_state, the seed of all, is {data['random_state']}"


def _arguments(hyperparameters: dict[str, Any]) -> Iterator[str]:
    for name in [name for name in hyperparameters if name in _ARGUMENTS]:
        value = hyperparameters.pop(name)
        yield f"model.hyperparameters.{name}: {value} is left out: {_ARGUMENTS[name]}"


def _unknown(values: dict[str, Any], model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Takes out of an older file what no option is called."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for name in list(values):
        if name not in fields:
            near = difflib.get_close_matches(str(name), list(fields), n=1)
            del values[name]
            yield f"{prefix}{name} is left out: there is no such option{f' (is {near[0]} meant?)' if near else ''}"
            continue
        inner = fields[name].annotation
        if isinstance(values[name], dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            values[name] = dict(values[name])
            yield from _unknown(values[name], inner, f"{prefix}{name}.")
