"""SEPL's rule (arXiv 2305.05803): the regions of Segment Anything decide where a class ends."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID

# Source: SEPL.
REGION_SHARE = 0.5
CLASS_SHARE = 0.85


def refine_mask(
    mask: NDArray[np.uint8],
    regions: Iterable[NDArray[np.bool_]],
    *,
    region_share: float = REGION_SHARE,
    class_share: float = CLASS_SHARE,
) -> NDArray[np.uint8]:
    """A pseudo mask whose classes end where regions do.

    A region goes to a class if more than `region_share` of the region lies in the class's pixels,
    or if it covers at least `class_share` of them. The overlap of a region with a class is the
    share of the region that lies in the class; it decides what the paper leaves open:

    - A region that may go to several classes goes to that of the larger overlap.
    - A pixel in several regions that go to classes gets the class of the region of the larger
      overlap: a nested region that is all one class wins over a mixed one around it.
    - Of equal overlaps, the lower class id wins. So the order of the regions decides nothing.

    Every pixel of a region that goes to a class gets that class, also background and void. Pixels
    in no such region: those of a class become background if some region covers them, since only
    class pixels that no region covers stay; background and void stay in any case. Background and
    void are no classes; void counts in the size of a region.

    Args:
        mask: (H,W) class ids, 0 background, 255 void.
        regions: (H,W) each; they may overlap, and need not cover the image.
        region_share: of a region, 0..1.
        class_share: of a class's pixels, 0..1.

    Returns:
        (H,W) class ids.
    """
    refinement = Refinement(mask, region_share=region_share, class_share=class_share)
    for region in regions:
        refinement.add(region)
    return refinement.mask()


class Refinement:
    """`refine_mask` region by region, so that nobody has to hold all of them."""

    def __init__(
        self,
        mask: NDArray[np.uint8],
        *,
        region_share: float = REGION_SHARE,
        class_share: float = CLASS_SHARE,
    ) -> None:
        """Begin with a mask and no region; the arguments are those of `refine_mask`."""
        self._mask, self._region_share, self._class_share = mask, region_share, class_share
        self._class_pixels = np.bincount(mask.ravel(), minlength=VOID + 1)
        self._overlap = np.zeros(mask.shape)  # of the region that decides on a pixel; 0: none yet
        self._class_id = np.zeros(mask.shape, np.uint8)  # what it says
        self._is_covered = np.zeros(mask.shape, np.bool_)

    def add(self, region: NDArray[np.bool_]) -> None:
        """Take a region (H,W) into account."""
        self._is_covered |= region
        pixels = np.bincount(self._mask[region], minlength=VOID + 1)
        size, pixels[0], pixels[VOID] = pixels.sum(), 0, 0
        goes = pixels > self._region_share * size
        goes |= pixels >= np.maximum(self._class_share * self._class_pixels, 1)
        if not goes.any():
            return
        class_id = int(np.argmax(np.where(goes, pixels, 0)))  # the first of equals
        overlap = pixels[class_id] / size
        is_equal = (overlap == self._overlap) & (class_id < self._class_id)
        wins = region & ((overlap > self._overlap) | is_equal)
        self._overlap[wins] = overlap
        self._class_id[wins] = class_id

    def mask(self) -> NDArray[np.uint8]:
        """The mask (H,W) that the regions so far make."""
        is_class = (self._mask > 0) & (self._mask != VOID)
        refined = np.where(is_class & self._is_covered, 0, self._mask)
        return np.where(self._overlap > 0, self._class_id, refined).astype(np.uint8)
