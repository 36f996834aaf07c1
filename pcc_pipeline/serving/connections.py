"""Connections that end where a client does not go on, and heads of requests that stay small.

uvicorn 0.54 ends a connection that is idle after an answer, and waits for ever for a first request, for the rest of a
head that was begun, or for a client that reads no answer, so that a few clients could hold all connections. Bodies have
the request's own time and size; whatever else a client sends (heads, trailers, the sizes of chunks) it keeps without
end. And a request that offers to change the protocol, as HTTP/2's clients do on plain connections (h2c), loses its
body, where RFC 9110 (7.8) has a server go on as if nothing had been offered.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Seconds for the head of a request, from when the client connected or began it, and for reading on in an answer.
HEAD_SECONDS = 20.0
_LOOK_SECONDS = 1.0
# Of a request without its body; of a body in chunks each byte may come with so many others.
HEAD_BYTES, _BESIDE_A_BYTE = 64 * 1024, 8
# So much is parsed at a time.
_SLICE = 16 * 1024
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_OFFERS = (b"upgrade", b"connection", b"http2-settings")


class Bounded(HttpToolsProtocol):
    """uvicorn's own protocol with patience that ends."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._came = self._of_bodies = 0
        self._unread = 0
        self._waits_since = self._reads_since = self.loop.time()
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_again)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _SLICE):
            if self.transport.is_closing():
                return
            part = data[start : start + _SLICE]
            self._came += len(part)
            self._parse(part)
            if self._came - self._of_bodies > HEAD_BYTES + _BESIDE_A_BYTE * self._of_bodies:
                if self.cycle is None or self.cycle.response_complete:
                    self.transport.write(_TOO_LARGE)
                self.transport.close()

    def _parse(self, part: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as offer:
            self._decline(part[offer.args[0] :])

    def _decline(self, rest: bytes) -> None:
        """Go on with the request that offered another protocol; `rest` of what came is its body."""
        if self.scope["method"] == "CONNECT":  # which has none, and is refused as any other method
            return
        # The parser took the message for complete, and what answers it has not begun yet.
        self.cycle.more_body = True
        self.cycle.message_event.clear()
        lines = [
            self.scope["method"].encode() + b" / HTTP/1.1",
            *(name + b": " + value for name, value in self.headers if name not in _OFFERS),
        ]
        self.parser = httptools.HttpRequestParser(_Rest(self))
        self._parse(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def on_message_begin(self) -> None:
        self._came = self._of_bodies = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._of_bodies += len(body)
        super().on_body(body)

    def _look_again(self) -> None:
        now = self.loop.time()
        answers = self.cycle is not None and not self.cycle.response_complete
        if answers or self.timeout_keep_alive_task is not None:
            self._waits_since = now
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread != self._unread:
            self._unread, self._reads_since = unread, now
        if now - self._reads_since > HEAD_SECONDS:
            self.transport.abort()  # what is to be written would hold up an orderly end
        elif now - self._waits_since > HEAD_SECONDS:
            self.transport.close()
        else:
            self._look = self.loop.call_later(_LOOK_SECONDS, self._look_again)


class _Rest:
    """What a parser tells of a request whose head the protocol knows already, and all of those that come after it."""

    def __init__(self, protocol: Bounded) -> None:
        self._protocol = protocol
        self._head_is_known = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def on_message_begin(self) -> None:
        if not self._head_is_known:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._head_is_known:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_is_known:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._head_is_known:
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        self._head_is_known = False
        self._protocol.on_message_complete()
