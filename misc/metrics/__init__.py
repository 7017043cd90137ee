"""Scores of masks: confusion matrices, and CAMs at many thresholds in one pass; of tags."""

from misc.metrics.bootstrap import interval, miou_of_counts, resampled_mious
from misc.metrics.boundary import BOUNDARY_TOLERANCE, boundary_f
from misc.metrics.faults import Faults, faults_of
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
from misc.metrics.tags import TagScores, chance_level

__all__ = [
    "BOUNDARY_TOLERANCE",
    "ConfusionMatrix",
    "Faults",
    "Levels",
    "Scores",
    "TagScores",
    "ThresholdSweep",
    "boundary_f",
    "chance_level",
    "check_class_ids",
    "faults_of",
    "interval",
    "known_rows",
    "max_and_argmax",
    "miou_of_counts",
    "resampled_mious",
    "truth_rows",
]
