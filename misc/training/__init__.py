"""The training loop: planned batches, optimiser, checkpoints, and going on after a stop."""

from misc.training.loop import Batch, BatchPlan, Draw, Learning, train
from misc.training.optim import PolySgd
from misc.training.state import Checkpoints

__all__ = ["Batch", "BatchPlan", "Checkpoints", "Draw", "Learning", "PolySgd", "train"]
