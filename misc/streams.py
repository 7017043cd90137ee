"""Standard streams that bear anything: closed ones, full disks, a reader that has gone."""

import io
import os
import sys
from typing import TextIO


class LastingOutput(io.FileIO):
    """A descriptor to write to; from the first failure on, what is written there is dropped.

    Attributes:
        failure: the first failure, if there was one.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data) -> int | None:  # type: ignore[no-untyped-def, override] # any buffer
        """Write `data`, and drop it where that cannot be done."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            # Libraries in C write there too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def make_streams_last() -> LastingOutput:
    """Let stdout and stderr of this process never fail; return what is behind stdout.

    What is closed leads nowhere. Its number is taken, or else the next file that is opened would
    have it, and get what belongs on stderr. Characters that a stream cannot encode are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    stdout, stderr = LastingOutput(1), LastingOutput(2)
    sys.stdout = _text(stdout, sys.stdout, by_lines=stdout.isatty())
    sys.stderr = _text(stderr, sys.stderr, by_lines=True)
    return stdout


def _text(output: LastingOutput, before: TextIO | None, *, by_lines: bool) -> TextIO:
    """A text stream in place of the one that Python opened, if it did."""
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=None if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=by_lines,
        write_through=getattr(before, "write_through", False),
    )
