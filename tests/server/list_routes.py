"""Print every route of the server's app as JSON, [[path, [method, …]], …]; run with the server's environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "mlflow_app"))

from pcc_accounts import create_app


def routes_of(routes: list[Any], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for route in routes:
        inner = getattr(route, "app", None)
        if hasattr(inner, "app") and hasattr(inner.app, "url_map"):  # the Flask app, mounted below the FastAPI one
            for rule in inner.app.url_map.iter_rules():
                yield prefix + route.path + rule.rule, sorted(rule.methods)
        elif getattr(route, "methods", None):
            yield prefix + route.path, sorted(route.methods)
        elif hasattr(route, "original_router"):
            yield from routes_of(route.original_router.routes, prefix + route.include_context.prefix)
        else:
            raise TypeError(f"a kind of route that this does not know: {type(route)} {vars(route)}")


print(json.dumps(sorted(routes_of(create_app().app.routes))))
