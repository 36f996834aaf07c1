"""Connections whose answers leave at once, and that end where a client does not go on with its request.

uvicorn sends head and body of an answer apart, and makes its sockets without naming TCP, by which asyncio would know to
set TCP_NODELAY; so the body waited for the client's delayed acknowledgement, some 40 ms with every call. And it waits
for ever for the rest of a request that was begun, so that a few clients could hold all of a server's connections.
"""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds that a client has for the head of a request, from when it is connected or has its last answer.
HEAD_S = 20.0
# A body that is waited for brings at least so many bytes in so many seconds: a slow line has ten times as many.
BODY_BYTES, BODY_S = 16 * 1024, 30.0
_LOOK_S = 1.0


class Bounded(H11Protocol):
    """uvicorn's own protocol with TCP_NODELAY and patience that ends; for `uvicorn --http pcc_connections:Bounded`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._waits_for_head, self._waits_since, self._received = True, self.loop.time(), 0
        self._look = self.loop.call_later(_LOOK_S, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: object) -> None:
        self._look.cancel()
        super().handle_websocket_upgrade(event)  # type: ignore[arg-type] # as uvicorn's

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)

    def _look_again(self) -> None:
        now, cycle = self.loop.time(), self.cycle
        head = cycle is None or cycle.response_complete
        works = not head and (not cycle.more_body or self.flow.read_paused)  # the client waits for us
        if works or head != self._waits_for_head or (not head and self._received >= BODY_BYTES):
            self._waits_for_head, self._waits_since, self._received = head, now, 0
        if now - self._waits_since > (HEAD_S if head else BODY_S):
            self.transport.close()
        else:
            self._look = self.loop.call_later(_LOOK_S, self._look_again)
