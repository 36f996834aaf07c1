"""Connections whose answers leave at once.

uvicorn sends head and body of an answer apart, and makes its sockets without naming TCP, by which asyncio would know to
set TCP_NODELAY; so the body waited for the client's delayed acknowledgement, some 40 ms with every call.
"""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol


class Undelayed(H11Protocol):
    """uvicorn's own protocol with TCP_NODELAY; for `uvicorn --http pcc_connections:Undelayed`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
