"""Work with a CRF for every image: on the CPU in worker processes, on a GPU in this one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from misc.runtime import Runtime, WorkerPool, is_accelerator, read_ahead

if TYPE_CHECKING:
    import torch

Functions = Sequence[Callable[[Any], Any]]


def map_with_crf(
    runtime: Runtime,
    items: Sequence[Any],
    *,
    read: Callable[[Any], dict[str, Any]],
    make: Callable[..., Any],
    write: Callable[[Any], object],
    crf: str,
) -> Iterator[object]:
    """`write(make(read(item), device=...))` for each item; yields once for each.

    Worker processes do all of it where the CRF runs on the CPU. On a GPU they read ahead and write,
    and this process does the CRFs.

    Args:
        runtime: the machine.
        items: what is worked on; picklable.
        read: item -> inputs. A DataLoader makes tensors of its arrays, and pins them for a GPU.
        make: (inputs, device=) -> a picklable result.
        write: keeps the result.
        crf: implementation of the CRF, which decides on the device.
    """
    from misc.crf import crf_device

    device = crf_device(crf, runtime.device)
    made_on = partial(make, device=device)
    if is_accelerator(device):
        inputs = read_ahead(runtime, _Inputs(items, read), batch_size=None)
        return _in_two_places(runtime.num_workers, inputs, (made_on,), (write,))
    return _in_two_places(runtime.num_workers, items, (), (read, made_on, write))


def map_beside_network(
    runtime: Runtime,
    items: Iterable[Any],
    *,
    make: Callable[..., Any],
    write: Callable[[Any], object],
    device: "torch.device",
    has_threads: bool,
) -> Iterator[object]:
    """`write(make(item, device=device))` for each item; yields once for each.

    Worker processes do both where `device` is the CPU and the network leaves them a core. On a GPU
    they only write, and this process makes.

    Args:
        runtime: the machine.
        items: what a network in this process makes; picklable where `device` is the CPU.
        make: (item, device=) -> a picklable result.
        write: keeps the result.
        device: where results are made.
        has_threads: as `Runtime.workers_beside_network` takes it.
    """
    made_on = partial(make, device=device)
    workers = runtime.workers_beside_network(has_threads=has_threads)
    if is_accelerator(device):
        return _in_two_places(workers, items, (made_on,), (write,))
    return _in_two_places(workers, items, (), (made_on, write))


def _in_two_places(
    workers: int, items: Iterable[Any], here: Functions, there: Functions
) -> Iterator[object]:
    """Each item through functions `here`, in this process, then through those of the workers."""
    with WorkerPool(workers) as pool:
        done_here = map(partial(_in_turn, functions=here), items)
        yield from pool.map(partial(_in_turn, functions=there), done_here)


def _in_turn(item: Any, *, functions: Functions) -> Any:
    for function in functions:
        item = function(item)
    return item


@dataclass(frozen=True)
class _Inputs:
    """What a DataLoader reads."""

    items: Sequence[Any]
    read: Callable[[Any], dict[str, Any]]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.read(self.items[index])
