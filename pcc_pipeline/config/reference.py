"""The table of all options in docs/configuration.md, made of the schema and of what params.yaml says beside each.

`make docs` (`python -m pcc_pipeline.config.reference`) writes it into the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pcc_pipeline.config.schema import Params

BEGIN, END = "<!-- make docs: begin -->", "<!-- make docs: end -->"


def reference(params_file: str) -> str:
    """One Markdown table a section: each option's key, type, default, and its comment in `params_file` (its text)."""
    schema = Params.model_json_schema(by_alias=True)
    comments = dict(_comments(params_file))
    parts = []
    for section, described in schema["properties"].items():
        rows = [
            f"| `{key}` | {_type(option, schema)} | `{_shown(option)}` | {comments[key] or comments[_above(key)]} |"
            for key, option in _options(section, described, schema)
        ]
        head = ("| option | type | default | what it is |", "|---|---|---|---|")
        parts.append("\n".join([f"## `{section}`\n", *head, *rows]))
    return "\n\n".join(parts) + "\n"


def with_reference(page: str, params_file: str) -> str:
    """The page with the table between its two marks made anew."""
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{reference(params_file)}\n{END}{rest.split(END)[1]}"


def _options(key: str, described: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    section = _resolved(described, schema)
    if "properties" not in section:
        yield key, described
        return
    for name, option in section["properties"].items():
        yield from _options(f"{key}.{name}", option, schema)


def _resolved(described: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in described:
        name = described["$ref"].rpartition("/")[2]
        definition: Mapping[str, Any] = schema["$defs"][name]
        return definition
    return described


def _type(described: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Such as `integer from 1 to 200`, `none, grid or random`, `string or null`."""
    described = _resolved(described, schema)
    if "anyOf" in described:
        return " or ".join(dict.fromkeys(_type(part, schema) for part in described["anyOf"]))
    if "enum" in described:
        names = [f"`{name}`" for name in described["enum"]]
        return ", ".join(names[:-1]) + f" or {names[-1]}"
    kind = {"array": "list", "object": "mapping"}.get(described.get("type", ""), described.get("type", "any value"))
    if kind == "list" and described.get("items"):
        kind = f"list of {_type(described['items'], schema)}"
    limits = {"minimum": "at least", "exclusiveMinimum": "over", "maximum": "at most", "exclusiveMaximum": "under"}
    bounds = [f"{word} {described[name]:,}" for name, word in limits.items() if name in described]
    return f"{kind}, {' and '.join(bounds)}" if bounds else str(kind)


def _shown(described: Mapping[str, Any]) -> str:
    """The default as params.yaml would have it."""
    default = described.get("default", {} if described.get("type") == "object" else None)
    if isinstance(default, list) and any(isinstance(item, dict) for item in default):
        return "see params.yaml"
    return json.dumps(default, ensure_ascii=False).strip('"')


def _above(key: str) -> str:
    return key.rpartition(".")[0]


def _comments(params_file: str) -> Iterator[tuple[str, str]]:
    """(dotted key, the comment above it and beside it) for each key of a params.yaml."""
    folders: list[tuple[int, str]] = []
    above: list[str] = []
    for line in params_file.splitlines():
        if not line.strip():
            above = []
        elif line.lstrip().startswith("#"):
            above.append(line.strip().lstrip("#").strip())
        elif match := re.match(r"( *)([A-Za-z_]+):(.*)", line):
            indent = len(match[1])
            folders = [folder for folder in folders if folder[0] < indent]
            beside = re.findall(r"\s#\s(.*)$", match[3])
            yield ".".join([*(name for _, name in folders), match[2]]), " ".join([*above, *beside]).replace("|", "\\|")
            folders.append((indent, match[2]))
            above = []


def main() -> None:
    """Write the table into docs/configuration.md of the checkout that holds this package."""
    root = Path(__file__).parents[2]
    page = root / "docs" / "configuration.md"
    params_file = (root / "params.yaml").read_text(encoding="utf-8")
    page.write_text(with_reference(page.read_text(encoding="utf-8"), params_file), encoding="utf-8")


if __name__ == "__main__":
    main()
