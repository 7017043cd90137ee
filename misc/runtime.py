"""Device, precision and processes: decided here, once."""

import contextlib
import datetime
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from misc.errors import UserError
from misc.memory import keep_freed_memory
from misc.settings import available_cpus

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

T = TypeVar("T")
R = TypeVar("R")

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
LONGEST_WAIT = datetime.timedelta(days=1)  # for the process that checks or scores alone


class ReportedByMain(UserError):
    """A mistake that the main process reports; in the others it only ends the run."""


@dataclass(frozen=True)
class Runtime:
    """What a step needs to know of the machine."""

    accelerator: "Accelerator"
    num_workers: int

    @property
    def device(self) -> "torch.device":
        """Where networks run."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.accelerator.process_index

    @property
    def world_size(self) -> int:
        """Number of processes that share the work."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """True in the one process that writes what all share."""
        return self.accelerator.is_main_process

    def shard(self, items: Sequence[T]) -> list[T]:
        """The items that are this process's work: every world_size-th."""
        return list(items[self.rank :: self.world_size])

    def workers_beside_network(self, *, has_threads: bool) -> int:
        """Processes for CPU work while a network runs; none where network and work share threads.

        If the network's threads take every core, worker processes only slow down both: on two
        cores a mask took a third longer with SqueezeNet, a fifth with ResNet-50.

        Args:
            has_threads: whether the work, done in this process, has the network's threads.
        """
        import torch

        cores = available_cpus() // _local_ranks()
        network_takes_all = not is_accelerator(self.device) and torch.get_num_threads() >= cores
        return 0 if has_threads and network_takes_all else self.num_workers

    def barrier(self) -> None:
        """Wait until every process has come here."""
        self.accelerator.wait_for_everyone()

    def on_main(self, work: Callable[[], R]) -> R:
        """Do in one process what all must agree on, after every process has come here.

        Args:
            work: called in the main process alone; its result must be picklable.

        Returns:
            the result, in every process.

        Raises:
            UserError: what `work` raised; ReportedByMain in the other processes.
        """
        if self.world_size == 1:
            return work()
        from accelerate.utils import broadcast_object_list

        self.barrier()
        outcome: list[Any] = [None, ReportedByMain("The main process says why.")]
        if self.is_main:
            try:
                outcome = [work(), None]
            except UserError as error:
                broadcast_object_list(outcome)
                raise error
        result, error_of_main = broadcast_object_list(outcome)
        if error_of_main is not None:
            raise error_of_main
        return result

    def once_on_each_machine(self, work: Callable[[], object]) -> None:
        """Do `work` in one process of each machine while the others wait.

        The main process goes first: where machines share a folder, the others find all done.

        Raises:
            UserError: what `work` raised; ReportedByMain where the main process raised it.
        """

        def work_without_result() -> None:
            work()

        self.on_main(work_without_result)
        if self.accelerator.is_local_main_process and not self.is_main:
            work()
        self.barrier()

    def sum_over_processes(self, values: "torch.Tensor") -> "torch.Tensor":
        """Element-wise sum of `values` over the processes, the same in each."""
        if self.world_size == 1:
            return values
        import torch.distributed

        total = values.detach().clone()
        torch.distributed.all_reduce(total)
        return total


def make_runtime(device: str, precision: str, num_workers: int) -> Runtime:
    """Choose the device and join the processes that torchrun or accelerate started.

    fp32 is float32 throughout, on a GPU too. Training on CUDA is still not repeatable bit by bit:
    some of its kernels add up in an order of their own.

    Args:
        device: auto, cpu or cuda.
        precision: fp32, bf16 or fp16.
        num_workers: processes for CPU work on this machine, shared by its ranks.

    Raises:
        UserError: if the device or the precision is not to be had.
    """
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is to be seen here. Use --device cpu.")
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    if on_cpu and precision == "fp16":
        raise UserError("--precision fp16 needs a GPU. Use fp32 or bf16 on the CPU.")
    if on_cpu:
        keep_freed_memory()
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision=PRECISIONS[precision],
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    if precision == "fp32":
        # torch lets cuDNN's convolutions round their inputs to TF32, which has 11 bits.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return Runtime(accelerator, max(num_workers // _local_ranks(), min(num_workers, 1)))


def _local_ranks() -> int:
    """Number of processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_accelerator(device: "torch.device") -> bool:
    """True where one process drives the device, and the CPU's cores are free beside it."""
    return device.type != "cpu"


@functools.cache
def multiprocessing_context() -> multiprocessing.context.BaseContext:
    """How worker processes start: never by forking this process and its threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Nothing of ours: the server looks in the working directory first, where another project's
    # `misc` may lie.
    context.set_forkserver_preload(["torch", "PIL.Image"])
    with _interrupt_ignored():  # the server and its workers inherit that: Ctrl-C is the parent's
        forkserver.ensure_running()
    # Wait until it serves: a worker that it forks for a parent stopped meanwhile would complain.
    first = context.Process(target=os.getpid)
    first.start()
    first.join()
    return context


@contextlib.contextmanager
def _interrupt_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start_worker(_index: int = 0) -> None:
    """Prepare a worker process: one thread, Ctrl-C left to the parent, no life without it.

    A DataLoader's worker would outlive a killed parent: it watches the process that forked it, the
    fork server, which itself stays as long as it has workers.
    """
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report_unless_parent_left
    torch.set_num_threads(1)
    keep_freed_memory()
    parent = multiprocessing.parent_process()
    if parent is not None:

        def leave_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=leave_with_parent, daemon=True).start()


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
        except BrokenProcessPool:
            raise UserError(
                "A worker process died, most likely for want of memory. What was finished is "
                "kept: run again, with fewer --num_workers if it happens again."
            ) from None
