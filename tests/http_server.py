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
        resumes: answer Range requests with the rest; else always with the whole.
        wrong_part: answer Range requests with a part that begins a byte early.
        statuses: of the next answers, instead of the file.
        chunked: send without a length.
        etag: of all files; empty: none.
        asked: (path, Range header) of every request.
    """

    files: dict[str, bytes]
    drop_after: list[int] = field(default_factory=list)
    length: int | None = None
    resumes: bool = True
    wrong_part: bool = False
    statuses: list[int] = field(default_factory=list)
    chunked: bool = False
    etag: str = '"one"'
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


def _handler(served: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            served.asked.append((self.path, self.headers.get("Range")))
            self.close_connection = True
            content = served.files.get(self.path.lstrip("/"))
            if served.statuses:
                self.send_error(served.statuses.pop(0))
            elif content is None:
                self.send_error(404)
            else:
                self._answer(content)

        def _answer(self, content: bytes) -> None:
            start = self._start()
            if start is not None and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if start is not None and served.wrong_part:
                start -= 1
            body = content[start or 0 :]
            self.send_response(200 if start is None else 206)
            if start is not None:
                last, size = len(content) - 1, len(content)
                self.send_header("Content-Range", f"bytes {start}-{last}/{size}")
            if served.etag:
                self.send_header("ETag", served.etag)
            if not served.chunked:
                length = len(body) if served.length is None else served.length - (start or 0)
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body[: served.drop_after.pop(0)] if served.drop_after else body)

        def _start(self) -> int | None:
            wanted = self.headers.get("Range")
            known = self.headers.get("If-Range") == served.etag
            if wanted is None or not served.resumes or not known:
                return None
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

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
