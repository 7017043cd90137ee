"""One logger for console and file, one progress bar."""

import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


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


def progress(
    iterable: Iterable[T], *, desc: str, total: int | None = None, done: int = 0
) -> Iterable[T]:
    """`iterable` behind a tqdm bar on stderr that says `desc`; none where the console is quiet.

    Args:
        iterable: what is gone through.
        desc: what the bar says.
        total: how many there are, with those that were `done` before.
        done: where the bar begins.
    """
    quiet = any(
        isinstance(handler, _TqdmHandler) and handler.level > logging.INFO
        for handler in logging.getLogger().handlers
    )
    return tqdm(
        iterable, desc=desc, total=total, initial=done, dynamic_ncols=True, mininterval=0.5,
        disable=quiet,
    )  # fmt: skip
