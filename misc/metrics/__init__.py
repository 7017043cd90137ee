"""Scores of masks: confusion matrices, and CAMs at many thresholds in one pass."""

from misc.metrics.levels import Levels
from misc.metrics.scores import (
    ConfusionMatrix,
    Scores,
    ThresholdSweep,
    check_class_ids,
    known_rows,
    max_and_argmax,
    truth_rows,
)

__all__ = [
    "ConfusionMatrix",
    "Levels",
    "Scores",
    "ThresholdSweep",
    "check_class_ids",
    "known_rows",
    "max_and_argmax",
    "truth_rows",
]
