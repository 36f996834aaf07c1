"""Connections that end where a client does not go on with the head of its request.

uvicorn 0.54 ends a connection that is idle after an answer, and waits for ever for a first request, or for the rest of
a head that was begun, so that a few clients could hold all connections. Bodies have the request's own time.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Seconds for the head of a request, from when the client connected or began it.
HEAD_SECONDS = 20.0
_LOOK_SECONDS = 1.0


class Bounded(HttpToolsProtocol):
    """uvicorn's own protocol with patience that ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        now = self.loop.time()
        answers = self.cycle is not None and not self.cycle.response_complete
        if answers or self.timeout_keep_alive_task is not None:
            self._waits_since = now
        if now - self._waits_since > HEAD_SECONDS:
            self.transport.close()
        else:
            self._look = self.loop.call_later(_LOOK_SECONDS, self._look_again)
