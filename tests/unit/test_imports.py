"""A package is imported without what it would bring along, and what was hidden can be imported afterwards."""

from __future__ import annotations

import subprocess
import sys


def answer(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_is_unwanted_is_not_imported_and_not_lost() -> None:
    code = (
        "import sys, sklearn.base\nfrom pcc_pipeline.imports import import_without\n"
        "module = import_without('skops.io', 'torch', 'dask', 'pytest')\n"
        "print(hasattr(module, 'dump'), [name for name in ('torch', 'dask', 'pytest') if name in sys.modules])\n"
        "import torch, dask.array\nprint(torch.tensor([1.0]).item(), dask.array.ones(2).sum().compute())"
    )
    assert answer(code).split() == ["True", "[]", "1.0", "2.0"]


def test_what_is_there_already_stays() -> None:
    code = (
        "import json, sys\nfrom pcc_pipeline.imports import import_without\n"
        "module = import_without('xml.dom', 'json')\nprint(sys.modules['json'] is json, module.__name__)"
    )
    assert answer(code).split() == ["True", "xml.dom"]


def test_what_a_command_leaves_is_freed_by_the_one_after_it_in_the_same_process() -> None:
    """A notebook runs many; each left its model, its threads and its store for good."""
    code = (
        "import gc, weakref\nfrom pcc_pipeline.command_line.running import imports\n"
        "class Left: pass\n"
        "with imports(): import json\n"
        "left = Left(); left.itself = left; seen = weakref.ref(left); del left\n"
        "with imports(): import json\n"
        "gc.collect()\nprint(gc.get_freeze_count() > 0, seen() is None)"
    )
    assert answer(code).split() == ["True", "True"]
