"""Photographs, masks, and the sizes of pictures."""

from pathlib import Path

import numpy as np

from misc.errors import UserError
from misc.images.headers import END_BYTES, END_MARKS, size_from_header
from misc.images.palette import palette_indices
from misc.images.pictures import DECODING_ERRORS, JPEG_OR_PNG, PNG_ONLY, open_picture, open_regular


def read_image(path: Path) -> np.ndarray:
    """A photograph as uint8 RGB (H,W,3), from a JPEG or PNG whatever its name.

    Gray, CMYK, palette and 16-bit files are converted.

    Raises:
        UserError: if the file is missing or cannot be decoded.
    """
    try:
        with open_picture(path) as picture:
            picture.load()
            # A transparent colour would only make Pillow warn; alpha is no part of a photograph.
            picture.info.pop("transparency", None)
            # Pillow would cut off above 255; before its version 11, 16-bit files were of mode I.
            if picture.mode == "I" or picture.mode.startswith("I;16"):
                return np.stack([(np.asarray(picture) >> 8).astype(np.uint8)] * 3, axis=-1)
            return np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"No image {path}. Put it there or remove its id from the list.") from None
    except DECODING_ERRORS as error:
        raise UserError(f"Cannot read the image {path}: {error}. Replace the file.") from None


def read_mask(path: Path) -> np.ndarray:
    """A mask of class ids as uint8 (H,W), 255 = ignore.

    From a palette or gray PNG, whose pixels are the ids, or from an RGB PNG in the exact colours
    of VOC's palette, in which some publish masks.

    Raises:
        UserError: if the file is missing, cannot be decoded, or holds anything else.
    """
    try:
        with open_picture(path, PNG_ONLY) as picture:
            if picture.mode in ("P", "L"):
                return np.array(picture)
            if picture.mode != "RGB":
                raise UserError(
                    f"{path} has mode {picture.mode}: a mask is a palette or gray PNG of class "
                    "ids, or an RGB PNG in the colours of VOC's palette."
                )
            colours = np.array(picture)
    except FileNotFoundError:
        raise UserError(f"No mask {path}. Put it there or score another split.") from None
    except DECODING_ERRORS as error:
        raise UserError(f"Cannot read the mask {path}: {error}. Replace the file.") from None
    indices = palette_indices(colours)
    if (indices < 0).any():
        y, x = np.argwhere(indices < 0)[0].tolist()
        raise UserError(
            f"{path} has the colour {tuple(colours[y, x].tolist())} in row {y}, column {x}, which "
            "is none of VOC's palette. A mask in RGB has its exact colours alone; save it as a PNG "
            "of class ids, without resizing it or mixing it with the photograph."
        )
    return indices.astype(np.uint8)


def image_size(path: Path, formats: tuple[str, ...] = JPEG_OR_PNG) -> tuple[int, int]:
    """(H, W) of a picture from its header; nothing is decoded.

    Args:
        path: the file.
        formats: what may belong there: PNG, JPEG or both.

    Raises:
        UserError: if the file is missing, no such picture, or cut off before its end.
    """
    try:
        found = size_from_header(path, formats)
        if found is not None:
            return found
        with open_picture(path, formats) as picture:
            width, height = picture.size
            kind = picture.format
        if _is_cut_off(path, kind):
            raise UserError(f"{path} is truncated. Replace the file.")
        return height, width
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except DECODING_ERRORS as error:
        raise UserError(f"{path} is not a readable picture ({error}). Replace the file.") from None


def _is_cut_off(path: Path, kind: str | None) -> bool:
    """True if the end mark of a PNG or JPEG is missing and decoding confirms it."""
    mark = END_MARKS.get(kind or "")
    if mark is None:
        return False
    with open_regular(path) as file:
        file.seek(0, 2)
        file.seek(max(file.tell() - END_BYTES, 0))
        if mark in file.read():
            return False
    try:
        with open_picture(path) as picture:
            picture.load()
    except DECODING_ERRORS:
        return True
    return False
