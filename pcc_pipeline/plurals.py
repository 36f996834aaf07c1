"""Numbers with the word that they count."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {plural(number, what)}"


def plural(number: int, what: str) -> str:
    """`row` of one, else `rows`; for where the number stands elsewhere."""
    return what if number == 1 else f"{what}s"
