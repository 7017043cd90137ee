"""What only decoding a dataset's pictures shows: damage, unknown classes, what is worth knowing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID
from misc.errors import UserError, some_images
from misc.images import DECODING_ERRORS, open_picture, read_image, read_mask
from misc.saliency import read_saliency

ROTATED, CUT_OFF, BLACK = "rotated", "cut off", "black"
EXIF_ORIENTATION = 0x0112
FILL, FILLED = 128, 8  # what a JPEG decoder puts for blocks that are not there; their side


def look_at_photograph(path: Path) -> str:
    """Decode a photograph.

    Returns:
        what is odd about it, joined by commas: ROTATED if viewers show it rotated or mirrored, as
        its EXIF data say; CUT_OFF if it ends in the gray of blocks that a JPEG lacks.

    Raises:
        UserError: if it cannot be decoded.
    """
    image = read_image(path)
    try:
        with open_picture(path) as picture:
            is_rotated = picture.getexif().get(EXIF_ORIENTATION, 1) != 1
            is_jpeg = picture.format == "JPEG"
    except DECODING_ERRORS:  # of the EXIF data: the photograph itself is sound
        return ""
    is_cut_off = is_jpeg and bool((image[-FILLED:, -FILLED:] == FILL).all())
    return ",".join([ROTATED] * is_rotated + [CUT_OFF] * is_cut_off)


def look_at_saliency(path: Path) -> str:
    """Decode a saliency map.

    Returns:
        BLACK if nothing in it is salient, else "".

    Raises:
        UserError: if it cannot be decoded.
    """
    return "" if read_saliency(path).any() else BLACK


def read_class_mask(path: Path, num_classes: int) -> NDArray[np.uint8]:
    """A mask (H,W) whose ids are classes of the dataset, 0 or 255.

    Raises:
        UserError: if it cannot be read or shows another class.
    """
    mask = read_mask(path)
    unknown = mask[(mask > num_classes) & (mask != VOID)]
    if unknown.size:
        raise UserError(
            f"{path} shows class {unknown.min()}, but there are {num_classes}. Correct it, or list "
            "the classes of your dataset in its classes.txt."
        )
    return mask


def look_at_mask(path: Path, num_classes: int) -> str:
    """Decode a mask.

    Raises:
        UserError: if it cannot be read or shows another class than 1 to `num_classes`.
    """
    read_class_mask(path, num_classes)
    return ""


def notes_on_photographs(looks: Mapping[str, str]) -> list[str]:
    """What to say of photographs, given image id -> what `look_at_photograph` said of it."""
    told = []
    for word, note in ((ROTATED, _rotated_note), (CUT_OFF, _cut_off_note)):
        if odd := [image_id for image_id, look in looks.items() if word in look]:
            told.append(note(odd, len(looks)))
    return told


def _rotated_note(ids: Sequence[str], number: int) -> str:
    return (
        f"Viewers rotate {some_images(ids)} of {number}, as the EXIF data say. No step does: "
        "saliency maps and masks must be as the pixels are stored."
    )


def _cut_off_note(ids: Sequence[str], number: int) -> str:
    return (
        f"{some_images(ids)} of {number} end in the gray that stands for missing parts of a JPEG. "
        "Look at them, and replace those that are cut off."
    )
