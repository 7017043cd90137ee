"""The scores of WSSS-BED's masks at every pair of thresholds, exactly, from one pass."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from misc.errors import UserError
from misc.metrics import ConfusionMatrix, Levels, check_class_ids, known_rows, truth_rows
from misc.wsss_bed.rule import strongest_class

MAX_BYTES = 1 << 28  # of the counts of one grid; every worker process holds some


class Cell(NamedTuple):
    """One combination of thresholds; `sal_thres` None stands for no saliency."""

    act_thres: float
    sal_thres: float | None
    ignore: bool


class ThresholdGrid:
    """Confusion matrices of `make_wsss_bed_mask` for all pairs of thresholds.

    What a pixel becomes depends on its class of highest activation, on how many activation
    thresholds that reaches, and on its saliency state: how many saliency thresholds it exceeds
    and, where 0 (soft) is one of them, whether the activation wins against the soft background.
    The joint histogram of these and the truth holds every matrix, at about the cost of one.

    Attributes:
        counts: int64 (A+1, S, C, C): activation thresholds reached, saliency state, truth,
            class of the highest activation. Memory does not grow with the number of images.
    """

    def __init__(
        self, act_thresholds: Sequence[float], sal_thresholds: Sequence[float] | None, classes: int
    ):
        """Make an empty grid.

        Args:
            act_thresholds: in any order, 0..1.
            sal_thresholds: likewise, 0 meaning soft; None: masks without saliency.
            classes: number of classes, background included.

        Raises:
            ValueError: if a threshold is not in 0..1.
            UserError: if there are too many for the memory.
        """
        self.num_classes = ConfusionMatrix(classes).num_classes
        self.act_thresholds = list(act_thresholds)
        self.sal_thresholds = None if sal_thresholds is None else list(sal_thresholds)
        if not all(0 <= t <= 1 for t in [*act_thresholds, *(sal_thresholds or [])]):
            raise ValueError(f"Thresholds are 0 to 1: {act_thresholds}, {sal_thresholds}")
        # Without saliency a class must exceed the threshold, with it reach it.
        self._act = Levels(self.act_thresholds, inclusive=sal_thresholds is not None)
        self._sal = None if sal_thresholds is None else Levels(sal_thresholds)
        self._has_soft = self._sal is not None and self._sal.ascending[0] == 0
        num_states = 1
        if self._sal is not None:
            num_states = (len(self._sal) + 1) * (2 if self._has_soft else 1)
        shape = (len(self._act) + 1, num_states, classes, classes)
        if 8 * math.prod(shape) > MAX_BYTES:
            raise UserError(
                f"{len(self._act)} activation and {num_states} states of saliency thresholds for "
                f"{classes} classes would take {8 * math.prod(shape) >> 20} MiB per grid, more "
                f"than {MAX_BYTES >> 20}. Take fewer thresholds."
            )
        self.counts = np.zeros(shape, np.int64)

    def add(
        self,
        mask_gt: NDArray[np.uint8],
        cam: NDArray[np.float32],
        class_ids: NDArray[np.integer],
        saliency: NDArray[np.float32] | None = None,
    ) -> None:
        """Count one image.

        Args:
            mask_gt: (H,W) ground truth, 255 = void.
            cam: (K,H,W) 0..1; K = 0: no class is present.
            class_ids: (K,) from 1, ascending.
            saliency: (H,W) 0..1; None for a grid without saliency.

        Raises:
            ValueError: if shapes or classes do not fit, or saliency is there or not against the
                grid's thresholds.
            UserError: if the ground truth holds a class id beyond the known ones.
        """
        if (saliency is None) != (self._sal is None):
            raise ValueError("Saliency maps and saliency thresholds go together.")
        given = [
            mask_gt.shape,
            cam.shape[1:],
            mask_gt.shape if saliency is None else saliency.shape,
        ]
        if len(set(given)) > 1:
            raise ValueError(f"Ground truth, activation and saliency differ in size: {given}")
        check_class_ids(class_ids, len(cam), self.num_classes)
        columns = class_ids if len(cam) else np.zeros(1, np.int64)
        score, winner = strongest_class(cam)
        num_rows = self.num_classes + 2
        index = self._act.of(score)
        if saliency is not None:
            index = index * self.counts.shape[1] + self._states(score, saliency)
        index = index.ravel() * num_rows + truth_rows(mask_gt, self.num_classes)
        index = index * len(columns) + winner.ravel()
        shape = (*self.counts.shape[:2], num_rows, len(columns))
        found = np.bincount(index, minlength=int(np.prod(shape))).reshape(shape)
        known_rows(found.sum(axis=(0, 1, 3))[:, None], self.num_classes, mask_gt)
        self.counts[..., columns] += found[:, :, : self.num_classes]

    def _states(
        self, score: NDArray[np.float32], saliency: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        assert self._sal is not None
        exceeded = self._sal.of(saliency)
        return exceeded * 2 + (score > 1 - saliency) if self._has_soft else exceeded

    def sparse(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices into the flat `counts` that are not 0, and what they hold."""
        places = np.flatnonzero(self.counts)
        return places, self.counts.ravel()[places]

    def add_sparse(self, places: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        """Add what `sparse` of a grid of the same thresholds gave, each place once."""
        self.counts.ravel()[places] += values

    def confusions(self) -> Iterator[tuple[Cell, ConfusionMatrix]]:
        """Every cell with its matrix; without saliency there is no `ignore`."""
        reached = self.counts[::-1].cumsum(axis=0)[::-1]
        everything = reached[0].sum(axis=(0, 2))
        for sal_thres, states, salient in self._saliency_rules():
            foreground = reached[1:, states].sum(axis=1)
            ignored_at_most = reached[0, salient].sum(axis=(0, 2))
            for act_thres, rank in zip(self.act_thresholds, self._act.rank_of, strict=True):
                for ignore in (False,) if sal_thres is None else (False, True):
                    matrix = ConfusionMatrix(self.num_classes)
                    matrix.matrix += foreground[rank]
                    rest = everything - foreground[rank].sum(axis=1)
                    if ignore:
                        matrix.unscored += ignored_at_most - foreground[rank].sum(axis=1)
                        rest -= matrix.unscored
                    matrix.matrix[:, 0] += rest
                    yield Cell(act_thres, sal_thres, ignore), matrix

    def _saliency_rules(
        self,
    ) -> Iterator[tuple[float | None, NDArray[np.bool_], NDArray[np.bool_]]]:
        """Each saliency threshold with the states in which classes win, and the salient states."""
        state = np.arange(self.counts.shape[1])
        if self._sal is None or self.sal_thresholds is None:
            yield None, state >= 0, state < 0
            return
        exceeded, wins = (state // 2, state % 2 == 1) if self._has_soft else (state, state >= 0)
        for sal_thres, rank in zip(self.sal_thresholds, self._sal.rank_of, strict=True):
            salient = exceeded > rank
            yield sal_thres, salient & wins if sal_thres == 0 else salient, salient
