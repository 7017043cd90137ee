"""Scores of masks by chainercv's protocol, and exact threshold sweeps over CAMs in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID
from misc.errors import UserError
from misc.metrics.levels import Levels


@dataclass(frozen=True)
class Scores:
    """What one confusion matrix says; NaN marks a class that neither truth nor prediction has.

    Attributes:
        iou: (C,) diagonal / union, in 0..1; index 0 is the background.
        fp: (C,) 1 - truth / union, the share of the union that only the prediction claims.
        fn: (C,) 1 - prediction / union, the share of the union that the prediction misses.
    """

    iou: NDArray[np.float64]
    fp: NDArray[np.float64]
    fn: NDArray[np.float64]

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur."""
        return _nanmean(self.iou)

    @property
    def fp_foreground(self) -> float:
        """Mean `fp` of the foreground classes that occur (the reference: NaN if one is absent)."""
        return _nanmean(self.fp[1:])

    @property
    def fn_foreground(self) -> float:
        """Mean `fn` of the foreground classes that occur (the reference: NaN if one is absent)."""
        return _nanmean(self.fn[1:])

    def miou_over(self, class_ids: Sequence[int]) -> float:
        """Mean IoU over those of `class_ids` (0 = background) that occur."""
        return _nanmean(self.iou[list(class_ids)])


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs of pixels, void pixels left out.

    Attributes:
        matrix: (C, C) int64, rows are the ground truth, columns the prediction.
        unscored: (C,) int64, pixels of each true class whose prediction is no class at all (255 =
            ignore, or a class id beyond C). The reference crops chainercv's matrix to the known
            classes, so **such pixels count neither for nor against**; see `scores`.
    """

    def __init__(self, num_classes: int):
        """Make an empty matrix for `num_classes` classes, background included (1..255)."""
        if not 1 <= num_classes <= VOID:
            raise ValueError(f"num_classes is {num_classes}, but uint8 masks hold 1 to {VOID}.")
        self.num_classes = num_classes
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self.unscored = np.zeros(num_classes, np.int64)

    def add(self, mask_gt: NDArray[np.uint8], pred: NDArray[np.integer]) -> None:
        """Count one image.

        Args:
            mask_gt: (H, W) uint8 ground truth, 255 = void.
            pred: (H, W) predicted class ids 0..255.

        Raises:
            ValueError: the shapes differ, or a value does not fit into uint8.
            UserError: the ground truth holds a class id beyond the known ones.
        """
        _check_same_shape(mask_gt.shape, pred.shape)
        columns = self.num_classes + 1
        column_of = np.minimum(np.arange(VOID + 1), self.num_classes)
        index = truth_rows(mask_gt, self.num_classes) * columns
        index += column_of[_as_uint8(pred, "prediction").ravel()]
        counts = np.bincount(index, minlength=(self.num_classes + 2) * columns)
        rows = known_rows(counts.reshape(-1, columns), self.num_classes, mask_gt)
        self.matrix += rows[:, :-1]
        self.unscored += rows[:, -1]

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add the counts of `other`, made elsewhere for the same classes."""
        _check_same_shape(self.matrix.shape, other.matrix.shape)
        self.matrix += other.matrix
        self.unscored += other.unscored

    def scores(self, *, count_unscored: bool = False) -> Scores:
        """Score the counts.

        Args:
            count_unscored: count pixels predicted as no class as missed (they add to the ground
                truth of their class) instead of dropping them as the reference does.
        """
        hits, truth, predicted = counts = self.counts(count_unscored=count_unscored)
        union = union_of(counts)
        return Scores(hits / union, 1 - truth / union, 1 - predicted / union)

    def counts(self, *, count_unscored: bool = False) -> NDArray[np.int64]:
        """Pixels of each class (3,C): right ones, all true ones, all predicted ones.

        They add up over images, and are all that IoU needs.

        Args:
            count_unscored: as in `scores`.
        """
        truth = self.matrix.sum(axis=1) + (self.unscored if count_unscored else 0)
        return np.stack([np.diag(self.matrix), truth, self.matrix.sum(axis=0)])


class ThresholdSweep:
    """Confusion matrices of `argmax([threshold, cam_1..K])` for many thresholds in one pass.

    A pixel's class is that of its largest activation, and it is background where the threshold is
    at least as large (argmax takes the first of equals). So one joint histogram over (thresholds
    below the largest activation, truth, class of the largest activation) holds every matrix
    exactly, at about the cost of one; memory does not grow with the number of images.
    Thresholds are compared in float32, as the reference does by padding a float32 `cam`.
    """

    def __init__(self, thresholds: Sequence[float], num_classes: int):
        """Make an empty sweep.

        Args:
            thresholds: background scores, in any order, at least one, finite.
            num_classes: number of classes, background included.
        """
        self.thresholds = [float(t) for t in thresholds]
        self.num_classes = ConfusionMatrix(num_classes).num_classes
        self._levels = Levels(self.thresholds)
        # Level n: n of the ascending thresholds lie below the pixel's largest activation.
        self._joint = np.zeros((len(self._levels) + 1, num_classes, num_classes), np.int64)

    def add(
        self, mask_gt: NDArray[np.uint8], cam: NDArray[np.float32], class_ids: NDArray[np.integer]
    ) -> None:
        """Count one image.

        Args:
            mask_gt: (H, W) uint8 ground truth, 255 = void.
            cam: (K, H, W) float32 activations; K = 0 means background everywhere.
            class_ids: (K,) class of each activation, 1-based, ascending.

        Raises:
            ValueError: shapes or class ids do not fit, or `cam` holds NaN or infinity.
            UserError: the ground truth holds a class id beyond the known ones.
        """
        _check_same_shape(mask_gt.shape, cam.shape[1:])
        check_class_ids(class_ids, len(cam), self.num_classes)
        row = truth_rows(mask_gt, self.num_classes)
        num_rows = self.num_classes + 2
        if len(cam) == 0:
            counts = np.bincount(row, minlength=num_rows)[:, None]
            self._joint[0, :, 0] += known_rows(counts, self.num_classes, mask_gt)[:, 0]
            return
        score, winner = max_and_argmax(cam.astype(np.float32, copy=False).reshape(len(cam), -1))
        if not np.isfinite([score.min(), score.max()]).all():
            raise ValueError("The CAM holds NaN or infinity. Make it again.")
        index = (self._levels.of(score) * num_rows + row) * len(cam) + winner
        shape = (len(self._joint), num_rows, len(cam))
        counts = np.bincount(index, minlength=int(np.prod(shape))).reshape(shape)
        known_rows(counts.sum(axis=(0, 2))[:, None], self.num_classes, mask_gt)
        self._joint[:, :, class_ids] += counts[:, : self.num_classes]

    def merge(self, other: "ThresholdSweep") -> None:
        """Add the counts of `other`, made elsewhere for the same thresholds and classes."""
        if self.thresholds != other.thresholds:
            raise ValueError("Only sweeps over the same thresholds can be merged.")
        _check_same_shape(self._joint.shape, other._joint.shape)
        self._joint += other._joint

    def confusion(self, i: int) -> ConfusionMatrix:
        """Confusion matrix at `thresholds[i]`."""
        level = int(self._levels.rank_of[i])
        foreground = self._joint[level + 1 :].sum(axis=0)
        result = ConfusionMatrix(self.num_classes)
        result.matrix += foreground
        result.matrix[:, 0] = self._joint.sum(axis=(0, 2)) - foreground.sum(axis=1)
        return result

    def best(self) -> int:
        """Index of the threshold with the highest mIoU, the first one of equals."""
        miou = [self.confusion(i).scores().miou for i in range(len(self.thresholds))]
        return int(np.nanargmax(miou)) if not np.isnan(miou).all() else 0


def union_of(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Union of truth and prediction of each class, from counts (...,3,C); NaN where it is empty."""
    union = (counts[..., 1, :] + counts[..., 2, :] - counts[..., 0, :]).astype(np.float64)
    return np.where(union == 0, np.nan, union)


def check_class_ids(class_ids: NDArray[np.integer], num_maps: int, num_classes: int) -> None:
    """Refuse class ids (K,) that are not one per map, ascending, within 1..num_classes-1.

    Raises:
        ValueError: if they are not.
    """
    ascending = class_ids.ndim == 1 and bool((np.diff(class_ids) > 0).all())
    in_range = bool(((class_ids >= 1) & (class_ids < num_classes)).all())
    if len(class_ids) != num_maps or not ascending or not in_range:
        raise ValueError(
            f"A CAM with {num_maps} maps needs as many ascending class ids in "
            f"1..{num_classes - 1}, got {class_ids.tolist()}."
        )


def _nanmean(values: NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def _check_same_shape(truth: tuple[int, ...], prediction: tuple[int, ...]) -> None:
    if truth != prediction:
        raise ValueError(
            f"Shape of ground truth and prediction should be same, got {truth} and {prediction}."
        )


def _as_uint8(mask: NDArray[np.integer], what: str) -> NDArray[np.uint8]:
    fits = mask.dtype == np.uint8 or (
        mask.dtype.kind in "iu" and bool(((mask >= 0) & (mask <= VOID)).all())
    )
    if not fits:
        raise ValueError(f"The {what} must hold integers in 0..{VOID}; its type is {mask.dtype}.")
    return mask.astype(np.uint8, copy=False)


def truth_rows(mask_gt: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Row of a count for each pixel (H*W,): its class, num_classes for void, then unknown ids."""
    row = np.arange(VOID + 1)
    row[num_classes:] = num_classes + 1
    row[VOID] = num_classes
    return row[_as_uint8(mask_gt, "ground truth")].ravel()


def known_rows(
    counts: NDArray[np.int64], num_classes: int, mask_gt: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """The rows of classes of counts by `truth_rows` (C+2, ...).

    Raises:
        UserError: if the last row counts pixels: the ground truth has unknown ids.
    """
    if counts[num_classes + 1].any():
        known = np.isin(mask_gt, [*range(num_classes), VOID])
        raise UserError(
            f"The ground truth holds class {mask_gt[~known].min()}, but there are only "
            f"{num_classes} classes (0..{num_classes - 1}) and {VOID} for void. "
            "Check the number of classes and the mask."
        )
    return counts[:num_classes]


def max_and_argmax(cam: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Maximum over the first axis and its first index (faster than `argmax` over a short axis)."""
    best = cam[0].copy()
    winner = np.zeros(best.shape, np.int64)
    for k in range(1, len(cam)):
        larger = cam[k] > best
        np.copyto(winner, k, where=larger)
        np.maximum(best, cam[k], out=best)
    return best, winner
