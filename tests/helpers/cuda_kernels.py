"""Which operators a computation needs, and whether torch's CUDA build has a kernel for each.

On a fake card, tensors have shapes, types and devices but no values: the operators are those that
a GPU would get, also in mixed precision, and none is computed. Autograd's engine would want a real
card; `run_backward` walks over its graph instead.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

needs_cuda_build = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason="this torch is built for the CPU alone"
)

Operator = tuple[str, str]
"""Name, and the dispatch key that a GPU looks for a kernel under."""


def without_kernel(operators: Iterable[Operator]) -> list[str]:
    """Names of those that a GPU could not run; what torch composes of others counts as it can."""
    has_kernel = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    return sorted({name for name, key in operators if not has_kernel(name, key)})


class Operators(TorchDispatchMode):
    """Notes the names of the operators within its block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    @property
    def without_kernel(self) -> list[str]:
        """Those that CUDA has no kernel for."""
        return without_kernel((name, "CUDA") for name in self.names)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace != "prim":  # what asks for shapes and devices
            self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def fake_card() -> Iterator[None]:
    """Within the block there seems to be a GPU, and no tensor made there has values."""
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode():
        # `torch.autocast` asks, and does nothing without one.
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        patch.setattr("torch.cuda.is_bf16_supported", lambda: True)
        yield


def move_to_card(network: nn.Module) -> None:
    """Replace parameters and buffers, which may be without values, by a fake card's."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                learns = parameter.requires_grad
                module._parameters[name] = nn.Parameter(_on_card(parameter), requires_grad=learns)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = _on_card(value)


def _on_card(like: Tensor) -> Tensor:
    return torch.empty_strided(like.size(), like.stride(), dtype=like.dtype, device="cuda")


def run_backward(loss: Tensor) -> int:
    """Call every function of the graph below a scalar once, with its gradients.

    Returns:
        how many parameters have got one as their `grad`, of their shape, type and device.
    """
    assert loss.grad_fn is not None
    gradients: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    gradients[loss.grad_fn][0] = torch.ones_like(loss)
    parameters = 0
    for function in _from_last_to_first(loss.grad_fn):
        given = gradients.pop(function, {})
        if hasattr(function, "variable"):
            gradient, parameter = given[0], function.variable
            assert (gradient.shape, gradient.dtype) == (parameter.shape, parameter.dtype)
            assert gradient.device == parameter.device
            parameter.grad = gradient
            parameters += 1
            continue
        results = function(*(given.get(i) for i in range(len(function._input_metadata))))
        results = results if isinstance(results, tuple) else (results,)
        for (receiver, place), result in zip(function.next_functions, results, strict=True):
            if receiver is not None and result is not None:
                result = result.to(receiver._input_metadata[place].dtype)  # as the engine does
                received = gradients[receiver]
                received[place] = received[place] + result if place in received else result
    return parameters


def _from_last_to_first(last: Any) -> list[Any]:
    """The functions of a graph, each after all that it gets gradients from."""
    finished: dict[Any, None] = {}
    waiting = [(last, False)]
    while waiting:
        function, is_finished = waiting.pop()
        if is_finished:
            finished[function] = None
        elif function not in finished:
            waiting.append((function, True))
            earlier = (each for each, _ in function.next_functions)
            waiting += [(e, False) for e in earlier if e is not None and e not in finished]
    return list(reversed(finished))
