"""Case ids in documents that the project writes beside tables: pages list rows to look at, JSON holds lists of ids."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Iterator
from typing import Any

SUFFIXES = (".html", ".json", ".md")
# Tables of pages whose first column names cases, as `evaluation.page` writes them.
_TABLE = re.compile(r"<table><thead><tr><th[^>]*>case</th>.*?</table>", re.DOTALL)
_ROW = re.compile(r"<tr><td[^>]*>(.*?)</td>.*?</tr>\n?", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_OF_CASES = "case_id"
# The same in Markdown: tables have no other mark than their head.
_HEAD = "| case |"
_ESCAPED = re.compile(r"\\([\\|*_`\[\]])")


def cases_in(content: str, suffix: str) -> set[str]:
    """Every case that a document names where it lists cases.

    Raises:
        ValueError: what should be JSON is none.
    """
    if suffix == ".json":
        return set(_named(json.loads(content), of_cases=False))
    if suffix == ".md":
        return {name for name, _ in _lines(content) if name is not None}
    return {_cell(row) for table in _TABLE.finditer(content) for row in _ROW.finditer(table[0])}


def without_cases(content: str, suffix: str, names: Collection[str]) -> tuple[str, int]:
    """A document without the rows and entries of these cases, and how many those were; the rest as it is, to the byte.

    Raises:
        ValueError: what should be JSON is none.
    """
    removed = 0
    if suffix == ".json":
        document, removed = _entries(json.loads(content), names, of_cases=False)
        return (json.dumps(document, ensure_ascii=False, indent=2) + "\n" if removed else content), removed
    if suffix == ".md":
        lines = list(_lines(content))
        kept = [line for name, line in lines if name is None or name not in names]
        return "".join(kept), len(lines) - len(kept)

    def row(match: re.Match[str]) -> str:
        nonlocal removed
        if _cell(match) not in names:
            return match[0]
        removed += 1
        return ""

    return _TABLE.sub(lambda table: _ROW.sub(row, table[0]), content), removed


def _cell(row: re.Match[str]) -> str:
    return html.unescape(_TAG.sub("", row[1]))


def _lines(content: str) -> Iterator[tuple[str | None, str]]:
    """Each line, and the case that it is about; None where it is about none."""
    of_cases = False
    for line in content.splitlines(keepends=True):
        head = line.startswith(_HEAD)
        of_cases = head or (of_cases and line.startswith("| "))
        name = html.unescape(_ESCAPED.sub(r"\1", line[2:].partition(" |")[0]))
        yield (name if of_cases and not head and name != "---" else None), line


def _named(value: Any, *, of_cases: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _named(each, of_cases=_OF_CASES in key)
    elif isinstance(value, list):
        for each in value:
            yield from _named(each, of_cases=of_cases)
    elif of_cases and isinstance(value, str):
        yield value


def _entries(value: Any, names: Collection[str], *, of_cases: bool) -> tuple[Any, int]:
    """What is left of a JSON value; `of_cases`: it stands under a key that names case ids."""
    if isinstance(value, dict):
        parts = {key: _entries(each, names, of_cases=_OF_CASES in key) for key, each in value.items()}
        return {key: part for key, (part, _) in parts.items()}, sum(removed for _, removed in parts.values())
    if isinstance(value, list):
        kept = [each for each in value if not _is_named(each, names, of_cases=of_cases)]
        left = [_entries(each, names, of_cases=of_cases) for each in kept]
        return [part for part, _ in left], len(value) - len(kept) + sum(removed for _, removed in left)
    return value, 0


def _is_named(value: Any, names: Collection[str], *, of_cases: bool) -> bool:
    if isinstance(value, dict):
        return value.get(_OF_CASES) in names
    return of_cases and isinstance(value, str) and value in names
