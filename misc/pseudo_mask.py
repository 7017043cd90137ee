"""From the scores of the random walk to the labels of a pseudo mask."""

import torch
from torch import Tensor
from torch.nn import functional as F

from misc.crf import Array

WALK_STRIDE = 4


def scores_to_regions(scores: Array, image_size: tuple[int, int], background_score: float) -> Array:
    """Label every pixel by its strongest class, or as background.

    The scores are stretched (bilinear, x4), cut to the image and divided by the maximum over all
    classes together, then argmax([background_score, scores]).
    Scores that are zero everywhere give background only; the reference divides by zero there and
    calls every pixel foreground.

    Args:
        scores: (K,h,w) float32 >= 0, finite, at stride 4, an array or a tensor on any device; K
            may be 0.
        image_size: (H,W), within 4h x 4w.
        background_score: 0..1.

    Returns:
        (H,W) uint8, 0 background, 1..K index into `scores` + 1; a tensor on the device of
        `scores` if that is one.
    """
    if isinstance(scores, Tensor):
        return _strongest(scores, image_size, background_score)
    return _strongest(torch.from_numpy(scores), image_size, background_score).numpy()


def _strongest(scores: Tensor, image_size: tuple[int, int], background_score: float) -> Tensor:
    height, width = image_size
    if len(scores) == 0:
        return torch.zeros(image_size, dtype=torch.uint8, device=scores.device)
    stretched = F.interpolate(
        scores[None], scale_factor=WALK_STRIDE, mode="bilinear", align_corners=False
    )[0, :, :height, :width]
    peak = stretched.amax()
    # Without a look at the peak, for which a GPU would have to be waited for.
    shares = stretched / torch.where(peak > 0, peak, 1)
    strongest, index = shares.max(dim=0)
    return torch.where(strongest > background_score, index + 1, 0).to(torch.uint8)
