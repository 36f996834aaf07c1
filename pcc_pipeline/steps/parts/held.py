"""What a process holds open for its tasks: a model, an encoder. It is opened once and serves all tasks of one run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What gives back what it opened."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)


class Held(Generic[T]):
    """One thing, of one key, in this process. A worker of Dask outlives a run, and the next one may need another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[str, T] | None = None

    def get(self, key: str, opened: Callable[[], T]) -> T:
        """The thing of this key; what is held of another is closed first, as there is memory for one."""
        with self._lock:
            if self._held is None or self._held[0] != key:
                self._close()
                self._held = key, opened()
            return self._held[1]

    def let_go(self, key: str) -> None:
        """Close what is held, if it is of this key."""
        with self._lock:
            if self._held is not None and self._held[0] == key:
                self._close()

    def _close(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held[1].close()
