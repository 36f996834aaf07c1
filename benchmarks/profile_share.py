"""What the reference profile takes of `train`'s time: `python -m benchmarks.profile_share [--data FILE] [--set …]`.

The training is whole, with a search or without one as its options say, in a store that goes at the end; what makes the
profile (the learned space, what is usual, the draws of chance, and the file's bytes) is timed within it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pcc_pipeline.monitoring.change.learned_space import LearnedSpace
from pcc_pipeline.steps import train
from pcc_pipeline.steps.parameters import resolve


def main(arguments: list[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_share", description=__doc__)
    parser.add_argument("--data", default="sample")
    parser.add_argument("--label", default="intent")
    parser.add_argument("--search-method", default="none")
    parser.add_argument("--cache", help="a folder of vectors that were made before")
    options = parser.parse_args(arguments)
    import mlflow

    spent: dict[str, float] = {}
    originals = {
        "the learned space": (LearnedSpace, "of"),
        "what is usual": (train, "usual_of"),
        "reference rows and chance": (train, "reference"),
        "the file": (train, "profile_payloads"),
    }
    kept = {name: getattr(owner, attribute) for name, (owner, attribute) in originals.items()}
    before = Path.cwd(), mlflow.get_tracking_uri()
    named = {"data": str(Path(options.data).resolve()) if options.data != "sample" else "sample"}
    named |= {"label": options.label, "search_method": options.search_method}
    settings = [] if options.cache is None else [f"preprocessing.cache_dir={Path(options.cache).resolve()}"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, (owner, attribute) in originals.items():
                setattr(owner, attribute, _timed(kept[name], name, spent))
            os.chdir(folder)
            mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
            begun = time.perf_counter()
            train.run(resolve(None, named, settings))
            whole = time.perf_counter() - begun
        finally:
            for name, (owner, attribute) in originals.items():
                setattr(owner, attribute, kept[name])
            os.chdir(before[0])
            mlflow.set_tracking_uri(before[1])
    profile = sum(spent.values())
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spent.items())
    print(f"train {whole:.1f} s, the profile {profile:.2f} s, {profile / whole:.1%} of it: {parts}")
    return 0


def _timed(call: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - begun

    return timed


if __name__ == "__main__":
    raise SystemExit(main())
