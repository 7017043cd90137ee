"""How well outlines meet: the boundary F-measure of each class."""

import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID

BOUNDARY_TOLERANCE = 0.0075  # of the image's diagonal; Csurka et al. 2013
VOID_BAND = 3.0  # pixels: half of the band of void that VOC draws along outlines, and a bit


def boundary_f(
    mask_gt: NDArray[np.uint8],
    pred: NDArray[np.uint8],
    num_classes: int,
    tolerance: float = BOUNDARY_TOLERANCE,
) -> NDArray[np.float64]:
    """The boundary F-measure of each class in one image.

    A boundary pixel of a class has that class, and another label at one of its four neighbours; the
    image's rim is no boundary. Precision is the share of the prediction's boundary pixels with one
    of the truth within the tolerance, recall the share of the truth's with one of the prediction,
    both of the same class, and F = 2PR / (P + R). (Csurka et al., "What is a good evaluation
    measure for semantic segmentation?", BMVC 2013: a mean over images for each class, then over
    classes.)

    Pixels of 255 take the class of the nearest other pixel first, in the truth and in the
    prediction: so the outline runs in the middle of VOC's band of void. Boundary pixels deeper in
    the truth's void than `VOID_BAND` do not count.

    Args:
        mask_gt: (H,W) class ids, 255 void.
        pred: (H,W) class ids, 255 ignored.
        num_classes: C, background included.
        tolerance: distance that still is a match, as a share of the image's diagonal.

    Returns:
        (C,) 0..1; 0 where one of both has no boundary, NaN where neither has.

    Raises:
        ValueError: if the shapes differ.
    """
    if mask_gt.shape != pred.shape:
        raise ValueError(f"Shapes differ: {mask_gt.shape} and {pred.shape}.")
    scores = np.full(num_classes, np.nan)
    truth, depth = _filled(mask_gt)
    pred, _ = _filled(pred)
    counts = depth <= VOID_BAND
    of_truth, of_pred = counts & _is_boundary(truth), counts & _is_boundary(pred)
    reach = tolerance * float(np.hypot(*truth.shape))
    for class_id in np.union1d(truth[of_truth], pred[of_pred]).tolist():
        if class_id < num_classes:
            expected = np.argwhere(of_truth & (truth == class_id))
            found = np.argwhere(of_pred & (pred == class_id))
            precision, recall = _share(found, expected, reach), _share(expected, found, reach)
            total = precision + recall
            scores[class_id] = 2 * precision * recall / total if total else 0.0
    return scores


def _filled(labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Labels (H,W) with void filled from the nearest others, if any; how deep in void each was."""
    # Loaded here: it takes longer than all else that scores need.
    from scipy.ndimage import distance_transform_edt

    is_void = labels == VOID
    if not is_void.any() or is_void.all():
        return labels, np.where(is_void, np.inf, 0.0)
    depth, nearest = distance_transform_edt(is_void, return_indices=True)
    return labels[tuple(nearest)], depth


def _is_boundary(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels (H,W) with another label above, below, left or right of them."""
    found = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= right
    found[:, :-1] |= right
    return found


def _share(points: NDArray[np.intp], others: NDArray[np.intp], reach: float) -> float:
    """Share of `points` (N,2) with one of `others` (M,2) not farther than `reach`."""
    from scipy.spatial import cKDTree

    if not len(points) or not len(others):
        return 0.0
    distance, _ = cKDTree(others).query(points)
    return float((distance <= reach).mean())
