"""A real HTTP receiver for tests: of alerts, of webhooks, of whatever is posted."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class HttpReceiver:
    """What was posted to it, and what it answers.

    Attributes:
        server: which listens on 127.0.0.1.
        taken: headers and body of each post, oldest first; what it refuses it does not take.
        status: its answer.
        cut: for the next post, once: whether it is taken, and what is called then in place of an answer.
    """

    server: ThreadingHTTPServer
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    cut: tuple[bool, Callable[[], object]] | None = None

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The bodies, which are JSON."""
        return [json.loads(body) for _, body in self.taken]

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.taken]


@contextlib.contextmanager
def receiving() -> Iterator[HttpReceiver]:
    """A receiver for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            cut, receiver.cut = receiver.cut, None
            if receiver.status == 200 and (cut is None or cut[0]):
                receiver.taken.append((dict(self.headers), body))
            if cut is not None:
                cut[1]()
                return
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    receiver = HttpReceiver(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    threading.Thread(target=receiver.server.serve_forever, daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
