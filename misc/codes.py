"""The codes in pictures, for the code that makes, learns from, scores and shows them."""

from enum import IntEnum

VOID = 255
"""Pixels of a mask of no known class: neither learnt from nor scored ("ignore")."""


class BoundaryLabel(IntEnum):
    """The codes of a boundary label as they are in its PNG."""

    BACKGROUND = 0
    FOREGROUND = 50
    BETWEEN_CLASSES = 100
    AROUND_FOREGROUND = 150
    IGNORE = 200
    SALIENCY_EDGE = 250
