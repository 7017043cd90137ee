"""What worker processes read ahead of its use: a DataLoader whose dead workers are named."""

import functools
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from misc.errors import UserError
from misc.runtime.device import local_ranks
from misc.runtime.workers import WORKER_DIED, multiprocessing_context, start_worker

if TYPE_CHECKING:
    from misc.runtime.device import Runtime

logger = logging.getLogger(__name__)

MOST_BYTES = 2**30  # that the workers of one process may have read ahead
ITEMS_AHEAD = 2  # of each worker, where there is room for them
ITEMS_LOOKED_AT = 4  # evenly spaced: the largest tells how many there is room for
SHARED_MEMORY = Path("/dev/shm")  # through which Linux's workers hand tensors over
MIB = 2**20

# What torch says of workers that are gone; RuntimeErrors of the work itself are others.
_DEAD = re.compile(
    r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)|Pin memory thread"
)
_OF_SHARED_MEMORY = re.compile(r"shared memory|/torch_")


class Ahead(NamedTuple):
    """How many processes read, and how many items each may have read ahead of their use."""

    workers: int
    items: int


def read_ahead(runtime: "Runtime", dataset: Any, **options: Any) -> Iterator[Any]:
    """What a DataLoader reads of `dataset`, by the worker processes of this machine.

    They hold `MOST_BYTES` at most, and half of the shared memory that is free, judged by some items
    that are read here: fewer processes read where that is not enough for all, and this one alone
    where it is not enough for one of them. What is read does not depend on it.

    Args:
        runtime: the machine.
        dataset: what is read, by index; picklable.
        options: of the DataLoader, about batches.

    Raises:
        UserError: if a worker process died, or shared memory ran out.
        OSError: what the system refused a worker, as it would have refused it here.
    """
    from torch.utils.data import DataLoader

    workers, items = _ahead_for(runtime.num_workers, dataset, options.get("batch_sampler"))
    try:
        yield from DataLoader(
            dataset,
            num_workers=workers,
            prefetch_factor=items if workers else None,
            pin_memory=runtime.device.type == "cuda",
            multiprocessing_context=multiprocessing_context() if workers else None,
            worker_init_fn=start_worker if workers else None,
            **options,
        )
    except (RuntimeError, OSError, EOFError) as error:
        if workers == 0:
            raise
        raise _of_worker(error) from error


def _ahead_for(workers: int, dataset: Any, batches: Any) -> Ahead:
    """How to read: what `within` says of the size of some items, or of the first batch of crops.

    Args:
        workers: how many processes there may be.
        dataset: what is read.
        batches: lists of its indices, to be gone through several times; None: one by one.
    """
    if workers == 0:
        return Ahead(0, ITEMS_AHEAD)
    if batches is None:
        some = range(0, len(dataset), max(1, -(-len(dataset) // ITEMS_LOOKED_AT)))
        item = max((num_bytes(dataset[index]) for index in some), default=0)
    else:
        item = _bytes_of_batch(dataset, next(iter(batches), ()))
    room = room_to_read_ahead()
    ahead = within(room, item, workers)
    if ahead.workers < workers:
        _tell_once(
            f"{ahead.workers or 'No'} worker processes read instead of {workers}: one reads "
            f"{item / MIB:.0f} MiB at once, and there are {room / MIB:.0f} MiB for all (half of "
            f"what is free in {SHARED_MEMORY}, at most {MOST_BYTES / MIB:.0f})."
        )
    return ahead


def _bytes_of_batch(dataset: Any, batch: Sequence[Any]) -> int:
    return len(batch) * num_bytes(dataset[batch[0]]) if batch else 0


def within(room: int, item: int, workers: int) -> Ahead:
    """As many processes as there is room for, and then as many items of each.

    Args:
        room: bytes for all of them.
        item: bytes of an item.
        workers: how many processes there may be.
    """
    fitting = room // max(item, 1)
    items = ITEMS_AHEAD if fitting >= ITEMS_AHEAD * workers else 1
    return Ahead(min(workers, fitting), items)


def room_to_read_ahead() -> int:
    """Bytes that the workers of this process may fill.

    Half of what is free: an item may be larger than those looked at, and one is in use meanwhile.
    """
    if not SHARED_MEMORY.is_dir():
        return MOST_BYTES
    return min(MOST_BYTES, shutil.disk_usage(SHARED_MEMORY).free // (2 * local_ranks()))


def num_bytes(item: Any) -> int:
    """Bytes of the arrays and tensors in nested dicts, lists and tuples."""
    if isinstance(item, Mapping):
        return sum(map(num_bytes, item.values()))
    if isinstance(item, list | tuple):
        return sum(map(num_bytes, item))
    return getattr(item, "nbytes", 0)


@functools.cache
def _tell_once(message: str) -> None:
    logger.info("%s", message)


def _of_worker(error: Exception) -> Exception:
    """What to raise for an error that came out of a DataLoader with workers."""
    text = str(error)
    if "Original Traceback" not in text:
        # Also where a worker died while it handed a tensor over.
        is_dead = isinstance(error, OSError | EOFError) or _DEAD.search(text)
        return UserError(WORKER_DIED) if is_dead else error
    if isinstance(error, RuntimeError) and _OF_SHARED_MEMORY.search(text):
        return UserError(WORKER_DIED)
    # torch makes the error anew of its text alone.
    number = re.search(r"^\w+Error: \[Errno (\d+)\] (.+)", text, re.MULTILINE)
    return OSError(int(number[1]), number[2]) if number and isinstance(error, OSError) else error
