"""From the scores of the random walk to the labels of a pseudo mask."""

import torch
from torch import Tensor
from torch.nn import functional as F

from misc.crf import Array

WALK_STRIDE = 4


def enlarge_scores(scores: Array, image_size: tuple[int, int]) -> Array:
    """Scores of the walk at full size, the highest of all classes together 1.

    They are stretched (bilinear, x4), cut to the image and divided by one maximum for all classes,
    so that a class that is weak everywhere stays so.

    Args:
        scores: (K,h,w) float32 >= 0, finite, at stride 4, an array or a tensor on any device; K
            may be 0.
        image_size: (H,W), within 4h x 4w.

    Returns:
        (K,H,W) float32, 0..1; all 0 where all scores are. A tensor if `scores` is one.
    """
    if not isinstance(scores, Tensor):
        return _enlarged(torch.from_numpy(scores), image_size).numpy()
    return _enlarged(scores, image_size)


def _enlarged(scores: Tensor, image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    if len(scores) == 0:
        return scores.new_zeros((0, height, width))
    stretched = F.interpolate(
        scores[None], scale_factor=WALK_STRIDE, mode="bilinear", align_corners=False
    )[0, :, :height, :width]
    peak = stretched.amax()
    # Without a look at the peak, for which a GPU would have to be waited for.
    return stretched / torch.where(peak > 0, peak, 1)


def regions_above(scores: Array, background_score: float) -> Array:
    """Label every pixel by its strongest class, or as background: argmax([background, scores]).

    Args:
        scores: (K,H,W) float32, 0..1; K may be 0.
        background_score: 0..1; a class must exceed it.

    Returns:
        (H,W) uint8, 0 background, 1..K index into `scores` + 1; a tensor if `scores` is one.
    """
    if not isinstance(scores, Tensor):
        return _above(torch.from_numpy(scores), background_score).numpy()
    return _above(scores, background_score)


def _above(scores: Tensor, background_score: float) -> Tensor:
    if len(scores) == 0:
        return torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    strongest, index = scores.max(dim=0)
    return torch.where(strongest > background_score, index + 1, 0).to(torch.uint8)


def scores_to_regions(scores: Array, image_size: tuple[int, int], background_score: float) -> Array:
    """SBE's labels of the walk's scores: `regions_above` of `enlarge_scores`.

    Scores that are zero everywhere give background only; the reference divides by zero there and
    calls every pixel foreground.

    Args:
        scores: (K,h,w) float32 >= 0 at stride 4, K may be 0.
        image_size: (H,W), within 4h x 4w.
        background_score: 0..1.

    Returns:
        (H,W) uint8, 0 background, 1..K index into `scores` + 1.
    """
    return regions_above(enlarge_scores(scores, image_size), background_score)
