"""How much scores depend on the choice of images: a paired bootstrap over them."""

import numpy as np
from numpy.typing import NDArray

from misc.metrics.scores import union_of

_RESAMPLES_AT_ONCE = 100  # memory: so many times the number of images


def miou_of_counts(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean IoU over the classes that occur.

    Args:
        counts: (...,3,C) as `ConfusionMatrix.counts` gives them, added up over images.

    Returns:
        (...), 0..1; NaN where no class occurs.
    """
    iou = counts[..., 0, :] / union_of(counts)
    occurs = ~np.isnan(iou)
    number = occurs.sum(axis=-1)
    total = np.where(occurs, iou, 0).sum(axis=-1)
    return np.where(number == 0, np.nan, total / np.maximum(number, 1))


def resampled_mious(counts: NDArray[np.integer], resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean IoU of several sets of masks on images drawn with replacement, the same for all sets.

    The score of a resample is that of its confusion matrix summed over the drawn images, not a mean
    of scores of images. A class that no drawn image shows is left out of it.

    Args:
        counts: (A,N,3,C), of A sets of masks and N images, as `ConfusionMatrix.counts` gives them.
        resamples: R, how often N of the N images are drawn.
        seed: of the draws.

    Returns:
        (A,R), 0..1. Differences of its rows are paired.
    """
    num_sets, num_images = counts.shape[:2]
    rng = np.random.default_rng(seed)
    # Products of floats are exact: no count of pixels comes near 2^53.
    flat = counts.reshape(num_sets, num_images, -1).astype(np.float64)
    found = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        number = min(_RESAMPLES_AT_ONCE, resamples - start)
        drawn = rng.integers(num_images, size=(number, num_images))
        drawn += num_images * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * num_images)
        totals = times.reshape(number, num_images).astype(np.float64) @ flat
        found.append(miou_of_counts(totals.reshape(num_sets, number, *counts.shape[2:])))
    return np.concatenate(found, axis=1)


def interval(values: NDArray[np.floating], share: float = 0.95) -> tuple[float, float]:
    """The middle `share` of resampled values (R,): the percentile interval."""
    low, high = np.nanquantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
