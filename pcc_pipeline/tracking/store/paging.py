"""The results of MLflow's searches, which its client hands out page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from mlflow.store.entities import PagedList

T = TypeVar("T")
# What every server takes; a longer page of runs, with all that was logged, would take its server long.
_PAGE = 1000


def pages(
    search: Callable[..., PagedList[T]], *about: object, limit: int | None = None, **conditions: object
) -> Iterator[T]:
    """The results of one search, whichever page they stand on.

    Pages are asked for as they are needed: make a list of them before what they are about is changed.

    Args:
        search: a search of MLflow's client, called with `about` and `conditions`.
        limit: at most so many; None for all.
    """
    token = None
    while limit is None or limit > 0:
        most = _PAGE if limit is None else min(_PAGE, limit)
        page = search(*about, **conditions, max_results=most, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
        limit = None if limit is None else limit - len(page)


def name_is(name: str) -> str:
    """The condition of a search for what has this name."""
    return f"name = {quoted(name)}"


def quoted(text: str) -> str:
    """A text as a condition of a search takes it: MLflow knows two marks, and no way to write one within itself."""
    mark = '"' if "'" in text else "'"
    return f"{mark}{text}{mark}"
