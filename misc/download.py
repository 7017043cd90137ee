"""Fetch a large file over HTTP: resumed where it broke off, whole or not at all."""

import http.client
import json
import logging
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.log import progress
from misc.workspace import write_json

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
MAX_BYTES = 1 << 36  # of a server that does not say how much it will send
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
OVERLOADED = (408, 425, 429, 500, 502, 503, 504)
BROKEN = (OSError, http.client.HTTPException)


class _Broken(Exception):
    """The connection or the server failed; trying again may help."""


@dataclass(frozen=True)
class _Part:
    """What is there of a file: the bytes, and what the server said about the whole."""

    path: Path
    url: str

    @property
    def note_path(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def note(self) -> dict[str, Any]:
        """What the bytes belong to; empty if that is unknown, so that they are no use."""
        try:
            note = json.loads(self.note_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) and note.get("url") == self.url else {}

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


def fetch(
    url: str, target: Path, *, retries: int = 5, timeout: float = 60, wait: float = 1
) -> None:
    """Fetch `url` into `target`, which appears when it has the size that the server announced.

    What arrived stays beside it as `.<name>.part`; the next attempt, of this call or another, asks
    for the rest, and starts anew if the server has another file by then.

    Args:
        url: http or https; redirections are followed.
        target: file to write; its folder is made.
        retries: attempts in a row that may bring nothing new.
        timeout: seconds without a byte after which a connection counts as broken.
        wait: seconds before the second attempt; doubled for each one after it.

    Raises:
        UserError: if the address is none, the server has no such file, or the retries are used up.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url} is no http or https address.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(target.with_name(f".{target.name}.part"), url)
    failures, farthest = 0, part.size()
    while True:
        try:
            _attempt(part, timeout)
            break
        except _Broken as error:
            failures = 0 if part.size() > farthest else failures + 1
            farthest = max(farthest, part.size())
            if failures > retries:
                raise UserError(
                    f"{url}: {error} The {part.size()} bytes that arrived are kept: run again."
                ) from None
            logger.warning("%s: %s Trying again.", target.name, error)
            time.sleep(wait * 2 ** max(failures - 1, 0))
    part.path.replace(target)
    part.note_path.unlink(missing_ok=True)


def _attempt(part: _Part, timeout: float) -> None:
    """Ask for what is missing; return when the file is whole.

    Raises:
        _Broken: if it is not.
        UserError: if it cannot be had.
    """
    note = part.note()
    offset = part.size() if note.get("validator") else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "sbe"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": note["validator"]}
    try:
        request = urllib.request.Request(part.url, headers=headers)
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            _refused(part, error, offset)
        return
    except BROKEN as error:
        raise _Broken(f"the connection failed ({error}).") from None
    with response:
        offset, total = _place(part, response, offset, note)
        _demand_space(part, offset, total)
        write_json(part.note_path, _note(part.url, response, total))
        _append(part, response, offset, total)


def _place(
    part: _Part, response: http.client.HTTPResponse, offset: int, note: dict[str, Any]
) -> tuple[int, int | None]:
    """Where the answer's first byte belongs, and the size of the whole file if the server tells."""
    if response.status == 206:
        found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not found or found[1] is None or (int(found[1]), int(found[3])) != (
            offset, note.get("size") or int(found[3]),
        ):  # fmt: skip
            part.remove()
            raise _Broken("the server sent another part than was asked for.")
        return offset, int(found[3])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _note(url: str, response: http.client.HTTPResponse, total: int | None) -> dict[str, Any]:
    etag = response.headers.get("ETag", "")
    # A weak tag does not promise equal bytes.
    strong = etag if etag and not etag.startswith("W/") else None
    return {
        "url": url,
        "size": total,
        "validator": strong or response.headers.get("Last-Modified"),
    }


def _demand_space(part: _Part, offset: int, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - offset > free:
        raise UserError(
            f"{part.url} needs {(total - offset) / 1e9:.1f} GB more, but {part.path.parent} has "
            f"{free / 1e9:.1f} GB free. Make room or name another folder."
        )


def _append(
    part: _Part, response: http.client.HTTPResponse, offset: int, total: int | None
) -> None:
    limit = MAX_BYTES if total is None else total
    mib = None if total is None else -(-(total - offset) // BLOCK_BYTES)
    size = offset
    with open(part.path, "r+b" if offset else "wb") as file:
        file.seek(offset)
        file.truncate()
        for block in progress(_blocks(response), desc=f"{part.path.name[1:-5]}, MiB", total=mib):
            size += len(block)
            if size > limit:
                part.remove()
                raise UserError(f"{part.url} sends more than {limit} bytes. Stopped.")
            file.write(block)
    if total is not None and size < total:
        raise _Broken(f"the server announced {total} bytes and stopped after {size}.")


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK_BYTES):
            yield block
    except BROKEN as error:
        raise _Broken(f"the connection broke ({error}).") from None


def _refused(part: _Part, error: urllib.error.HTTPError, offset: int) -> None:
    """Judge an answer that is an error: return if it says that nothing is missing."""
    if error.code == 416:
        found = CONTENT_RANGE.fullmatch(error.headers.get("Content-Range", ""))
        if found and int(found[3]) == offset:
            return
        part.remove()
        raise _Broken("the server's file is not the one begun with.")
    if error.code in OVERLOADED:
        raise _Broken(f"the server answered {error.code} {error.reason}.")
    raise UserError(f"{part.url}: the server answered {error.code} {error.reason}.")
