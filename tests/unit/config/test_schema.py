"""The sections of params.yaml: closed, frozen, and the same as the shipped file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from pcc_pipeline.config import Params, load_params
from pcc_pipeline.config.paths import addresses_in
from pcc_pipeline.config.schema import BalanceMethod, ModelParams, PreprocessingParams, Section
from pcc_pipeline.errors import ConfigError

SHIPPED = Path(__file__).parents[3] / "params.yaml"


def keys(document: Any, prefix: str = "") -> set[str]:
    """Dotted keys of a nested document."""
    if not isinstance(document, dict) or not document:
        return {prefix}
    return {key for name, inner in document.items() for key in keys(inner, f"{prefix}.{name}" if prefix else name)}


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and the models of its fields."""
    inner = [field.annotation for field in model.model_fields.values()]
    below = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return [model, *(each for kind in below for each in sections(kind))]


def test_the_shipped_file_equals_the_defaults() -> None:
    assert load_params(SHIPPED) == Params()


def test_the_shipped_file_names_every_option() -> None:
    """An option that it leaves out would be documented nowhere."""
    assert keys(yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))) == keys(Params().document())


def test_every_option_of_the_shipped_file_is_explained_where_it_stands() -> None:
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    bare = []
    for number, line in enumerate(lines):
        name = line.split(":")[0].strip()
        if line.startswith("  ") and not name.startswith("#"):
            before = [earlier.strip() for earlier in lines[max(0, number - 8) : number]]
            if "#" not in line and not any(earlier.startswith("#") for earlier in before):
                bare.append(name)
    assert not bare


def test_every_section_is_closed_and_frozen() -> None:
    for model in sections(Params):
        assert issubclass(model, Section)
        assert (model.model_config["extra"], model.model_config["frozen"]) == ("forbid", True), model


def test_a_loaded_value_cannot_be_changed() -> None:
    params = Params()
    with pytest.raises(ValidationError, match="frozen"):
        params.model.cv_folds = 3  # type: ignore[misc] # what is tried is what must fail
    with pytest.raises(ValidationError, match="frozen"):
        params.model = ModelParams()  # type: ignore[misc] # likewise


def test_flat_names_options_by_their_dotted_keys() -> None:
    flat = load_params(None, {"model.hyperparameters": {"C": 3, "penalty": "l2"}, "data.schema": ["case_id"]}).flat()
    assert flat["model.search_method"] == "random"
    assert flat["data.test_size"] == "0.2"
    assert flat["data.schema"] == "['case_id']"
    assert flat["preprocessing.tfidf.ngram_range"] == "[3, 5]"
    assert (flat["model.hyperparameters.C"], flat["model.hyperparameters.penalty"]) == ("3", "l2")
    assert flat["search.timeout"] == "None"
    assert all("." in key and isinstance(value, str) for key, value in flat.items())


def test_a_document_loads_back_to_the_same_parameters(tmp_path: Path) -> None:
    """The resolved params.yaml that a run logs makes the run again."""
    first = load_params(None, {"data.schema": ["case_id"], "model.hyperparameters": {"C": 3}, "search.timeout": 5})
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(first.document()))
    assert load_params(path) == first


@pytest.mark.parametrize("method", BalanceMethod.__args__)
def test_balance_false_switches_any_method_off(method: Any) -> None:
    assert PreprocessingParams(balance_method=method, balance=True).balance_for(1000) == method
    assert PreprocessingParams(balance_method=method, balance=False).balance_for(1000) == "none"


def test_classes_of_like_size_are_left_alone() -> None:
    options = PreprocessingParams(balance_method="SMOTE", balance_above=4)
    assert [options.balance_for(imbalance) for imbalance in (1, 4, 4.1)] == ["none", "none", "SMOTE"]
    assert PreprocessingParams(balance_above=1).balance_for(1.01) == "SMOTE"


@pytest.mark.parametrize(
    ("search_method", "cross_val", "folds"),
    [
        ("random", "auto", 5),
        ("random", True, 5),
        ("random", False, 1),
        ("none", "auto", 0),
        ("none", True, 5),
        ("none", False, 0),
    ],
)
def test_folds_used(search_method: Any, cross_val: Any, folds: int) -> None:
    assert ModelParams(search_method=search_method, cross_val=cross_val).folds_used == folds


IMPOSSIBLE = [
    ({"data.test_size": 0.6, "data.validation_size": 0.4}, "leave no rows to train on"),
    ({"preprocessing.tfidf.ngram_range": [5, 3]}, r"must be \[smallest, largest\]"),
    ({"search.n_jobs": 0}, "n_jobs 0 leaves nobody to work"),
    ({"search.pruning": True, "model.search_method": "none"}, r"search\.pruning=true needs .* other than none"),
    ({"search.study_name": "mine"}, r"need model\.search_method=optuna: no other method has a study"),
    ({"search.storage": "s.log", "model.search_method": "grid"}, "no other method has a study"),
]


@pytest.mark.parametrize(("overrides", "message"), IMPOSSIBLE)
def test_impossible_combinations_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_params(None, overrides)


def test_the_same_combinations_are_taken_where_they_make_sense() -> None:
    load_params(None, {"data.test_size": 0.6, "data.validation_size": 0.4, "data.test_path": "test.csv"})
    optuna = {"model.search_method": "optuna", "search.pruning": True, "search.study_name": "m", "search.storage": "s"}
    assert load_params(None, optuna).search.pruning


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.test_size", 0, "greater than 0"),
        ("preprocessing.cache", "cache.internal:6379", "redis://host:6379/0"),
        ("data.test_size", 1, "less than 1"),
        ("data.test_size", "half", "valid number"),
        ("data.validation_size", -0.1, "greater than 0"),
        ("data.max_rejected_fraction", 1, "less than 1"),
        ("data.random_state", -1, "greater than or equal to 0"),
        ("data.random_state", 2**32, "less than 4294967296"),
        ("data.path", "", "at least 1 character"),
        ("data.schema", ["case_number"], "is not one of 'case_id', 'confidence'"),
        ("preprocessing.balance_method", "smote", "is not one of 'SMOTE', 'BorderlineSMOTE', 'ADASYN'"),
        ("preprocessing.backend", "onnx", "is not one of 'auto', 'torch' or 'openvino'"),
        ("preprocessing.svd_components", 201, "less than or equal to 200"),
        ("preprocessing.batch_size", 0, "greater than or equal to 1"),
        ("preprocessing.tfidf.analyzer", "words", "is not one of 'word', 'char' or 'char_wb'"),
        ("model.search_method", "bayes", "is not one of 'none', 'grid', 'random' or 'optuna'"),
        ("model.scoring", "recall", "is not one of 'f1', 'f1_weighted', 'f1_macro'"),
        ("model.n_iter", 0, "greater than or equal to 1"),
        ("model.n_iter", 2.5, "valid integer"),
        ("model.cv_folds", 1, "greater than or equal to 2"),
        ("model.hyperparameters", [1], "valid dictionary"),
        ("search.sampler", "cmaes", "is not one of 'tpe', 'gp' or 'qmc'"),
        ("search.timeout", 0, "greater than 0"),
        ("search.n_jobs", -2, "greater than or equal to -1"),
        ("registry.model_name", "a/b", "match pattern"),
        ("output.metrics", "", "at least 1 character"),
        ("logging.level", "LOUD", "is not one of 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_its_key(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_params(None, {key: value})
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith("  - ")]
    assert line.startswith(f"  - {key}")
    assert message in line


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("postgresql+psycopg://pcc:secret@host/studies", "postgresql+psycopg://pcc:***@host/studies"),
        ("postgresql+psycopg://pcc:se/cret@host/studies", "postgresql+psycopg://pcc:***@host/studies"),
        ("postgresql://pcc:se@cret:1@host:5432/studies", "postgresql://pcc:***@host:5432/studies"),
        (
            "postgresql://host/studies?user=pcc&password=secret&x=1",
            "postgresql://host/studies?user=pcc&password=***&x=1",
        ),
        ("postgresql+psycopg://pcc@host/studies", "postgresql+psycopg://pcc@host/studies"),
        ("studies.log", "studies.log"),
    ],
)
def test_a_password_in_an_address_is_not_recorded(given: str, recorded: str) -> None:
    params = Params.model_validate({"model": {"search_method": "optuna"}, "search": {"storage": given}})
    assert params.search.storage == given
    assert params.document()["search"]["storage"] == params.flat()["search.storage"] == recorded


def test_a_list_of_addresses_is_recorded_as_a_list_without_their_secrets() -> None:
    addresses = ["https://host/a.csv?X-Amz-Signature=secret", "gs://bucket/a b.csv", "c.csv"]
    recorded = Params.model_validate({"data": {"path": addresses}}).flat()["data.path"]
    assert addresses_in(recorded) == ["https://host/a.csv?X-Amz-Signature=***", *addresses[1:]]


@pytest.mark.parametrize("target", ["s3://bucket/models", "gs://", "gs:///models", "file:///models", ""])
def test_a_publication_target_is_a_folder_or_a_bucket(target: str) -> None:
    with pytest.raises(ConfigError, match=r"registry\.publish\.target"):
        load_params(None, {"registry.publish.target": target})


@pytest.mark.parametrize("target", ["gs://bucket", "gs://bucket/models", "/models", "outputs/our models"])
def test_folders_and_buckets_are_publication_targets(target: str) -> None:
    assert load_params(None, {"registry.publish.target": target}).registry.publish.target == target


@pytest.mark.parametrize(
    ("decision", "fault"),
    [
        ({"abstain": "auto"}, "needs target_accuracy or max_review_share"),
        ({"abstain": "auto", "target_accuracy": 0.9, "max_review_share": 0.1}, "one of them only"),
        ({"target_accuracy": 0.9}, "set abstain: auto"),
        ({"abstain": "threshold"}, "go together"),
        ({"threshold": 0.5}, "go together"),
        ({"conformal_by_class": True}, "needs conformal"),
    ],
)
def test_a_decision_rule_that_cannot_be_meant_is_refused(decision: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Params.model_validate({"decision": decision})


def types_in(annotation: Any) -> set[Any]:
    return {annotation}.union(*(types_in(part) for part in get_args(annotation)))


def test_yes_and_no_are_no_numbers() -> None:
    """Of `retention: {runs: yes}` pydantic makes one day; of every option that takes numbers it is refused."""
    numeric = [
        (name, option)
        for name, section in Params.model_fields.items()
        for option, field in getattr(section.annotation, "model_fields", {}).items()
        if types_in(field.annotation) & {int, float} and bool not in types_in(field.annotation)
    ]
    assert len(numeric) > 50
    for name, option in numeric:
        for value, word in ((True, "true"), (False, "false")):
            with pytest.raises(
                ConfigError, match=rf"(?m)^  - {name}\.{option}: {word} is not a number; YAML reads yes"
            ):
                load_params(None, {f"{name}.{option}": value})


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("retention.runs", "yes"),
        ("preprocessing.tfidf.n_features", "on"),
        ("preprocessing.tfidf.ngram_range", "[yes, 3]"),
        ("monitoring.alerts.0.repeat_hours", "yes"),
    ],
)
def test_yes_is_no_number_however_it_comes(tmp_path: Path, key: str, text: str) -> None:
    whole = "monitoring.alerts" if "alerts" in key else key
    text = "[{metric: drift/alarm, above: 0, repeat_hours: yes}]" if "alerts" in key else text
    message = rf"{re.escape(key)}: true is not a number"
    with pytest.raises(ConfigError, match=message):
        load_params(None, environment={f"PCC_{whole.upper().replace('.', '__')}": text})
    *sections, option = whole.split(".")
    path = tmp_path / "params.yaml"
    path.write_text(": {".join([*sections, f"{option}: {text}"]) + "}" * len(sections), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_params(path)


def test_an_option_that_takes_true_takes_it_still() -> None:
    for value in (True, False):
        model = load_params(None, {"model.cross_val": value, "model.hyperparameters": {"early_stopping": value}}).model
        assert (model.cross_val, model.hyperparameters) == (value, {"early_stopping": value})
