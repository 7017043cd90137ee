"""Drawn datasets: photographs, exact masks and saliency maps without a download."""

from voc12.drawn.dataset import draw_dataset

__all__ = ["draw_dataset"]
