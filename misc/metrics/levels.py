"""How many of a few thresholds lie below each of many values, faster than a binary search."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CELLS = 4096


class Levels:
    """Counts, for values mostly in 0..1, the thresholds that lie below them, in float32.

    A table over equal cells of 0..1 tells the thresholds of the cells before a value's own; those
    within its cell are compared. A binary search would cost log(thresholds) per value.

    Attributes:
        ascending: float32 (T,), the different thresholds.
        rank_of: int (N,), index into `ascending` of each threshold as it was given.
    """

    def __init__(self, thresholds: Sequence[float], *, inclusive: bool = False):
        """Prepare the table.

        Args:
            thresholds: in any order, at least one, finite.
            inclusive: count a threshold below a value that equals it too, unless both are 0.

        Raises:
            ValueError: if they are not such numbers.
        """
        as_float32 = np.asarray(thresholds, np.float32)
        if as_float32.ndim != 1 or not as_float32.size or not np.isfinite(as_float32).all():
            raise ValueError(f"thresholds must be one or more finite numbers, got {thresholds}.")
        self.ascending, self.rank_of = np.unique(as_float32, return_inverse=True)
        bounds = self.ascending
        if inclusive:
            # x >= t is x > p for the number p next below t.
            bounds = np.where(bounds > 0, np.nextafter(bounds, np.float32(-np.inf)), bounds)
        self._below_cell, self._inside_cell = _tables(bounds)

    def __len__(self) -> int:
        return len(self.ascending)

    def of(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Number of thresholds below each value: 0..T, of the shape of `values`."""
        cell = _cell(values)
        level = self._below_cell[cell]
        for bound in self._inside_cell:
            level += values > bound[cell]
        return level


def _cell(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """One of a fixed number of cells, never falling as `values` rise."""
    return np.clip(values * np.float32(_CELLS), 0, _CELLS - 1).astype(np.int32)


def _tables(ascending: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """How many bounds lie in earlier cells (cells,), and those in each cell (P, cells)."""
    cell = _cell(ascending)
    per_cell = np.bincount(cell, minlength=_CELLS)
    below = np.cumsum(per_cell) - per_cell
    inside = np.full((per_cell.max(), _CELLS), np.inf, np.float32)
    inside[np.arange(len(ascending)) - below[cell], cell] = ascending
    return below, inside
