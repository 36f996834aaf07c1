"""Labels that differ only by blanks, case or Unicode form: each would be a class of its own."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

# Characters that show nothing, of Unicode's category Cf, within a label as a spreadsheet leaves them.
_FORMAT_CHARACTERS = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_MAX_SHOWN, _MAX_CHARACTERS = 5, 40


def label_key(label: str) -> str:
    """The same for labels that a person would read as one: case, blanks and Unicode form folded."""
    folded = unicodedata.normalize("NFKC", label).casefold()
    return " ".join(_FORMAT_CHARACTERS.sub("", unicodedata.normalize("NFKC", folded)).split())


def near_equal(counts: Mapping[str, int]) -> list[list[str]]:
    """Groups of labels with one key, the most frequent spelling first; equal counts in the labels' order."""
    groups: dict[str, list[str]] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        groups.setdefault(label_key(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def spellings(labels: Iterable[str], known: Sequence[str] = ()) -> dict[str, str]:
    """Label -> the spelling that stands for it, for labels that change: a known one, else the most frequent one."""
    counts = Counter(labels)
    replacement = {label: group[0] for group in near_equal(counts) for label in group[1:]}
    chosen = {label_key(label): label for label in known}
    replacement |= {label: chosen[key] for label in counts if (key := label_key(label)) in chosen}
    return {label: spelling for label, spelling in replacement.items() if label != spelling and label not in known}


def respelled(labels: Iterable[str], known: Sequence[str]) -> list[str]:
    """Labels in the known ones' spelling, where they differ from one by blanks, case or Unicode form alone."""
    labels = [str(label) for label in labels]
    changed = spellings(labels, known)
    return [changed.get(label, label) for label in labels]


def near_equal_line(groups: Sequence[Sequence[str]], merged: bool) -> str:
    """What to tell about groups of near-equal labels."""
    shown = "; ".join(" = ".join(map(_shown, group)) for group in groups[:_MAX_SHOWN])
    more = f"; and {len(groups) - _MAX_SHOWN} more" if len(groups) > _MAX_SHOWN else ""
    if merged:
        return f"labels that differ only by blanks, case or Unicode form are one, under the first: {shown}{more}"
    return (
        f"labels differ only by blanks, case or Unicode form, and each is a class of its own: {shown}{more}; "
        "data.normalise_labels=true makes them one"
    )


def one_line(text: str) -> str:
    """Text as one line of printable characters: a label may hold any, and some steer a terminal or break a table."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _shown(label: str) -> str:
    cut = label if len(label) <= _MAX_CHARACTERS else f"{label[:_MAX_CHARACTERS]}…"
    return ascii(cut) if not cut.isprintable() or unicodedata.normalize("NFC", cut) != cut else repr(cut)
