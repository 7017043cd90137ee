"""Boundary labels: what the boundary network learns, made from CAMs and saliency.

Rules and numbers: SBE (IEEE SPL 2024) and BES (ECCV 2020); step/README.md tells them in words.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from misc.codes import BoundaryLabel
from misc.crf import SEED_CRF, Array, DenseCrf
from misc.errors import UserError
from misc.saliency import as_exact_levels, normalize_by_max, sobel_magnitude

UNSURE = 255


def make_confident_regions(
    image: NDArray[np.uint8] | Tensor,
    cam: Array,
    conf_fg_thres: float = 0.30,
    conf_bg_thres: float = 0.07,
    *,
    crf: DenseCrf | None = None,
) -> Array:
    """Pixels whose class two labellings of the CAMs, strict and lenient, agree upon.

    Each labelling is argmax([threshold, cam]), ties to the lower index, smoothed by a dense CRF.
    The strict one (`conf_fg_thres`) says what is foreground; background is what is background in
    both; the rest is unsure.

    Args:
        image: (H, W, 3) uint8 RGB.
        cam: (K, H, W), 0..1, an array or a tensor; K = 0 (no class in the image) gives all
            background.
        conf_fg_thres: background score of the strict labelling.
        conf_bg_thres: background score of the lenient labelling.
        crf: dense CRF already built for `image`, else one is built with `SEED_CRF`.

    Returns:
        (H, W) uint8: 0 background, 1..K index into `cam` + 1, 255 (`UNSURE`); a tensor on the
        CRF's device if `cam` is a tensor.

    Raises:
        ValueError: `cam` is not of the image's size or has more than 254 classes.
    """
    size = tuple(image.shape[:2])
    if cam.ndim != 3 or tuple(cam.shape[1:]) != size:
        raise ValueError(f"CAM of shape {tuple(cam.shape)} for an image of {size}: pass (K, H, W)")
    if len(cam) >= UNSURE:
        raise ValueError(
            f"{len(cam)} classes in one image, but at most {UNSURE - 1} fit into uint8"
        )
    # A copy of an array, since torch warns of sharing memory that numpy holds read-only.
    scores = cam if isinstance(cam, Tensor) else torch.tensor(cam)
    regions = torch.zeros(size, dtype=torch.uint8, device=scores.device)
    if len(cam):
        crf = DenseCrf(image, SEED_CRF) if crf is None else crf
        # In float32, as thresholds are compared in the reference.
        best_score, best = scores.float().max(dim=0)
        labellings = [
            torch.where(best_score > threshold, best + 1, 0)
            for threshold in (conf_fg_thres, conf_bg_thres)
        ]
        strict, lenient = crf.from_labels_many(labellings, len(cam) + 1)
        regions = torch.where(strict > 0, strict, UNSURE).to(torch.uint8)
        regions.masked_fill_((strict == 0) & (lenient == 0), BoundaryLabel.BACKGROUND)
    return regions if isinstance(cam, Tensor) else regions.cpu().numpy()


def regions_to_mask(
    regions: NDArray[np.uint8], class_ids: NDArray[np.integer[Any]]
) -> NDArray[np.uint8]:
    """Confident regions with class ids (1-based) in place of CAM indices, as `cam_vis` shows them.

    Args:
        regions: (H, W) from `make_confident_regions`.
        class_ids: (K,) ids 1..254 in the order of the CAMs.

    Returns:
        (H, W): 0 background, class id, 255 unsure.
    """
    table = np.zeros(256, np.uint8)
    table[1 : len(class_ids) + 1] = class_ids
    table[UNSURE] = UNSURE
    return table[regions]


def mask_to_regions(
    mask: NDArray[np.uint8], class_ids: NDArray[np.integer[Any]]
) -> NDArray[np.uint8]:
    """The inverse of `regions_to_mask`, for confident regions read from their picture.

    Args:
        mask: (H, W): 0 background, class ids, 255 unsure.
        class_ids: (K,) ids 1..254 in the order of the CAMs.

    Returns:
        (H, W): 0 background, 1..K, 255 unsure.

    Raises:
        UserError: `mask` holds a class that is not in `class_ids`.
    """
    strangers = sorted({*np.unique(mask).tolist()} - {0, UNSURE, *class_ids.tolist()})
    if strangers:
        raise UserError(
            f"Confident regions name class {strangers[0]}, but the CAMs have "
            f"{class_ids.tolist()}. Pass --overwrite to make the regions anew."
        )
    table = np.zeros(256, np.uint8)
    table[class_ids] = np.arange(1, len(class_ids) + 1)
    table[UNSURE] = UNSURE
    return table[mask]


def window_proportions(
    regions: NDArray[np.uint8], num_classes: int, window_size: int = 13
) -> NDArray[np.float32]:
    """Share of background and of each class in the window around every pixel.

    Quirk `unsure_dilutes`: unsure pixels belong to no share but count as part of the window;
    pixels beyond the picture do not count. Sums are whole numbers and each share is one float32
    division, so shares equal the reference's float32 average pooling bit by bit.

    Args:
        regions: (H, W), 0 background, 1..num_classes, anything else unsure.
        num_classes: K, classes present in this image.
        window_size: side of the window in pixels, odd.

    Returns:
        (K+1, H, W), 0..1.

    Raises:
        UserError: `window_size` is even or not positive.
    """
    if window_size < 1 or window_size % 2 == 0:
        raise UserError(f"--window_size is {window_size}: it must be an odd number, such as 13")
    area = _box_sum(np.ones(regions.shape), window_size).astype(np.float32)
    shares = np.empty((num_classes + 1, *regions.shape), np.float32)
    for index, share in enumerate(shares):
        np.divide(_box_sum(regions == index, window_size).astype(np.float32), area, out=share)
    return shares


def _box_sum(values: NDArray[Any], window_size: int) -> NDArray[np.int32]:
    """Sum over the window around every pixel, (H, W); nothing is added beyond the picture."""
    half = window_size // 2
    integral = np.pad(values.astype(np.int32), (half + 1, half))
    integral = integral.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    rows = integral[window_size:] - integral[:-window_size]
    return rows[:, window_size:] - rows[:, :-window_size]


def make_boundary_label(
    regions: NDArray[np.uint8],
    num_classes: int,
    saliency: NDArray[np.floating[Any]] | None,
    *,
    window_size: int = 13,
    theta_scale: float = 0.3,
    theta_diff: float = 0.1,
    salbound_thres: float = 0.5,
    sal_bg_thres: float = 0.0,
) -> NDArray[np.uint8]:
    """Boundary label of one image from its confident regions and its saliency.

    Quirk `later_wins`: the codes are written one over the other in a fixed order, so a saliency
    edge beats a class boundary, which beats foreground, which beats saliency's background.
    Quirk `double_theta`: the insides of regions need more than 2 x theta_scale of the window and a
    lead of at least 2 x theta_diff. Quirk `strict_edge`: an edge must exceed `salbound_thres`.

    Args:
        regions: (H, W), 0 background, 1..num_classes, 255 unsure.
        num_classes: K, classes present in this image, 0 or more.
        saliency: (H, W), 0..1, divided here by its own maximum; None makes the BES labels.
        window_size: side of the window in pixels, odd.
        theta_scale: share of the window that both sides of a boundary must exceed.
        theta_diff: by how much those shares may differ.
        salbound_thres: Sobel magnitude (0..4 across a straight edge) above which an edge counts.
        sal_bg_thres: background where the normalised saliency is at most this.

    Returns:
        (H, W) codes of `BoundaryLabel`.

    Raises:
        ValueError: saliency and regions differ in size.
        UserError: `window_size` is even or not positive.
    """
    if saliency is not None and saliency.shape != regions.shape:
        raise ValueError(f"saliency is {saliency.shape} but the image is {regions.shape}")
    background, *classes = window_proportions(regions, num_classes, window_size)
    first, second = _two_largest(classes, regions.shape)
    codes = np.full(regions.shape, BoundaryLabel.IGNORE, np.uint8)
    if saliency is not None:
        saliency, shows_no_object = find_no_object(saliency, sal_bg_thres)
        codes[shows_no_object] = BoundaryLabel.BACKGROUND
    # The shares stay float32 and so do their differences: ties such as 0.2 fall as the reference's.
    inside, lead = 2 * theta_scale, 2 * theta_diff
    codes[(background > inside) & (background - first >= lead)] = BoundaryLabel.BACKGROUND
    codes[(first > inside) & (first - background >= lead)] = BoundaryLabel.FOREGROUND
    around = np.minimum(first, background) > theta_scale
    around &= np.abs(first - background) < theta_diff
    codes[around] = BoundaryLabel.AROUND_FOREGROUND
    between = (second > theta_scale) & (first - second < theta_diff)
    codes[between] = BoundaryLabel.BETWEEN_CLASSES
    if saliency is not None:
        codes[sobel_magnitude(saliency) > salbound_thres] = BoundaryLabel.SALIENCY_EDGE
    return codes


def find_no_object(
    saliency: NDArray[np.floating[Any]], sal_bg_thres: float
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """A saliency map (H, W) divided by its maximum, and where that is at most `sal_bg_thres`.

    There it shows no object: neither the labels nor the loss take it for one.
    """
    saliency = normalize_by_max(as_exact_levels(saliency))
    return saliency, saliency <= sal_bg_thres


def _two_largest(
    shares: list[NDArray[np.float32]], shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Largest and second largest share at every pixel; 0 where there is no such class."""
    first, second = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for share in shares:
        np.maximum(second, np.minimum(first, share), out=second)
        np.maximum(first, share, out=first)
    return first, second
