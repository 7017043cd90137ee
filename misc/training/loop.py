"""The training loop: planned batches, checkpoints, and going on where a run stopped."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from misc.errors import UserError
from misc.log import progress
from misc.runtime import Runtime, read_ahead
from misc.signals import StopRequest, stop_later
from misc.training.state import Checkpoints, TrainingState
from misc.workspace import TrainingCurve

logger = logging.getLogger(__name__)

WHOLE_BATCHES = 16
Draw = tuple[int, int]  # epoch, index of the image
Batch = dict[str, Tensor]


class BatchPlan:
    """Which images make up each step's batch, seeded.

    Where an epoch has `WHOLE_BATCHES` batches or more, the last incomplete one is left out, as in
    the reference. A smaller epoch shows every image, in batches of nearly equal sizes.

    Attributes:
        images_per_epoch: how many images an epoch shows.
        batch_size: images of the largest batch.
        least_batch: images of the smallest one.
    """

    def __init__(self, num_images: int, batch_size: int, num_epochs: int, seed: int) -> None:
        """Plan `num_epochs` passes over `num_images` in batches of at most `batch_size`."""
        self.num_images = num_images
        self.steps_per_epoch = num_images // batch_size
        self.images_per_epoch = self.steps_per_epoch * batch_size
        if self.steps_per_epoch < WHOLE_BATCHES:
            self.steps_per_epoch = -(-num_images // batch_size)
            self.images_per_epoch = num_images
        self.batch_size = -(-self.images_per_epoch // self.steps_per_epoch)
        self.least_batch = self.images_per_epoch // self.steps_per_epoch
        self.num_steps = num_epochs * self.steps_per_epoch
        self.seed = seed

    @classmethod
    def of_steps(cls, num_images: int, batch_size: int, num_steps: int, seed: int) -> "BatchPlan":
        """Plan `num_steps` batches, however many passes these take."""
        plan = cls(num_images, batch_size, 1, seed)
        plan.num_steps = num_steps
        return plan

    def draws(self, step: int) -> list[Draw]:
        """The images of one step over all processes, each with its epoch."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_images)
        start, end = (
            self.images_per_epoch * at // self.steps_per_epoch for at in (position, position + 1)
        )
        return [(epoch, int(i)) for i in order[start:end]]


class _StepSampler:
    """Yields this process's part of each step's draws, from `first_step` on."""

    def __init__(self, plan: BatchPlan, first_step: int, runtime: Runtime) -> None:
        self.plan = plan
        self.first_step = first_step
        self.runtime = runtime

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.first_step, self.plan.num_steps):
            yield self.runtime.shard(self.plan.draws(step))

    def __len__(self) -> int:
        return self.plan.num_steps - self.first_step


class Trained(NamedTuple):
    """What a training did in this run.

    Attributes:
        steps: steps taken, one per batch.
        loss: their mean loss over the last epoch; 0 if none was left to take.
        stop: whether this process was asked to stop when no update was left to come; it is to be
            obeyed once the weights are kept.
    """

    steps: int
    loss: float
    stop: StopRequest


@dataclass
class Learning:
    """A training that is about to begin.

    Attributes:
        network: what learns, in training mode, on the CPU or the device; its weights are kept.
        optimizer: over its parameters; one `step()` every `accumulate` batches.
        dataset: maps a draw to a dict of tensors.
        plan: batches over all processes; each process takes its part.
        loss_of: (model, batch on the device) -> this process's share of the batch's mean loss: the
            shares of all processes add up to it.
        model: the network, or a module that calls it.
        accumulate: batches whose mean gradient makes one update.
        after_epoch: called with the number of finished epochs; the model, all finite, may be
            evaluated there.
        after_update: called with the number of updates so far, before a checkpoint of them is
            written; the model, all finite, may be evaluated and kept there.
        update_every: updates from one such call to the next; one follows the last update in any
            case, and 0 means that one alone.
        notes: what to tell of the training in the scores.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    dataset: Dataset[Batch]
    plan: BatchPlan
    loss_of: Callable[[nn.Module, Batch], Tensor]
    model: nn.Module = None  # type: ignore[assignment] # the network itself, unless given
    accumulate: int = 1
    after_epoch: Callable[[int], None] | None = None
    after_update: Callable[[int], None] | None = None
    update_every: int = 1
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model is None:
            self.model = self.network


def train(
    runtime: Runtime,
    learning: Learning,
    checkpoints: Checkpoints,
    *,
    desc: str,
    curve: TrainingCurve | None = None,
) -> Trained:
    """Train in place over all steps, from the last checkpoint if there is one.

    An update whose gradients overflow in fp16 changes nothing, but counts; a warning at the end
    says how many there were. Ctrl-C and SIGTERM are obeyed after the next update, which is kept in
    a checkpoint.

    Args:
        runtime: device, precision and processes.
        learning: what is trained, and on what.
        checkpoints: where to keep the state, and how often.
        desc: what the progress bar says.
        curve: where the main process keeps loss and learning rate of each update.

    Returns:
        the number of steps taken in this run, their loss, and whether to stop once all is kept.

    Raises:
        UserError: if a process would get no image, the checkpoint was made with different settings,
            or the loss or a weight is not finite; the last checkpoint, all finite, is kept.
        KeyboardInterrupt: if this process, or another of the run, was asked to stop.
    """
    plan, model, accumulate = learning.plan, learning.model, learning.accumulate
    if plan.least_batch < runtime.world_size:
        raise UserError(
            f"A batch of {plan.least_batch} cannot be divided among {runtime.world_size} "
            "processes. Start fewer processes or raise the batch size."
        )
    state = TrainingState(runtime, model, learning.optimizer, checkpoints, desc)
    first_step = state.resume(plan.num_steps)
    wrapped, wrapped_optimizer = runtime.accelerator.prepare(model, learning.optimizer)
    losses: list[float] = []
    skipped = 0
    batches = progress(
        _batches(runtime, learning.dataset, _StepSampler(plan, first_step, runtime)),
        desc=desc,
        total=plan.num_steps,
        done=first_step,
    )
    growing = contextlib.nullcontext() if curve is None else curve.growing(first_step // accumulate)
    with stop_later() as stop, growing as add_row:
        for done, batch in enumerate(batches, first_step + 1):
            updates = done % accumulate == 0
            # Until the update, the processes need not see each other's gradients.
            waits = contextlib.nullcontext() if updates else runtime.accelerator.no_sync(wrapped)
            with waits:
                with runtime.accelerator.autocast():
                    loss = learning.loss_of(wrapped, batch)
                if (done - 1) % accumulate == 0:
                    wrapped_optimizer.zero_grad()
                # Gradients are averaged over processes, shares of the loss must be summed.
                runtime.accelerator.backward(loss * (runtime.world_size / accumulate))
            if updates:
                wrapped_optimizer.step()
                skipped += wrapped_optimizer.step_was_skipped
            # If one process was asked to stop, all stop at the same update.
            told = torch.stack([loss.detach().float(), loss.new_full((), float(stop.is_asked))])
            total, asked = runtime.sum_over_processes(told).tolist()
            losses.append(state.finite(total, done))
            if updates:
                mean_loss = float(np.mean(losses[-accumulate:]))
                rate = learning.optimizer.param_groups[0]["lr"]
                batches.tell(f"loss {mean_loss:.3f}, rate {rate:.2g}")
                if add_row is not None:
                    epoch = (done - 1) // plan.steps_per_epoch + 1
                    add_row(done // accumulate, epoch, mean_loss, rate)
            is_last = done == plan.num_steps
            looks = updates and (is_last or _is_multiple(done // accumulate, learning.update_every))
            ends_epoch = _is_multiple(done, plan.steps_per_epoch)
            if (looks and learning.after_update is not None) or ends_epoch or is_last:
                state.demand_finite_weights(done)
            if looks and learning.after_update is not None:
                learning.after_update(done // accumulate)
                model.train()
            if updates and not is_last:
                state.save_if_due(done, plan.num_steps, must=asked > 0)
            if ends_epoch:
                epoch = done // plan.steps_per_epoch
                mean = np.mean(losses[-plan.steps_per_epoch :])
                logger.info("%s: epoch %d, mean loss %.4f", desc, epoch, mean)
                if learning.after_epoch is not None:
                    learning.after_epoch(epoch)
                    model.train()
            if updates and not is_last and asked:
                stop.obey()
    runtime.barrier()
    if skipped:
        logger.warning(
            "%s: %d updates were skipped: their gradients overflowed in fp16", desc, skipped
        )
    last_losses = losses[-plan.steps_per_epoch :]
    return Trained(len(losses), float(np.mean(last_losses)) if last_losses else 0.0, stop)


def _is_multiple(count: int, every: int) -> bool:
    return every > 0 and count % every == 0


def _batches(runtime: Runtime, dataset: Dataset[Batch], sampler: _StepSampler) -> Iterator[Batch]:
    """Batches on the device, read by worker processes ahead of their use."""
    for batch in read_ahead(runtime, dataset, batch_sampler=sampler):
        yield {name: value.to(runtime.device, non_blocking=True) for name, value in batch.items()}
