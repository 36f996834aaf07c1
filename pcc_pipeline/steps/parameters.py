"""The configuration of a step: schema and model checks together, so that one message holds every fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pcc_pipeline.config import Fault, Params, load_params
from pcc_pipeline.config.schema import ModelParams
from pcc_pipeline.errors import ConfigError, meant
from pcc_pipeline.model.families import FAMILIES, complete, faults
from pcc_pipeline.search.spaces import points_of, space_faults, space_of

# The named options of the command line and the keys they stand for.
NAMED_OPTIONS = {
    "data": "data.path",
    "test_data": "data.test_path",
    "label": "data.label_column",
    "search_method": "model.search_method",
    "n_iter": "model.n_iter",
    "model_type": "model.type",
    "challenger_share": "ab_test.challenger_share",
    "shadow": "ab_test.shadow",
    "windows": "monitoring.windows",
    "fail_on": "monitoring.fail_on",
    "logs": "monitoring.logs",
    "watch": "retrain.watch",
    "since": "retrain.since",
    "parts": "output.embedded_parts",
    "workers": "compute.workers",
    "shard": "compute.shard",
}


def resolve(
    path: str | Path | None,
    named: Mapping[str, str | None] | None = None,
    settings: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Params:
    """The configuration in force.

    Args:
        path: params.yaml.
        named: option of `NAMED_OPTIONS` -> value; None means not given.
        settings: `section.option=value` pairs.
        environment: where to look for `PCC_*` overrides.

    Raises:
        ConfigError: with every fault, those of hyperparameters and the search space included.
    """
    overrides = {NAMED_OPTIONS[name]: value for name, value in (named or {}).items() if value is not None}
    return load_params(path, overrides, settings, environment, {"model": _model_faults}, _whole_faults)


def from_names(
    path: str | Path | None, names: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> Params:
    """The same for a program, which has names for options and values of their types.

    Args:
        names: option of `NAMED_OPTIONS`, or a dotted key with two underscores for the dot, -> value.

    Raises:
        ConfigError: as `resolve`, or there is no option of such a name.
    """
    overrides = {NAMED_OPTIONS.get(name, name.replace("__", ".")): value for name, value in names.items()}
    if unknown := [key for key in overrides if "." not in key]:
        raise ConfigError(
            f"no option is called {unknown[0]}{meant(unknown[0], NAMED_OPTIONS)}",
            where=unknown[0],
            fix=f"name one of {', '.join(NAMED_OPTIONS)}, or an option of a section, such as model__cv_folds",
        )
    return load_params(path, overrides, (), environment, {"model": _model_faults}, _whole_faults)


def _model_faults(model: ModelParams) -> list[Fault]:
    if model.type not in FAMILIES:
        return [Fault("model.type", f"{model.type!r} is not one of {', '.join(FAMILIES)}{meant(model.type, FAMILIES)}")]
    problems = space_faults(model.type, model.search_space, model.search_method)
    searches = model.search_method != "none" and not problems
    space = space_of(model.type, model.search_space, model.hyperparameters) if searches else {}
    wrong = [
        Fault(f"model.hyperparameters.{name}" if name else "model.hyperparameters", problem)
        for name, problem in faults(model.type, model.hyperparameters, points_of(space))
    ]
    searched = model.search_space if isinstance(model.search_space, dict) else {}
    if "n_features" in searched and "feature_selection" not in searched and model.feature_selection == "none":
        why = "nothing is chosen while model.feature_selection is none: name a method there, or search it as well"
        problems.append(("n_features", why))
    return wrong + [
        Fault(f"model.search_space.{name}" if name else "model.search_space", why) for name, why in problems
    ]


def _whole_faults(params: Params) -> list[Fault]:
    model = params.model
    balance = params.preprocessing
    if not balance.balance or balance.balance_method != "class_weight" or model.type not in FAMILIES:
        return []
    if FAMILIES[model.type].weighs_classes(complete(model.type, model.hyperparameters)):
        return []
    return [
        Fault(
            "preprocessing.balance_method",
            f"class_weight does not work with {model.type} or one of its members; "
            "choose SMOTE, BorderlineSMOTE, ADASYN, RandomOverSampler or none",
        )
    ]
