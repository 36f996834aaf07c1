"""Compose's files of deploy/, read as compose reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"


class _Loader(yaml.SafeLoader):
    """YAML with compose's own tag, which replaces a list instead of adding to it."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def compose(name: str) -> dict[str, Any]:
    return dict(yaml.load((DEPLOY / name).read_text(encoding="utf-8"), _Loader))
