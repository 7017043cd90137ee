"""The course of a training as CSV: readable while it runs, and whole after any stop."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from misc.workspace.whole_files import atomic_write

CURVE_HEADER = "update,epoch,loss,learning_rate"
ROW = re.compile(rb"(?P<update>\d{1,18}),\d+,[^,]+,[^,]+")
AddRow = Callable[[int, int, float, float], None]


class TrainingCurve:
    """A file with a row for each update: its number and epoch (from 1), loss and learning rate.

    The rate is that of the optimiser's first group. A row is written, whole, as soon as its update
    is made, and so before any checkpoint of it.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read or written."""
        self.path = path

    @contextlib.contextmanager
    def growing(self, updates: int) -> Iterator[AddRow]:
        """Begin the file, or keep of it what belongs to the first so many updates.

        What came after the checkpoint that a training resumes from comes again. What is no row is
        left out.

        Yields:
            what adds a row.
        """
        lines = self.path.read_bytes().split(b"\n")[1:-1] if self.path.exists() else []
        rows = filter(None, map(ROW.fullmatch, lines))
        kept = [row[0] for row in rows if int(row["update"]) <= updates]
        with atomic_write(self.path) as file:
            file.write(b"\n".join([CURVE_HEADER.encode(), *kept, b""]))
        with open(self.path, "ab", buffering=0) as growing:

            def add(update: int, epoch: int, loss: float, rate: float) -> None:
                growing.write(f"{update},{epoch},{loss:.6g},{rate:.6g}\n".encode())

            yield add
