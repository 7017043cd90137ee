"""What worker processes read ahead of its use: a DataLoader whose dead workers are named."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from misc.errors import UserError
from misc.runtime.workers import WORKER_DIED, multiprocessing_context, start_worker

if TYPE_CHECKING:
    from misc.runtime.device import Runtime

# What torch says of workers that are gone; RuntimeErrors of the work itself are others.
_DEAD = re.compile(
    r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)|Pin memory thread"
)
_SHARED_MEMORY = re.compile(r"shared memory|/torch_")


def read_ahead(runtime: "Runtime", dataset: Any, **options: Any) -> Iterator[Any]:
    """What a DataLoader reads of `dataset`, by the worker processes of this machine.

    Args:
        runtime: the machine.
        dataset: what is read; picklable.
        options: of the DataLoader, about batches.

    Raises:
        UserError: if a worker process died, or shared memory ran out.
        OSError: what the system refused a worker, as it would have refused it here.
    """
    from torch.utils.data import DataLoader

    workers = runtime.num_workers
    try:
        yield from DataLoader(
            dataset,
            num_workers=workers,
            pin_memory=runtime.device.type == "cuda",
            multiprocessing_context=multiprocessing_context() if workers else None,
            worker_init_fn=start_worker if workers else None,
            **options,
        )
    except (RuntimeError, OSError, EOFError) as error:
        if workers == 0:
            raise
        raise _of_worker(error) from error


def _of_worker(error: Exception) -> Exception:
    """What to raise for an error that came out of a DataLoader with workers."""
    text = str(error)
    if "Original Traceback" not in text:
        # Also where a worker died while it handed a tensor over.
        is_dead = isinstance(error, OSError | EOFError) or _DEAD.search(text)
        return UserError(WORKER_DIED) if is_dead else error
    if isinstance(error, RuntimeError) and _SHARED_MEMORY.search(text):
        return UserError(WORKER_DIED)
    # torch makes the error anew of its text alone.
    number = re.search(r"^\w+Error: \[Errno (\d+)\] (.+)", text, re.MULTILINE)
    return OSError(int(number[1]), number[2]) if number and isinstance(error, OSError) else error
