"""The codes of a boundary label, for those who make, learn from and show them."""

from enum import IntEnum


class BoundaryLabel(IntEnum):
    """The codes of a boundary label as they stand in its PNG."""

    BACKGROUND = 0
    FOREGROUND = 50
    BETWEEN_CLASSES = 100
    AROUND_FOREGROUND = 150
    IGNORE = 200
    SALIENCY_EDGE = 250
