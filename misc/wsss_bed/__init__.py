"""WSSS-BED (arXiv 2404.00918): its label rule, scored at all thresholds at once."""

from misc.wsss_bed.grid_scores import GridScores, loss_of, transfer_losses
from misc.wsss_bed.rule import make_wsss_bed_mask
from misc.wsss_bed.saliency_scores import SaliencyScores
from misc.wsss_bed.threshold_grid import ThresholdGrid

__all__ = [
    "GridScores",
    "SaliencyScores",
    "ThresholdGrid",
    "loss_of",
    "make_wsss_bed_mask",
    "transfer_losses",
]
