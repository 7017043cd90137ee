"""JSON files too large to hold: the entries of their arrays one by one, with their place."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from misc.errors import UserError

WINDOW_BYTES = 1 << 22
MAX_ENTRY_BYTES = 1 << 26
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Entry(NamedTuple):
    """One entry of the array under `key`: its value, and the bytes [start, end) that hold it."""

    key: str
    value: Any
    start: int
    end: int


def stream_entries(path: Path) -> Iterator[Entry]:
    """Entries of all arrays that are values of the file's one object, in the file's order.

    No more than a window of the file is held at a time. Values that are no arrays are passed over.

    Args:
        path: a UTF-8 file with one JSON object.

    Raises:
        UserError: if the file is missing, cut off, not JSON, or holds no object.
    """
    try:
        with open(path, "rb") as file:
            yield from _Reader(path, file).entries()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"No file {path}. Correct its name.") from None


class _Reader:
    """A window on the file.

    Bytes are decoded as Latin-1, so that places in the text are places in the file: what is JSON's
    syntax is ASCII. Entries with other characters are decoded once more, as UTF-8.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._text = ""
        has_mark = file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
        self._before = len(BYTE_ORDER_MARK) if has_mark else 0  # bytes before the window
        file.seek(self._before)
        self._at = 0
        self._at_end = False
        self._read_on()

    def entries(self) -> Iterator[Entry]:
        if self._next() != "{":
            self._refuse("it holds no JSON object in UTF-8")
        self._at += 1
        ended = self._ends_empty("}")
        while not ended:
            self._next()
            key = self._value()
            if not isinstance(key, str):
                self._refuse("a name in quotes is expected")
            if self._next() != ":":
                self._refuse("a colon is expected")
            self._at += 1
            if self._next() == "[":
                yield from self._array(key)
            else:
                self._value()
            ended = self._ends("}")
        if self._skip_space():
            self._refuse("something follows after its end")

    def _array(self, key: str) -> Iterator[Entry]:
        self._at += 1
        ended = self._ends_empty("]")
        while not ended:
            self._next()
            start = self._before + self._at
            value = self._value()
            yield Entry(key, value, start, self._before + self._at)
            ended = self._ends("]")

    def _value(self) -> Any:
        while True:
            reason = ""
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except ValueError as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            except RecursionError:
                self._refuse("it is nested too deeply")
            # What ends with the window may go on behind it, as a number does.
            if self._at_end or not (reason or end == len(self._text)):
                break
            if len(self._text) - self._at > MAX_ENTRY_BYTES:
                self._refuse(reason or f"an entry is longer than {MAX_ENTRY_BYTES >> 20} MiB")
            self._read_on()
        if reason:
            self._refuse(reason)
        part = self._text[self._at : end]
        if not part.isascii():
            try:
                value = json.loads(part.encode("latin-1").decode("utf-8"))
            except UnicodeDecodeError as error:
                self._refuse(f"it is not UTF-8: {error.reason}")
        self._at = end
        return value

    def _read_on(self) -> None:
        """Drop what is done with, and read as much again as is left, at least a window."""
        rest = self._text[self._at :]
        more = self._file.read(max(WINDOW_BYTES, len(rest)))
        self._before += self._at
        self._text = rest + more.decode("latin-1")
        self._at = 0
        self._at_end = not more

    def _skip_space(self) -> bool:
        """Go to the next character that is no space; False if there is none."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return True
            if self._at_end:
                return False
            self._read_on()

    def _next(self) -> str:
        if not self._skip_space():
            self._refuse("it ends in the middle")
        return self._text[self._at]

    def _ends_empty(self, close: str) -> bool:
        if self._next() != close:
            return False
        self._at += 1
        return True

    def _ends(self, close: str) -> bool:
        """Pass the comma, False, or the closing bracket, True."""
        found = self._next()
        if found not in (",", close):
            self._refuse(f"a comma or {close} is expected")
        self._at += 1
        return found == close

    def _refuse(self, reason: str) -> NoReturn:
        size = self._path.stat().st_size
        raise UserError(
            f"{self._path} is no whole JSON file: {reason}, at byte {self._before + self._at} of "
            f"{size}. Fetch or write it again."
        )
