"""A local HTTP server that serves files, and fails in the ways that servers fail."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What the server has and does, and what it was asked.

    Attributes:
        files: path -> bytes.
        drop_after: numbers of bytes after which the next answers break off, one an answer.
        length: what Content-Length says instead of the truth.
        statuses: of the next answers, instead of the file.
        asked: paths of all requests.
    """

    files: dict[str, bytes]
    drop_after: list[int] = field(default_factory=list)
    length: int | None = None
    statuses: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            served.asked.append(self.path)
            self.close_connection = True
            content = served.files.get(self.path.lstrip("/"))
            if served.statuses:
                self.send_error(served.statuses.pop(0))
            elif content is None:
                self.send_error(404)
            else:
                self._answer(content)

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            length = len(content) if served.length is None else served.length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content[: served.drop_after.pop(0)] if served.drop_after else content)

    return Handler


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """`served` on a free port of this machine; its `url` is filled in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
