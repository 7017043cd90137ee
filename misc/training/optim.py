"""Stochastic gradient descent under the polynomial schedule that the IRN family uses."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

LEGACY_MOMENTUM = 1e-4
"""The reference passes its weight decay as SGD's third positional argument, the momentum, and calls
the schedule's power "momentum": it trained with next to none, and so were its published results."""

POLY_POWER = 0.9


class PolySgd(torch.optim.SGD):
    """SGD whose rate falls as lr_t = lr_0 * (1 - t / max_step) ** power.

    The rate is set before step t = 0, 1, ...; past `max_step` steps it stays as it was last. The
    position is kept in the parameter groups, hence in `state_dict()`: a resumed run goes on as if
    it had not stopped.

    Args:
        groups: parameters, or groups of them with an `lr` (lr_0) or `weight_decay` of their own.
        lr: lr_0 of groups that name none.
        weight_decay: that of groups that name none.
        max_step: steps of the whole training, at least 1.
        momentum: the reference's by default.
        power: of the schedule.
        every: steps between changes of the rate; t is rounded down to a multiple of it.

    Raises:
        ValueError: `max_step` or `every` is below 1.
    """

    def __init__(
        self,
        groups: Iterable[Any],
        *,
        lr: float,
        weight_decay: float,
        max_step: int,
        momentum: float = LEGACY_MOMENTUM,
        power: float = POLY_POWER,
        every: int = 1,
    ) -> None:
        if max_step < 1:
            raise ValueError(f"max_step is {max_step}: a schedule needs at least one step")
        if every < 1:
            raise ValueError(f"every is {every}: the rate changes after one step at the least")
        super().__init__(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
        self.max_step = max_step
        self.power = power
        self.every = every
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]
            group["steps_done"] = 0

    @property
    def steps_done(self) -> int:
        """Steps taken so far, over all runs."""
        return self.param_groups[0]["steps_done"]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Set the rates for this step, then take it."""
        for group in self.param_groups:
            step = min(group["steps_done"], self.max_step - 1)
            progress = (step - step % self.every) / self.max_step
            group["lr"] = group["initial_lr"] * (1 - progress) ** self.power
        loss = super().step(closure)
        for group in self.param_groups:
            group["steps_done"] += 1
        return loss
