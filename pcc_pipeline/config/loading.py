"""From a file, the environment and overrides to `Params`, with all faults in one message.

Precedence: command line, then environment (`PCC_MODEL__CV_FOLDS=3` for `model.cv_folds`), then file.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pcc_pipeline.config.older import translate
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.config.schema import Params
from pcc_pipeline.errors import ConfigError, meant
from pcc_pipeline.masking import masked_in

ENVIRONMENT_PREFIX = "PCC_"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a configuration: the dotted key and what is expected there."""

    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}" if self.key else self.problem


# A file of more is none of ours, such as a data file or a device that was named by mistake.
_MOST_BYTES = 4_000_000
_MOST_VALUES = 100_000
_LONGEST_NUMBER_BITS = 256
_DEEPEST_KEY = 10

# Null, a list, a mapping or a text in quotes: what an option that takes text may be given in YAML's words.
_NOT_AS_IT_STANDS = re.compile(r"""\s*(?:[\[{"']|-\s|(?:~|null|Null|NULL)?\s*$)""")

SectionCheck = Callable[[Any], list[Fault]]


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but 1e-3 is a number (without the dot it would be text) and no key stands twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        # PyYAML would take the last and drop what stood before, even a whole section. This is before `<<` is resolved:
        # what that brings along may stand there again.
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if first := lines.get((key.tag, key.value)):
                    raise _impossible(f"the key {key.value!r} stands twice in one mapping, first in line {first}", key)
                lines[key.tag, key.value] = line
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        # PyYAML hands on what Python says of 2026-02-31, of a number of 5,000 digits or of `!!bool maybe`.
        try:
            value = super().construct_object(node, deep)
        except (ValueError, OverflowError, LookupError, AttributeError, TypeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _impossible(f"this is no {kind} that there can be", node) from error
        if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER_BITS:
            raise _impossible("a number of so many digits is none of an option", node)
        return value


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _impossible(problem: str, node: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _loaded(text: str) -> Any:
    """A YAML text's value.

    Raises:
        yaml.YAMLError: it is no YAML, or one that grows without bounds, such as lists of aliases of lists of aliases.
    """
    try:
        value = yaml.load(text, _Yaml)
        size = _size(value, {}, ())
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply for a configuration") from error
    if size > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES:,} values")
    return value


def _size(value: Any, known: dict[int, int], around: tuple[int, ...]) -> int:
    """How many values it is with every alias written out; each is looked at once."""
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) in around:
        raise yaml.YAMLError("an alias stands within what it is an alias of")
    if id(value) not in known:
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(each, known, (*around, id(value))) for each in inner)
    return known[id(value)]


def chosen_file(name: str | None, *, demanded: bool = False) -> Path | None:
    """The parameter file of a command: the named one, else params.yaml in the working folder; None for the defaults.

    Args:
        demanded: the command moves a champion. It goes by the gates and targets of a file, and by the defaults only
            where a file says so: in a wrong folder it would judge mildly, and publish nothing.

    Raises:
        ConfigError: a file is demanded, and there is none.
    """
    if name is not None:
        return local_path(name)
    path = local_path("params.yaml")
    if path.is_file():
        return path
    if demanded:
        raise ConfigError(
            "no params.yaml in this folder, and a promotion goes by its gates and targets",
            where=str(path.absolute()),
            fix="name it with --params-file, or change to its folder; an empty file stands for the defaults",
        )
    return None


def load_params(
    path: str | Path | None,
    overrides: Mapping[str, Any] | None = None,
    settings: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    checks: Mapping[str, SectionCheck] | None = None,
    whole_check: Callable[[Params], list[Fault]] | None = None,
) -> Params:
    """Read, merge and validate a configuration.

    What a file of the older system says in other words is translated, with a warning in the log for each key.

    Args:
        path: a params.yaml, or None for the defaults alone.
        overrides: dotted key -> value, from named options; they win over `settings`.
        settings: texts such as `"model.cv_folds=3 data.stratify=false"`.
        environment: variables to look for `PCC_*` overrides in.
        checks: section name -> a further check of that section, run whenever the section itself is valid.
        whole_check: a further check over sections, run when all of them are valid.

    Raises:
        ConfigError: with every fault found, each with its dotted key, the value and the choices there are.
    """
    older = translate(_read(local_path(path)) if path is not None else {})
    document = older.document
    faults: list[Fault] = []
    for source in (_from_environment(environment or {}), *(_from_setting(text) for text in settings)):
        for key, value in source.items():
            if isinstance(value, Fault):
                faults.append(value)
            else:
                _place(document, key, value, faults)
    for key, value in (overrides or {}).items():
        _place(document, key, value, faults)

    params: Params | None = None
    try:
        params = Params.model_validate(document)
    except ValidationError as error:
        faults += [_explain(item) for item in error.errors()]
    for name, check in (checks or {}).items():
        section = Params.model_fields[name].annotation
        assert section is not None
        options = document.get(name) or {}
        try:
            faults += check(section.model_validate(options))
        except ValidationError as error:
            # These faults are already among those of the whole; what else stands there is still checked.
            wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
            if isinstance(options, dict) and "type" not in wrong:
                faults += check(section.model_validate({key: options[key] for key in options if key not in wrong}))
    if params is not None and whole_check is not None:
        faults += whole_check(params)
    if faults or params is None:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise ConfigError(
            f"the configuration has {len(faults)} fault{'s' if len(faults) != 1 else ''}:\n{listing}",
            where=str(path or "defaults and overrides"),
            fix="mend them all and run again; params.yaml explains every option where it stands",
        )
    for note in older.notes:
        logger.warning("%s: %s", path, note)
    return params


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError("no such parameter file", where=str(path), fix="give params_file an existing path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the parameter file cannot be read: it is not UTF-8 at byte {error.start}",
            where=str(path),
            fix="save it as UTF-8 text",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the parameter file cannot be read: {error.strerror or error}", where=str(path), fix="name a readable file"
        ) from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(
            f"the parameter file cannot be read: it has more than {_MOST_BYTES:,} bytes",
            where=str(path),
            fix="name a file such as params.yaml",
        )
    try:
        document = _loaded(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"not valid YAML: {masked_in(_without_the_lines(error))}", where=str(path), fix="mend the line named above"
        ) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"expected sections such as `data:`, found a {type(document).__name__}", where=str(path))
    return document


def _without_the_lines(error: yaml.YAMLError) -> str:
    # PyYAML quotes what stands there, which may be an address with its password.
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error)
    begin = f" from line {error.context_mark.line + 1}" if error.context_mark else ""
    context = f"{error.context}{begin}: " if error.context else ""
    return f"{context}{error.problem}, in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    settings = {}
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            section, option, *inner = name.removeprefix(ENVIRONMENT_PREFIX).split("__")
            # Hyperparameters are named by scikit-learn, C and max_iter: their case counts.
            as_written = option.lower() in ("hyperparameters", "search_space")
            key = ".".join([section.lower(), option.lower(), *(part if as_written else part.lower() for part in inner)])
            settings[key] = _value(key, value)
    return settings


def _from_setting(text: str) -> dict[str, Any]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        return {"set": Fault("set", f"{masked_in(repr(text))} cannot be split into key=value pairs: {error}")}
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        malformed = Fault("set", f"{masked_in(repr(word))} is not of the form section.option=value")
        settings[key] = _value(key, value) if equals else malformed
    return settings


def _value(key: str, text: str) -> Any:
    # To an option that takes text it is that text: YAML would end it at a blank with a # after it, and would read a
    # label such as yes, no or 1 as something else. What it cannot print, it refuses.
    if _takes_text(key) and not _NOT_AS_IT_STANDS.match(text) and not _Yaml.NON_PRINTABLE.search(text):
        return text.strip()
    try:
        return _loaded(text)
    except yaml.YAMLError as error:
        why = f": {error.problem}" if isinstance(error, yaml.constructor.ConstructorError) else ""
        # Who is told may have been written as an address, whose path is its password.
        shown = "this" if key in ("monitoring.notify", "monitoring.alerts") else _shown(text)
        return Fault(key, f"{shown} is not a YAML value{why}")


def _takes_text(key: str) -> bool:
    kind: Any = Params
    for part in key.split("."):
        field = getattr(kind, "model_fields", {}).get(part)
        kind = field.annotation if field else None
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return any(getattr(each, "__origin__", each) is str for each in kinds)


def _place(document: dict[str, Any], key: str, value: Any, faults: list[Fault]) -> None:
    *parents, last = key.split(".")
    if not parents:
        hint = meant(key, [f"{section}.{option}" for section, option in _all_options()])
        faults.append(Fault(key, f"an option is named by its dotted key, such as model.cv_folds{hint}"))
        return
    if len(parents) > _DEEPEST_KEY:
        faults.append(Fault(f"{'.'.join(parents[:3])}.…", "no such option: no option lies so deep"))
        return
    place: Any = document
    for parent in parents:
        # A level that holds a plain value is replaced: the override says it is a section.
        if not isinstance(place.get(parent), dict):
            place[parent] = {}
        place = place[parent]
    place[last] = value


def _all_options() -> list[tuple[str, str]]:
    pairs = []
    for name, field in Params.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            pairs += [(name, inner.alias or option) for option, inner in section.model_fields.items()]
    return pairs


def _explain(error: Any) -> Fault:
    location = [str(part) for part in error["loc"] if not str(part).startswith(("function-", "literal["))]
    key, value = ".".join(location), error["input"]
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return Fault(key, f"no such option{_choices_near(location)}")
    if kind == "value_error":
        return Fault(key, str(context["error"]))
    if kind == "string_type":
        return Fault(
            key, f"{_shown(value)} is not text; in YAML, yes, no, true, false and numbers must stand in quotes"
        )
    if kind == "literal_error":
        return Fault(key, f"{_shown(value)} is not one of {context['expected']}")
    return Fault(key, f"{_shown(value)}: {error['msg'][0].lower()}{error['msg'][1:]}")


def _shown(value: Any) -> str:
    text = masked_in(repr(value))
    return text if len(text) <= 200 else f"{text[:100]}… ({len(text):,} characters)"


def _choices_near(location: list[str]) -> str:
    model: Any = Params
    for part in location[:-1]:
        field = model.model_fields.get(part) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = next((kind for kind in (field.annotation, *get_args(field.annotation))), None) if field else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return ""
    names = [field.alias or name for name, field in model.model_fields.items()]
    elsewhere = [f"{section}.{option}" for section, option in _all_options() if option == location[-1]]
    near = f" (did you mean {' or '.join(elsewhere)}?)" if elsewhere else meant(location[-1], names)
    return f"{near}; there are {', '.join(names)}"
