"""One logger for console and file, one progress bar."""

import contextlib
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tqdm import tqdm

T = TypeVar("T")

logger = logging.getLogger(__name__)

SECONDS_A_BAR, SECONDS_A_LINE = 0.5, 30.0
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
LOG_BEGINNING = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def is_log(path: Path) -> bool:
    """True if a file begins with a line that a run has logged, or is empty."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(100)
    return not first or LOG_BEGINNING.match(first) is not None


class _TqdmHandler(logging.StreamHandler):
    """Writes log lines above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _LogFile(logging.FileHandler):
    """Appends to the log; the first failure is told to the console, and the work goes on."""

    has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say why a line is missing in the log, once."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.has_failed:
            self.has_failed = True
            tqdm.write(f"The log {self.baseFilename} is incomplete: {error}.", file=sys.stderr)


def setup_logging(log_file: Path | None, *, quiet: bool = False) -> None:
    """Send INFO and above to the console and to `log_file` (appended).

    Args:
        log_file: file to append to, or None; its folder is made.
        quiet: keep the console to warnings (ranks other than 0).
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(handler, "owned_by_sbe", False):
            root.removeHandler(handler)
            handler.close()
    console = _TqdmHandler()
    console.setLevel(logging.WARNING if quiet else logging.INFO)
    console.setFormatter(logging.Formatter("%(message)s"))
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        to_file = _LogFile(log_file, encoding="utf-8", errors="backslashreplace")
        to_file.setFormatter(logging.Formatter(LOG_FORMAT))
        handlers.append(to_file)
    for handler in handlers:
        handler.owned_by_sbe = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    # It reports on its own caches as the process ends.
    logging.getLogger("torch").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Place:
    """Where a run is: at which of its steps.

    Attributes:
        number: of the step, from 1.
        of: how many steps this run makes.
        later: seconds that those after it will take, as far as was measured.
        unknown: how many of those were never measured.
    """

    number: int
    of: int
    later: float = 0.0
    unknown: int = 0

    @property
    def label(self) -> str:
        """What lines about the step begin with."""
        return f"[{self.number}/{self.of}] "


_place: Place | None = None


@contextlib.contextmanager
def at(place: Place) -> Iterator[None]:
    """Let all progress in the block be that of a step of the run."""
    global _place
    before, _place = _place, place
    try:
        yield
    finally:
        _place = before


class Progress(Generic[T]):
    """Goes through items behind a line that says how far it is, and how long the rest takes.

    On a terminal it is a bar, which disappears at the end; elsewhere a line of the log after every
    `SECONDS_A_LINE`. Where the console is quiet, or for no items, there is none.
    """

    def __init__(self, items: Iterable[T], desc: str, total: int | None, done: int, each: int):
        """Take what `progress` does."""
        self.items = items
        self.place = _place
        self.desc = desc if _place is None else _place.label + desc
        self.total = total
        self.done = self.first = done
        self.each = each
        self.note = ""
        self._start = time.monotonic()

    def tell(self, note: str) -> None:
        """Say something more, such as the loss, until something else is said."""
        self.note = note

    def __iter__(self) -> Iterator[T]:
        is_quiet = any(
            isinstance(handler, _TqdmHandler) and handler.level > logging.INFO
            for handler in logging.getLogger().handlers
        )
        if is_quiet or self.total == 0:
            return iter(self.items)
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        return self._behind_bar() if is_terminal else self._behind_lines()

    def _behind_bar(self) -> Iterator[T]:
        with tqdm(
            desc=self.desc, total=self.total, initial=self.first, leave=False, file=sys.stderr,
            dynamic_ncols=True, mininterval=SECONDS_A_BAR, delay=SECONDS_A_BAR,
            bar_format=BAR if self.total else None,
        ) as bar:  # fmt: skip
            for item in self.items:
                yield item
                before = self._count()
                bar.set_postfix_str(self._words(), refresh=False)
                bar.update(self.done - before)

    def _behind_lines(self) -> Iterator[T]:
        said = self._start
        for item in self.items:
            yield item
            self._count()
            if time.monotonic() - said >= SECONDS_A_LINE:
                said = time.monotonic()
                logger.info("%s: %s", self.desc, self._line(said - self._start))

    def _count(self) -> int:
        """Count an item; how many there were before."""
        before = self.done
        self.done += self.each if self.total is None else min(self.each, self.total - before)
        return before

    def _line(self, elapsed: float) -> str:
        share = f" of {self.total} ({100 * self.done // self.total} %)" if self.total else ""
        left = "" if (rest := self._rest()) is None else f", {_clock(rest)} left"
        words = f"{self.done}{share} after {_clock(elapsed)}{left}"
        return ", ".join(filter(None, (words, self._words())))

    def _words(self) -> str:
        """The note, and how long the whole run takes."""
        rest, place = self._rest(), self.place
        of_run = ""
        if place is not None and place.unknown and not place.later:
            of_run = f"then {place.unknown} step{'s' * (place.unknown > 1)}"
        elif place is not None and rest is not None and place.later:
            more = "over " * bool(place.unknown)
            of_run = f"run: {more}{_clock(rest + place.later)} left"
        return ", ".join(filter(None, (self.note, of_run)))

    def _rest(self) -> float | None:
        """Seconds that the items left will take at the rate of those done in this run."""
        if self.total is None or self.done == self.first:
            return None
        a_second = (self.done - self.first) / max(time.monotonic() - self._start, 1e-9)
        return (self.total - self.done) / a_second


def progress(
    items: Iterable[T], *, desc: str, total: int | None = None, done: int = 0, each: int = 1
) -> Progress[T]:
    """`items` behind a progress bar, or lines where there is no terminal.

    Args:
        items: what is gone through.
        desc: what it is.
        total: how many there are, with those that were `done` before.
        done: how many were done before.
        each: how many of `total` an item stands for; the last may stand for fewer.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    return Progress(items, desc, total, done, each)


def _clock(seconds: float) -> str:
    return tqdm.format_interval(round(seconds))
