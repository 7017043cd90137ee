"""A pretended accelerator: tensors that say they are on another device, computed on the CPU.

As a GPU's, they refuse to be mixed with the CPU's. Whatever a program would have to wait for a GPU
for is counted, and so is what it would read before a GPU has written it. Nothing in the project
knows of it: `pretended_machine` tells the runtime that this is the device, and a run does there
what it does on a GPU.

The device is called `lazy`, since torch's autograd runs that one in the thread that asks, and since
torch has no kernels for it: what slips past the pretence raises. Each pretence has a device of its
own, `lazy:0`, `lazy:1` and so on, for which nothing was cached before.
"""

import contextlib
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

import run_sample
from misc.log import Progress
from misc.runtime import Runtime, make_runtime
from tests.helpers.cuda_kernels import Operator
from tests.helpers.paths import ROOT

_DEVICES = (torch.device("lazy", number) for number in itertools.count())

_aten = torch.ops.aten
_TO_DEVICE, _COPY = _aten._to_copy.default, _aten.copy_.default
_INDEXING = (_aten.index.Tensor, _aten.index_put_.default)
# What they return, or how much of it there is, only the device knows.
_WAITS = {
    _aten._local_scalar_dense.default: "item",
    _aten.equal.default: "equal",
    _aten.nonzero.default: "nonzero",
    _aten.masked_select.default: "masked_select",
    _aten._unique2.default: "unique",
    _aten.unique_dim.default: "unique_dim",
    _aten.unique_consecutive.default: "unique_consecutive",
    _aten.bincount.default: "bincount",
}
_OURS = ("misc", "net", "step", "voc12", "run_sample.py")


class Pretended(Tensor):
    """A tensor on the pretended device; `on_cpu` is the one that is computed with."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor, device: torch.device) -> "Pretended":
        # A sparse matrix looks dense from outside: what computes with it gets `on_cpu`.
        is_dense = on_cpu.layout == torch.strided
        made = Tensor._make_wrapper_subclass(
            cls,
            on_cpu.size(),
            strides=on_cpu.stride() if is_dense else (on_cpu.shape[1], 1),
            storage_offset=on_cpu.storage_offset() if is_dense else 0,
            dtype=on_cpu.dtype,
            device=device,
        )
        made.on_cpu = on_cpu
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Pretended({self.on_cpu!r})"

    def tolist(self) -> Any:
        """The values; torch's own method takes no subclasses."""
        return self.cpu().tolist()

    # torch needs these two to put such tensors into a network's parameters as they are.

    def __tensor_flatten__(self) -> tuple[list[str], torch.device]:
        return ["on_cpu"], self.device

    @staticmethod
    def __tensor_unflatten__(parts: Any, device: torch.device, *_: Any) -> "Pretended":
        return Pretended(parts["on_cpu"], device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        raise RuntimeError(f"{func} works on a pretended device outside of `pretending`")


@dataclass
class Record:
    """What was done on the pretended device.

    Attributes:
        device: this one.
        waits: (for what, where) -> how often the program waited for the device.
        races: where -> how often it could read what the device has still to write.
        operators: everything that a GPU would need a kernel for.
        of_items: what a progress bar is called -> waits before its first item, from each to the
            next, and after the last.
    """

    device: torch.device = field(default_factory=_DEVICES.__next__)
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    races: Counter[str] = field(default_factory=Counter)
    operators: set[Operator] = field(default_factory=set)
    of_items: dict[str, list[int]] = field(default_factory=dict)

    def counted(self, name: str, items: Iterable[Any]) -> Iterator[Any]:
        """The items; the waits from each to the next are noted."""
        waits = self.of_items[name] = []
        before = self.waits.total()
        for item in items:
            waits.append(self.waits.total() - before)
            before = self.waits.total()
            yield item
        waits.append(self.waits.total() - before)


class _Pretence(TorchDispatchMode):
    """Computes what is done on the device, and notes it."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        ours = [each for each in tensors if isinstance(each, Pretended)]
        goes_to = kwargs.get("device")  # what makes or moves tensors is told where
        stays = goes_to is None or torch.device(goes_to).type == self.record.device.type
        if not ours and (goes_to is None or not stays):
            return func(*args, **kwargs)
        if func not in (_TO_DEVICE, _COPY):
            _refuse_mixture(func, tensors)
        self._note(func, args, kwargs, ours, stays=stays)
        if goes_to is not None and stays:
            kwargs["device"] = torch.device("cpu")
        result = func(*tree_map(_inside, args), **tree_map(_inside, kwargs))
        if func is _COPY:
            return args[0]
        if not stays:
            return result
        made = tree_map(self._outside, result)
        return return_and_correct_aliasing(func, args, kwargs, made) if ours else made

    def _outside(self, value: Any) -> Any:
        return Pretended(value, self.record.device) if isinstance(value, Tensor) else value

    def _note(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        ours: Sequence[Pretended],
        *,
        stays: bool,
    ) -> None:
        is_sparse = any(each.on_cpu.layout == torch.sparse_csr for each in ours)
        self.record.operators.add((func.name(), "SparseCsrCUDA" if is_sparse else "CUDA"))
        kind = _WAITS.get(func)
        if func in (_TO_DEVICE, _COPY):
            to, source = (args[0], args[1]) if func is _COPY else (None, args[0])
            is_here = isinstance(source, Pretended)
            is_there = stays if to is None else isinstance(to, Pretended)
            goes_on = _is_non_blocking(func, args, kwargs)
            if is_here and not is_there:
                kind = "to the CPU"
                if goes_on:
                    self.record.races[_place()] += 1
            elif is_there and not is_here and not goes_on:
                kind = "from the CPU"
        elif func in _INDEXING and any(_is_mask(index) for index in args[1]):
            kind = "boolean index"
        elif func is _aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
            kind = "repeat_interleave"
        if kind is not None:
            self.record.waits[kind, _place()] += 1


def _refuse_mixture(func: Any, tensors: Sequence[Tensor]) -> None:
    """Refuse tensors of both devices, but for single numbers where torch's kernels take them."""
    ours = [each for each in tensors if isinstance(each, Pretended)]
    is_pointwise = torch.Tag.pointwise in func.tags
    others = [
        each
        for each in tensors
        if not isinstance(each, Pretended) and (each.dim() > 0 or not is_pointwise)
    ]
    if ours and others:
        here, there = ([tuple(each.shape) for each in some] for some in (ours, others))
        raise RuntimeError(
            f"{func} mixes devices: {here} on {ours[0].device} and {there} on the CPU"
        )


def _is_non_blocking(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    in_order = args[2:3] if func is _COPY else ()
    return bool(in_order[0] if in_order else kwargs.get("non_blocking", False))


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _inside(value: Any) -> Any:
    return value.on_cpu if isinstance(value, Pretended) else value


def _place() -> str:
    """File and function of the project that is at work."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        inside = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
        if inside.startswith(_OURS):
            return f"{inside}:{frame.f_code.co_name}"
    return "elsewhere"


@contextlib.contextmanager
def pretending() -> Iterator[Record]:
    """The pretended device is there; what is done on it is noted."""
    record = Record()
    # Else `torch.tensor(..., device=...)` would go past every mode.
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Pretence(record):
            yield record
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


@contextlib.contextmanager
def pretended_machine() -> Iterator[Record]:
    """Runs of the command line use the pretended device; what they do there is noted."""

    def runtime_on_device(*arguments: Any, **options: Any) -> Runtime:
        runtime = make_runtime(*arguments, **options)
        # Accelerate asks now the one, now the other.
        PartialState().device = runtime.accelerator.state.device = record.device
        return runtime

    def counted(self: Progress[Any]) -> Iterator[Any]:
        return record.counted(self.desc.split("] ")[-1], self.items)

    try:
        with pytest.MonkeyPatch.context() as patch, pretending() as record:
            patch.setattr(run_sample, "make_runtime", runtime_on_device)
            patch.setattr(Progress, "__iter__", counted)
            yield record
    finally:
        # It would keep the device for the life of the process.
        AcceleratorState._reset_state(reset_partial_state=True)
