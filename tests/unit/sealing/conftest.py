"""Keys to seal with, which no test leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pcc_pipeline.sealing import keys
from pcc_pipeline.sealing.keys import SealKey

ONE, OTHER = SealKey("0e0e0e0e", b"1" * 32), SealKey("0f0f0f0f", b"2" * 32)


@pytest.fixture(autouse=True)
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`hold(OTHER, ONE)`: these keys are here, newest first; to begin with `ONE` alone."""
    monkeypatch.setattr(keys, "_keys", tuple)
    use = lambda *these: keys.use(lambda: these)  # noqa: E731
    use(ONE)
    return use
