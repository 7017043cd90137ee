"""What went wrong with the objects of one image, by its confusion matrix."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSED_SHARE = 0.5  # of an object's pixels
CONFUSED_SHARE = 0.25  # of an object's pixels
TOO_LARGE_SHARE = 0.5  # of an object's size
SMALLEST_SHARE = 0.01  # of the image: smaller spots are not worth a word


class Faults(NamedTuple):
    """Class ids from 1 of what went wrong.

    Attributes:
        missed: more than half of the class's pixels have no class in the mask.
        too_large: the mask's class covers background by more than half of the class's true size.
        confused: pairs (true class, class in the mask) where the second holds at least a quarter of
            the first one's pixels.
    """

    missed: Sequence[int]
    too_large: Sequence[int]
    confused: Sequence[tuple[int, int]]


def faults_of(matrix: NDArray[np.integer], unscored: NDArray[np.integer]) -> Faults:
    """What went wrong in one image.

    A class that the image does not show is too large as soon as it covers background. Whatever
    covers less than a hundredth of the image is passed over, unless it is an object that is missed.

    Args:
        matrix: (C,C) pixels, rows are the truth, columns the mask, 0 background.
        unscored: (C,) pixels of each true class that the mask leaves open.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if matrix.ndim != 2 or matrix.shape != (len(unscored), len(unscored)):
        raise ValueError(f"Shapes {matrix.shape} and {unscored.shape} do not fit.")
    size = matrix.sum(axis=1) + unscored
    smallest = SMALLEST_SHARE * size.sum()
    lost = matrix[:, 0] + unscored
    missed = np.flatnonzero(lost > MISSED_SHARE * size)
    spilt = matrix[0]
    too_large = np.flatnonzero((spilt > TOO_LARGE_SHARE * size) & (spilt >= smallest))
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    wrong[0], wrong[:, 0] = 0, 0
    is_confused = (wrong >= CONFUSED_SHARE * size[:, None]) & (wrong >= max(smallest, 1))
    return Faults(
        [k for k in missed.tolist() if k],
        [k for k in too_large.tolist() if k],
        [(true, found) for true, found in np.argwhere(is_confused).tolist()],
    )
