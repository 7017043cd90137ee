"""Class masks from COCO's annotations: polygons, run lengths, crowds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from misc.errors import UserError
from misc.run_lengths import decode_run_lengths

DRAWING_ORDER = (
    "crowd regions first, then every other annotation in the order of the file, later over earlier"
)
CROWD_VALUES = {"ignore": 255, "background": 0}
# Pixels that an outline may measure. pycocotools needs memory by its length: a coordinate of 1e9 by
# mistake would take all there is.
MAX_OUTLINE = 1_000_000
_NUMBERS_OF_A_TRIANGLE = 6


class Drawing(NamedTuple):
    """A drawn image.

    Attributes:
        mask: class ids (H,W) uint8, 0 background, 255 ignored.
        class_ids: classes from 1, ascending, that an annotation, crowd or not, has a pixel of;
            later ones may hide them in the mask.
        num_crowds: crowd annotations.
        without_pixels: ids of the annotations of no area or outside the image.
    """

    mask: NDArray[np.uint8]
    class_ids: tuple[int, ...]
    num_crowds: int
    without_pixels: list[Any]


def draw(
    annotations: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    class_ids: Mapping[int, int],
    crowd: str,
) -> Drawing:
    """Draw the annotations of one image as `DRAWING_ORDER` says.

    Args:
        annotations: COCO's objects, in the order of the file.
        size: (H,W) of the image.
        class_ids: category id -> class id from 1.
        crowd: a key of CROWD_VALUES: what a pixel of a crowd region alone becomes.

    Raises:
        UserError: naming an annotation whose segmentation cannot be drawn.
    """
    mask = np.zeros(size, np.uint8)
    shown, without_pixels = set(), []
    crowds = [annotation for annotation in annotations if annotation.get("iscrowd")]
    others = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    for annotation in (*crowds, *others):
        try:
            pixels = segmented_pixels(annotation.get("segmentation"), size)
        except UserError as error:
            raise UserError(f"annotation {annotation.get('id')}: {error}") from None
        if not pixels.any():
            without_pixels.append(annotation.get("id"))
            continue
        class_id = class_ids[annotation["category_id"]]
        shown.add(class_id)
        mask[pixels] = CROWD_VALUES[crowd] if annotation.get("iscrowd") else class_id
    return Drawing(mask, tuple(sorted(shown)), len(crowds), without_pixels)


def segmented_pixels(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H,W) of a segmentation, as pycocotools decodes it.

    Args:
        segmentation: a list of polygons [x, y, x, y, ...], or {"size": [H,W], "counts": ...} with
            run lengths down the columns, plain or compressed. A polygon of fewer than three
            corners has no area (pycocotools would take two corners for a box).
        size: (H,W) of the image.

    Raises:
        UserError: if it is of no such kind, or its size or numbers cannot be.
    """
    if isinstance(segmentation, list):
        polygons = [_checked_polygon(polygon) for polygon in segmentation]
        polygons = [p for p in polygons if len(p) >= _NUMBERS_OF_A_TRIANGLE]
        if not polygons:
            return np.zeros(size, np.bool_)
        rle = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
        return coco_mask.decode(rle).astype(np.bool_)
    if isinstance(segmentation, dict) and {"size", "counts"} <= segmentation.keys():
        return decode_run_lengths(segmentation, size)
    raise UserError("its segmentation is neither polygons nor run lengths")


def _checked_polygon(polygon: Any) -> list[float]:
    numbers = isinstance(polygon, list) and all(type(x) in (int, float) for x in polygon)
    if not numbers or len(polygon) % 2:
        raise UserError("a polygon is not a list of x, y, x, y, ...")
    corners = np.array(polygon, np.float64).reshape(-1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        outline = np.abs(np.diff(corners, axis=0, append=corners[:1])).sum()
        reach = np.abs(corners).max(initial=0)
    if not max(outline, reach) <= MAX_OUTLINE:  # NaN is neither
        raise UserError(f"a polygon is longer than {MAX_OUTLINE} pixels or has a NaN")
    return polygon
