"""What a grid of thresholds says: the best cells, and what other choices lose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misc.wsss_bed.threshold_grid import Cell, ThresholdGrid


@dataclass(frozen=True)
class GridScores:
    """Scores of every cell of one grid, in its order; NaN where nothing was scored.

    Attributes:
        cells: N thresholds and whether pixels are ignored.
        miou: (N,) chainercv's protocol: ignored pixels count neither for nor against.
        miou_strict: (N,) the same with ignored pixels counted as missed, so that no cell wins by
            ignoring what is hard. Equal to `miou` where nothing is ignored.
        ignored: (N,) share of the scored pixels that the cell's masks ignore.
        iou: (N,C) as `miou`, class by class.
    """

    cells: list[Cell]
    miou: NDArray[np.float64]
    miou_strict: NDArray[np.float64]
    ignored: NDArray[np.float64]
    iou: NDArray[np.float64]

    @staticmethod
    def of(grid: ThresholdGrid) -> "GridScores":
        """The scores of `grid`."""
        cells, rows, classes = [], [], []
        for cell, confusion in grid.confusions():
            scores = confusion.scores()
            strict = confusion.scores(count_unscored=True) if cell.ignore else scores
            pixels = confusion.matrix.sum() + confusion.unscored.sum()
            share = confusion.unscored.sum() / pixels if pixels else np.nan
            cells.append(cell)
            rows.append((scores.miou, strict.miou, share))
            classes.append(scores.iou)
        miou, miou_strict, ignored = np.array(rows).T
        return GridScores(cells, miou, miou_strict, ignored, np.array(classes))

    def indices(self, ignore: bool) -> NDArray[np.intp]:
        """Indices of the cells with or without ignored pixels."""
        return np.flatnonzero([cell.ignore == ignore for cell in self.cells])

    def best(self, ignore: bool) -> int:
        """Index of the highest `miou_strict` with or without ignored pixels, the first of equals.

        Raises:
            ValueError: if there is no such cell.
        """
        places = self.indices(ignore)
        scores = np.where(np.isnan(self.miou_strict[places]), -1, self.miou_strict[places])
        return int(places[scores.argmax()])

    def miou_over(self, class_ids: Sequence[int]) -> NDArray[np.float64]:
        """(N,) mean IoU over those of `class_ids` (0 = background) that occur."""
        chosen = self.iou[:, list(class_ids)]
        there = ~np.isnan(chosen)
        count = there.sum(axis=1)
        mean = np.where(there, chosen, 0).sum(axis=1) / np.maximum(count, 1)
        return np.where(count > 0, mean, np.nan)


def loss_of(scores: GridScores, chosen: int, ignore: bool) -> float:
    """Strict mIoU that cell `chosen` loses against the best cell, 0 or more."""
    return float(scores.miou_strict[scores.best(ignore)] - scores.miou_strict[chosen])


def transfer_losses(
    sets: Mapping[tuple[str, str], GridScores], ignore: bool
) -> dict[tuple[tuple[str, str], tuple[str, str]], float]:
    """What each pair of sets loses by each other pair's best thresholds.

    Args:
        sets: (activation, saliency) -> scores; only grids of the same cells are compared.
        ignore: among cells with ignored pixels or without.

    Returns:
        (pair, pair whose thresholds it takes) -> loss of strict mIoU.
    """
    return {
        (target, source): loss_of(scores, other.best(ignore), ignore)
        for target, scores in sets.items()
        for source, other in sets.items()
        if source != target and scores.cells == other.cells and len(scores.indices(ignore))
    }
