"""The pseudo masks of WSSS-BED (arXiv 2404.00918) from activations and saliency."""

import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID
from misc.metrics import max_and_argmax


def make_wsss_bed_mask(
    cam: NDArray[np.float32],
    class_ids: NDArray[np.integer],
    saliency: NDArray[np.float32] | None,
    *,
    act_thres: float,
    sal_thres: float = 0.2,
    ignore: bool = True,
) -> NDArray[np.uint8]:
    """Label each pixel by the first highest of [background, classes].

    The background scores 1 where the image is not salient and 0 where it is; a class scores its
    activation, or 0 where that is below `act_thres`. So a pixel is its strongest class where it is
    salient and activated, else background.

    Quirk `soft_saliency`: with `sal_thres` 0 the background scores 1 - saliency.
    Quirk `float32_scores`: all is float32, where 1 - 100/255 is not 155/255: with soft saliency
    such ties fall now to the class, now to the background, as they do in the published labels.

    Args:
        cam: (K,H,W) 0..1; higher values (rounding) count as 1.
        class_ids: (K,) class of each activation, from 1, ascending.
        saliency: (H,W) 0..1; None: the background scores `act_thres` everywhere, and nothing is
            ignored.
        act_thres: activation from which a class counts.
        sal_thres: saliency above which a pixel is salient.
        ignore: label salient pixels that came out as background 255.

    Returns:
        (H,W) class ids, 0 background, 255 ignore.

    Raises:
        ValueError: if the shapes do not fit.
    """
    shape = cam.shape[1:]
    if saliency is not None and saliency.shape != shape:
        raise ValueError(f"The activation is {shape}, but the saliency {saliency.shape}.")
    score, winner = strongest_class(cam)
    score[score < np.float32(act_thres)] = 0
    background, salient = background_score(saliency, sal_thres, shape, act_thres)
    names = np.concatenate([class_ids, [0]]).astype(np.uint8)
    mask = np.where(score > background, names[winner].reshape(shape), np.uint8(0))
    if ignore:
        mask[salient & (mask == 0)] = VOID
    return mask


def strongest_class(cam: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Highest activation (H,W), at most 1, and the first class (H,W) that has it; 0 if K is 0."""
    if len(cam) == 0:
        return np.zeros(cam.shape[1:], np.float32), np.zeros(cam.shape[1:], np.int64)
    score, winner = max_and_argmax(cam)
    if score.max(initial=0) > 1:
        return max_and_argmax(np.minimum(cam, np.float32(1)))
    return score, winner


def background_score(
    saliency: NDArray[np.float32] | None, sal_thres: float, shape: tuple[int, ...], act_thres: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What classes must exceed (H,W), and which pixels are salient (H,W)."""
    if saliency is None:
        return np.full(shape, act_thres, np.float32), np.zeros(shape, bool)
    salient = saliency > np.float32(sal_thres)
    soft = 1 - saliency if sal_thres == 0 else 1 - salient.astype(np.float32)
    return soft, salient
