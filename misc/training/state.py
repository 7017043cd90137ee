"""What a training keeps to go on from where it was stopped, and what must be finite for that."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from misc.errors import UserError
from misc.runtime import Runtime
from misc.weights import load_strictly, read_torch_file, write_torch_file

logger = logging.getLogger(__name__)

FROM_THE_START = "Delete this checkpoint: the same command then trains from the start."


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of an unfinished training is kept, and how often.

    Attributes:
        path: the file. The caller ensures that the same training resumes from it.
        every: seconds from one checkpoint to the next; 0: one after every update.
    """

    path: Path
    every: float


@dataclass
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

    def __post_init__(self) -> None:
        self._saved_at = time.monotonic()

    @property
    def scaler(self) -> GradScaler | None:
        """What scales the loss so that fp16 holds its gradients; None in other precisions."""
        return self.runtime.accelerator.scaler

    def resume(self, num_steps: int) -> int:
        """Move to the device, as the last checkpoint has it, and return the steps done before.

        Raises:
            UserError: if the checkpoint is damaged, or of another network.
        """
        path, device = self.checkpoints.path, self.runtime.device
        self.runtime.place(self.model)
        if self.scaler is not None:
            # One serves all trainings of a run; none may depend on what an earlier one led it to.
            self.scaler.load_state_dict(GradScaler(device.type).state_dict())
        if not path.exists():
            return 0
        saved = read_torch_file(path, remedy=FROM_THE_START)
        if not _is_state(saved, num_steps):
            raise UserError(f"{path} is not a training state. {FROM_THE_START}")
        load_strictly(self.model, saved["model"], source=str(path), remedy=FROM_THE_START)
        try:
            _load_optimizer(self.optimizer, saved["optimizer"])
            if self.scaler is not None:
                self.scaler.load_state_dict(saved["scaler"])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: the optimiser's state does not fit ({error}). {FROM_THE_START}"
            ) from error
        logger.info("%s: resuming at step %d of %d", self.desc, saved["step"], num_steps)
        return saved["step"]

    def save_if_due(self, done: int, num_steps: int, *, must: bool = False) -> None:
        """Write the checkpoint after `done` steps if it is time, or if it must be.

        Each process may think differently about the time: this one alone looks at its weights.
        """
        if not self.runtime.is_main:
            return
        if not must and time.monotonic() - self._saved_at < self.checkpoints.every:
            return
        if self.runtime.world_size == 1:
            self.demand_finite_weights(done)
        elif self._not_finite_here():
            return  # the last checkpoint stays, and the end of the epoch tells everybody
        state = {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "step": done,
        }
        write_torch_file(state, self.checkpoints.path)
        self._saved_at = time.monotonic()
        if must:
            logger.info(
                "%s: stopped at step %d of %d; a checkpoint is kept", self.desc, done, num_steps
            )

    def finite(self, loss: float, done: int) -> float:
        """The loss.

        Raises:
            UserError: if it is not finite.
        """
        if not np.isfinite(loss):
            raise self._not_finite(f"the loss became {loss} at step {done}")
        return loss

    def demand_finite_weights(self, done: int) -> None:
        """Refuse weights and running statistics that are not finite in one of the processes.

        A finite loss may have had an infinite gradient: nothing of that may be kept or scored.

        Raises:
            UserError: naming the first of them.
        """
        names, broken = self._broken_weights()
        counts = self.runtime.sum_over_processes(broken.int()).tolist()
        for name, count in zip(names, counts, strict=True):
            if count:
                raise self._not_finite(f"{name} is not finite after step {done}")

    def _broken_weights(self) -> tuple[list[str], Tensor]:
        """Names of the weights and running statistics, and which of them are not finite."""
        values = {k: v for k, v in self.model.state_dict().items() if v.is_floating_point()}
        # Looked at together: on a GPU, each look at a single one would wait for it.
        return list(values), torch.stack([~value.isfinite().all() for value in values.values()])

    def _not_finite_here(self) -> bool:
        return bool(self._broken_weights()[1].any())

    def _not_finite(self, problem: str) -> UserError:
        remedy = "Lower the learning rate."
        if self.checkpoints.path.exists():
            remedy = (
                "Lower the learning rate, and pass --overwrite to train again from the start. "
                f"Until then the last checkpoint, {self.checkpoints.path}, is kept: the same "
                "command resumes from it."
            )
        return UserError(f"{self.desc}: {problem}. {remedy}")


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Fill the optimiser; torch itself would notice later, or never, what does not fit.

    Raises:
        ValueError, or what torch raises: if it does not.
    """
    outline = [group.keys() for group in optimizer.state_dict()["param_groups"]]
    if [group.keys() for group in saved["param_groups"]] != outline:
        raise ValueError("it is of another optimiser")
    optimizer.load_state_dict(saved)
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            is_alike = isinstance(value, Tensor) and value.shape == parameter.shape
            if not (value is None or (is_alike and value.isfinite().all())):
                raise ValueError(f"{name} is not finite, or of another shape")


def _is_state(saved: Any, num_steps: int) -> bool:
    """True if a file holds what `save_if_due` writes, as far as its outline tells."""
    return (
        isinstance(saved, dict)
        and saved.keys() == {"model", "optimizer", "scaler", "step"}
        and isinstance(saved["model"], dict)
        and all(isinstance(each, Tensor) for each in saved["model"].values())
        and isinstance(saved["optimizer"], dict)
        and type(saved["step"]) is int
        and 0 < saved["step"] < num_steps
    )
