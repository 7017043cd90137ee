"""Ctrl-C, SIGTERM and SIGHUP: a run ends cleanly, a training at its next step, a second at once.

This imports little: a program can call `leave_when_stopped` before it imports what takes long.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

# SIGHUP: the terminal was closed. Windows has none.
STOP_SIGNALS: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

_is_program = False


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received; handled wherever Ctrl-C is."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(f"by {signal.Signals(number).name}")
        self.number = number


def number_of(error: KeyboardInterrupt) -> int:
    """The signal that raised the error."""
    return error.number if isinstance(error, Terminated) else signal.SIGINT


def exit_status_of(number: int) -> int:
    """The exit status of what a signal stopped, as shells count."""
    return 128 + number


def words_of(number: int) -> str:
    """What to say of a stop."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    under_torchrun = "RANK" in os.environ and number == signal.SIGTERM
    by += ", which torchrun also sends when another process ended" * under_torchrun
    return f"Stopped{by}. Run the same command again to resume."


def leave_when_stopped() -> None:
    """Make this process one that ends at once by any stop signal that nobody else handles.

    No code runs after that, and none has to: what a killed run leaves is whole. An exception could
    come anywhere instead: while modules are imported, in a `__del__`, while Python is taking itself
    apart. There it gets lost, or becomes a traceback.
    """
    global _is_program
    _is_program = True
    _leave_from_now_on()
    sys.unraisablehook = _leave_if_interrupted


def _leave_from_now_on() -> None:
    for number in _heeded():
        signal.signal(number, _leave)


def _leave(number: int, _frame: FrameType | None = None) -> NoReturn:
    """Say that the run was stopped, below a progress bar if need be, and end."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{words_of(number)}\n".encode())
    os._exit(exit_status_of(number))


def _leave_if_interrupted(unraisable: "sys.UnraisableHookArgs") -> None:
    """What Python calls with an exception that nothing can catch, such as one in a `__del__`."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _leave(number_of(unraisable.exc_value))
    sys.__unraisablehook__(unraisable)


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


def raise_for(number: int, _frame: FrameType | None = None) -> NoReturn:
    """Raise KeyboardInterrupt or Terminated; in a program, a further signal ends it at once."""
    if _is_program:
        _leave_from_now_on()
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


@contextlib.contextmanager
def stop_later() -> Iterator[StopRequest]:
    """Within the block the first stop signal is only noted; the block looks at it."""
    request = StopRequest()
    with _handled(request.receive):
        yield request


@contextlib.contextmanager
def unstoppable() -> Iterator[None]:
    """Within the block, which takes seconds or a minute, stop signals are not heeded."""
    with _handled(signal.SIG_IGN):
        yield


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within the block a stop signal raises KeyboardInterrupt, or Terminated, if this is a program.

    Elsewhere signals are the caller's business. No such block may import torch: an exception in
    the middle of that can abort the process.
    """
    with _handled(raise_for) if _is_program else contextlib.nullcontext():
        yield


def _heeded() -> list[int]:
    """A shell starts background jobs with Ctrl-C ignored, and nohup ignores SIGHUP: so be it."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = {number: signal.signal(number, handler) for number in _heeded()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) == handler:  # else the process is to end at once
                signal.signal(number, earlier)
