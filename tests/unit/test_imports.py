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
        "module = import_without('skops.io', 'torch')\n"
        "print(hasattr(module, 'dump'), 'torch' in sys.modules)\n"
        "import torch\nprint(torch.tensor([1.0]).item())"
    )
    assert answer(code).split() == ["True", "False", "1.0"]


def test_what_is_there_already_stays() -> None:
    code = (
        "import json, sys\nfrom pcc_pipeline.imports import import_without\n"
        "module = import_without('xml.dom', 'json')\nprint(sys.modules['json'] is json, module.__name__)"
    )
    assert answer(code).split() == ["True", "xml.dom"]
