"""Ctrl-C and SIGTERM: the run ends cleanly, and a training at its next step."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; handled wherever Ctrl-C is."""


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take note of a signal; a second one stops at once."""
        if self.is_asked:
            raise_for(number)
        self.signal = number

    @property
    def is_asked(self) -> bool:
        """True if there was a signal."""
        return self.signal is not None

    def obey(self) -> None:
        """Raise what the signal would have raised; without one, another process was asked."""
        raise_for(signal.SIGTERM if self.signal is None else self.signal)


def raise_for(number: int) -> None:
    """Raise KeyboardInterrupt or Terminated."""
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def stop_later() -> Iterator[StopRequest]:
    """Within the block the first Ctrl-C or SIGTERM is only noted; the block looks at it."""
    request = StopRequest()
    with _handled((signal.SIGINT, signal.SIGTERM), request.receive):
        yield request


@contextlib.contextmanager
def unstoppable() -> Iterator[None]:
    """Within the block, which takes seconds or a minute, Ctrl-C and SIGTERM are not heeded."""
    with _handled((signal.SIGINT, signal.SIGTERM), signal.SIG_IGN):
        yield


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated."""
    with _handled((signal.SIGTERM,), lambda number, _frame: raise_for(number)):
        yield


@contextlib.contextmanager
def _handled(numbers: tuple[int, ...], handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    # A shell starts background jobs with Ctrl-C ignored: that stays so.
    heeded = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
