"""What a training keeps to go on from where it was stopped, and what must be finite for that."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from misc.checkpoint import load_training_state, save_training_state
from misc.errors import UserError
from misc.runtime import Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of an unfinished training is kept, how often, and what it must match."""

    path: Path
    every: int
    made_by: dict[str, Any]


@dataclass(frozen=True)
class TrainingState:
    """A training between two steps.

    Attributes:
        runtime: device, precision and processes.
        model: the network that learns.
        optimizer: over its parameters.
        checkpoints: where the state is kept.
        desc: the training's name, for messages.
    """

    runtime: Runtime
    model: nn.Module
    optimizer: torch.optim.Optimizer
    checkpoints: Checkpoints
    desc: str

    @property
    def scaler(self) -> GradScaler | None:
        """What scales the loss so that fp16 holds its gradients; None in other precisions."""
        return self.runtime.accelerator.scaler

    def resume(self, num_steps: int) -> int:
        """Move to the device, as the last checkpoint has it, and return the steps done before."""
        path, done, device = self.checkpoints.path, 0, self.runtime.device
        self.model.to(device)
        if self.scaler is not None:
            # One serves all trainings of a run; none may depend on what an earlier one led it to.
            self.scaler.load_state_dict(GradScaler(device.type).state_dict())
        if path.exists():
            done = load_training_state(
                path,
                model=self.model,
                optimizer=self.optimizer,
                scaler=self.scaler,
                config=self.checkpoints.made_by,
            )
            logger.info("%s goes on after step %d of %d", self.desc, done, num_steps)
        return done

    def save(self, done: int) -> None:
        """Write the checkpoint after `done` steps."""
        save_training_state(
            self.checkpoints.path,
            model=self.model,
            optimizer=self.optimizer,
            scaler=self.scaler,
            step=done,
            config=self.checkpoints.made_by,
        )

    def finite(self, loss: Tensor, done: int) -> float:
        """The loss as a number.

        Raises:
            UserError: if it is not finite.
        """
        value = float(loss)
        if not np.isfinite(value):
            raise self._not_finite(f"the loss became {value} at step {done}")
        return value

    def demand_finite_weights(self, done: int) -> None:
        """Refuse weights and running statistics that are not finite in one of the processes.

        A finite loss may have had an infinite gradient: nothing of that may be kept or scored.

        Raises:
            UserError: naming the first of them.
        """
        values = {k: v for k, v in self.model.state_dict().items() if v.is_floating_point()}
        # Looked at together: on a GPU, each look at a single one would wait for it.
        broken = torch.stack([~value.isfinite().all() for value in values.values()])
        counts = self.runtime.sum_over_processes(broken.int()).tolist()
        for name, count in zip(values, counts, strict=True):
            if count:
                raise self._not_finite(f"{name} is not finite after step {done}")

    def _not_finite(self, problem: str) -> UserError:
        remedy = "Lower the learning rate, and pass --overwrite to train anew with it."
        if self.checkpoints.path.exists():
            remedy += (
                f" Until then the last checkpoint, {self.checkpoints.path}, is kept: the same "
                "command without --overwrite goes on from there."
            )
        return UserError(f"{self.desc}: {problem}. {remedy}")
