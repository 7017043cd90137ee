"""How good saliency maps are by themselves: MAE, F-beta and IoU against the foreground."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID

LEVELS = 256
HALF = 128  # the first level of 255 that is above .5
BETA_SQUARED = 0.3  # Achanta et al. 2009, and saliency papers since


def _zeros() -> NDArray[np.float64]:
    return np.zeros(LEVELS)


@dataclass
class SaliencyScores:
    """Sums over images of what MAE, F-beta and IoU need; the truth is any class, void left out.

    A map is cut at each of the 256 levels of 8 bits (finer maps are rounded to them): a pixel is
    salient from the level on. Index 0 of the arrays is level 0: everything is salient.
    """

    images: int = 0
    images_with_foreground: int = 0
    absolute_errors: float = 0.0
    precision: NDArray[np.float64] = field(default_factory=_zeros)
    recall: NDArray[np.float64] = field(default_factory=_zeros)
    hits: NDArray[np.float64] = field(default_factory=_zeros)
    unions: NDArray[np.float64] = field(default_factory=_zeros)

    def add(self, mask_gt: NDArray[np.uint8], saliency: NDArray[np.float32]) -> None:
        """Count one image.

        Args:
            mask_gt: (H,W) class ids, 0 background, 255 void.
            saliency: (H,W) 0..1.

        Raises:
            ValueError: if they differ in size.
        """
        if mask_gt.shape != saliency.shape:
            raise ValueError(f"The mask is {mask_gt.shape}, but the saliency {saliency.shape}.")
        scored = mask_gt != VOID
        foreground, values = mask_gt[scored] > 0, saliency[scored]
        if not values.size:
            return
        self.images += 1
        self.absolute_errors += float(np.abs(values - foreground).mean(dtype=np.float64))
        level = np.rint(values * np.float32(LEVELS - 1)).astype(np.int64)
        salient = _from_level_on(level)
        hits = _from_level_on(level[foreground])
        total = foreground.sum()
        self.hits += hits
        self.unions += total + salient - hits
        if total:
            self.images_with_foreground += 1
            self.precision += hits / np.maximum(salient, 1)
            self.recall += hits / total

    def merge(self, other: "SaliencyScores") -> None:
        """Add the sums of `other`."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def measures(self) -> dict[str, float]:
        """The scores; NaN where there was nothing to score.

        Returns:
            mae: mean over images of the mean absolute error. max_f: highest F-beta (beta^2 = .3)
            of the mean precision and recall over images with foreground, max_f_level its level of
            255. iou_half: intersection over union, over all pixels, of what is above .5; max_iou
            the highest over levels, max_iou_level its level.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = self.precision / self.images_with_foreground
            recall = self.recall / self.images_with_foreground
            weighted = BETA_SQUARED * precision + recall
            f_beta = np.where(weighted > 0, (1 + BETA_SQUARED) * precision * recall / weighted, 0)
            iou = self.hits / self.unions
            mae = np.float64(self.absolute_errors) / self.images
        if not self.images_with_foreground:
            f_beta, iou = np.full(LEVELS, np.nan), np.full(LEVELS, np.nan)
        return {
            "mae": float(mae),
            "max_f": float(f_beta.max()),
            "max_f_level": int(f_beta.argmax()),
            "iou_half": float(iou[HALF]),
            "max_iou": float(iou.max()),
            "max_iou_level": int(iou.argmax()),
        }


def _from_level_on(level: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of pixels (256,) at each level or above."""
    return np.bincount(level, minlength=LEVELS)[::-1].cumsum()[::-1]
