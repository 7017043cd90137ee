"""Worker processes: how they start, what they leave to their parent, a pool of them."""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, queues
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from misc.errors import TO_GO_ON, UserError
from misc.runtime.memory import keep_freed_memory
from misc.signals import STOP_SIGNALS

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

T = TypeVar("T")
R = TypeVar("R")

FEW = 300  # files that one process looks at before others have started
WORKER_DIED = (
    "A worker process died: somebody killed it, or memory or shared memory (/dev/shm) ran out. "
    f"{TO_GO_ON}, with fewer --num_workers if it happens again."
)


def available_cpus() -> int:
    """Number of CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_for(number: int, num_workers: int) -> int:
    """How many of `num_workers` processes are worth their start for `number` looks at files."""
    return num_workers if number > FEW else 0


def prepare_workers(num_workers: int) -> None:
    """Let worker processes get ready for a first use that may come soon; does not wait for them.

    They are forked from a server, which loads torch first: called before this process does the
    same, it costs no time. Where they are spawned instead, there is nothing to prepare.

    Args:
        num_workers: how many are wanted; for 0 nothing is started.
    """
    if num_workers:
        _start_server()


@functools.cache
def _start_server() -> "ForkServerContext | SpawnContext":
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Nothing of ours: the server looks in the working directory first, where another project's
    # `misc` may lie.
    context.set_forkserver_preload(["torch", "PIL.Image"])
    # The server inherits that, and its workers but for SIGTERM: a terminal and cluster managers
    # send such signals to all processes, and the parent decides what becomes of the others.
    with _stop_signals_ignored():
        forkserver.ensure_running()
    return context


@functools.cache
def multiprocessing_context() -> "ForkServerContext | SpawnContext":
    """How worker processes start: never by forking this process and its threads."""
    context = _start_server()
    if context.get_start_method() == "forkserver":
        # Until it serves: a worker that it forks for a parent stopped meanwhile would complain.
        first = context.Process(target=os.getpid)
        first.start()
        first.join()
    return context


@contextlib.contextmanager
def _stop_signals_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_worker(_index: int = 0) -> None:
    """Prepare a worker process: one thread, Ctrl-C left to the parent, no life without it.

    A DataLoader's worker would outlive a killed parent: it watches the process that forked it, the
    fork server, which itself stays as long as it has workers.
    """
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # how the parent ends a worker that hangs
    sys.excepthook = _report_unless_parent_left
    # Else what cannot be handed over is dropped, and the parent waits for it for ever.
    queues.Queue._on_queue_feeder_error = staticmethod(_end_for)  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:

        def leave_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=leave_with_parent, daemon=True).start()


def _end_for(error: Exception, _item: object) -> None:
    """End this worker process, which the parent notices, for an error of its queue's thread."""
    if not isinstance(error, ConnectionError | EOFError):  # the parent stopped, and says so itself
        sys.stderr.write(f"A worker process cannot hand over what it read: {error}\n")
        sys.stderr.flush()
    os._exit(1)


def _report_unless_parent_left(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Say nothing of a connection that the parent dropped: it was stopped, and says so itself.

    Errors of the work itself reach the parent by other ways; this hook sees those of the thread
    that hands tensors over, which may be in the middle of it when the parent stops.
    """
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


class WorkerPool:
    """Processes that apply functions to items; with no workers everything runs in line.

    Use as a context manager; leaving it by an exception drops what has not started.
    """

    def __init__(self, num_workers: int) -> None:
        """Make the pool; processes start with the first call.

        Args:
            num_workers: number of processes; 0 runs in this one.
        """
        self._max_waiting = 4 * max(num_workers, 1)
        self._pool = (
            ProcessPoolExecutor(num_workers, multiprocessing_context(), start_worker)
            if num_workers > 0
            else None
        )

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Results of `function` for each item, as they come (in no fixed order).

        `items` is read no further ahead than the pool can use, so it may be a generator that
        computes.

        Raises:
            UserError: if a worker process died.
        """
        if self._pool is None:
            for item in items:
                yield function(item)
            return
        waiting: set[Future[R]] = set()
        try:
            for item in items:
                waiting.add(self._pool.submit(function, item))
                while len(waiting) >= self._max_waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except (BrokenProcessPool, ConnectionError, EOFError):
            raise UserError(WORKER_DIED) from None
