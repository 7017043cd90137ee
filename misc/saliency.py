"""Saliency maps: read any PNG mode, write, normalise, find their edges."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from misc.errors import UserError
from misc.images import DECODING_ERRORS, open_picture

# Every PNG depth is a whole number of steps of 1/65535: 1 bit, 8 bits (65535 = 257 * 255), 16 bits.
PNG_STEPS = 65535
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I")
_COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")
_REMEDY = (
    "Replace the file with a valid one (PNG of the image's size), or run with --saliency none."
)


def read_saliency(path: str | Path) -> NDArray[np.float32]:
    """Read a saliency map, PNG of any mode or JPEG, as it stands, not divided by its maximum.

    Gray is taken as it is, at 1, 8 or 16 bits. Colours (RGB, palette) become gray by the ITU-R 601
    luma, rounded to 8 bits (Pillow's "L"), which leaves equal channels unchanged. Alpha and
    transparent colours are ignored.

    Args:
        path: image file of the size of its photograph.

    Returns:
        (H, W), 0 (not salient) to 1 (white).

    Raises:
        UserError: the file is missing, cut short, no PNG or JPEG, or of a mode without a known
            range.
    """
    try:
        with open_picture(path) as image:
            gray, white = _gray_levels(image)
    except FileNotFoundError as error:
        raise UserError(
            f"No saliency map: {path}. Put it there, pass --sal_root, or run with --saliency none."
        ) from error
    except DECODING_ERRORS as error:
        raise UserError(f"Cannot read the saliency map {path}: {error}. {_REMEDY}") from error
    return (gray / white).astype(np.float32)


def _gray_levels(image: Image.Image) -> tuple[NDArray[np.float64], int]:
    """The picture's gray levels, (H, W) whole numbers, and the level of white."""
    if image.mode == "1":
        return np.asarray(image, dtype=np.float64), 1
    if image.mode in _SIXTEEN_BIT_MODES:
        levels = np.asarray(image, dtype=np.float64)
        if levels.size and not 0 <= levels.min() <= levels.max() <= PNG_STEPS:
            raise ValueError(f"its values are not 16-bit: {levels.min():g} to {levels.max():g}")
        return levels, PNG_STEPS
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel(0), dtype=np.float64), 255
    if image.mode in _COLOUR_MODES:
        image.load()
        # A transparent colour would only make Pillow warn; alpha carries no saliency.
        image.info.pop("transparency", None)
        return np.asarray(image.convert("RGB").convert("L"), dtype=np.float64), 255
    raise ValueError(f"its pixel mode {image.mode} has no known value for white")


def write_saliency(
    path_or_file: str | Path | BinaryIO, saliency: NDArray[np.floating[Any]]
) -> None:
    """Write a saliency map as an 8-bit gray PNG.

    Its values are cut off to whole levels, as saliency networks' own programs do: black is below
    1/255.

    Args:
        path_or_file: a path or an open binary file.
        saliency: (H, W), 0..1; it is not stretched.
    """
    levels = (np.clip(saliency, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(levels).save(path_or_file, format="PNG")


def as_exact_levels(saliency: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Saliency in float64 with the float32 rounding of values read from a PNG undone.

    The reference divides a PNG's whole levels by their maximum in float64. Done on these levels,
    that division gives the same bits, so a pixel of 51/255 meets a threshold of 0.2 exactly.

    Args:
        saliency: (H, W), 0..1.

    Returns:
        (H, W) for `normalize_by_max`: whole levels 0..`PNG_STEPS` where all values lie on that
        grid, else the values as they are.
    """
    steps = saliency.astype(np.float64) * PNG_STEPS
    levels = np.rint(steps)
    # float32 is exact to 2**-24 of the value, which is 0.004 levels at white.
    on_grid = bool((np.abs(steps - levels) < 0.01).all())
    return levels if on_grid else saliency.astype(np.float64)


def normalize_by_max(saliency: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Divide a saliency map by its own maximum; an all-black map stays black.

    (The reference divides 0 by 0 there, and the NaN then silently leaves no codes from saliency.)

    Args:
        saliency: (H, W), not negative, any scale.

    Returns:
        (H, W), 0..1, of the same dtype.
    """
    peak = saliency.max(initial=0)
    return saliency / peak if peak > 0 else saliency.copy()


def sobel_magnitude(saliency: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Length of the Sobel gradient, unnormalised: a step from 0 to 1 gives 4.

    Quirk `sobel_without_padding`: the two 3x3 kernels see no padding, and the (H-2, W-2) result is
    then stretched bilinearly over the whole picture, so edges lie up to one pixel off near its rim.
    All is in float64.

    Args:
        saliency: (H, W), 0..1.

    Returns:
        (H, W) float64, 0 or more. A picture with a side under 3 has no gradient: zeros.
    """
    height, width = saliency.shape
    if height < 3 or width < 3:
        return np.zeros((height, width))
    s = saliency.astype(np.float64, copy=False)
    smooth_y = s[:-2] + 2 * s[1:-1] + s[2:]
    smooth_x = s[:, :-2] + 2 * s[:, 1:-1] + s[:, 2:]
    gradient_x = smooth_y[:, 2:] - smooth_y[:, :-2]
    gradient_y = smooth_x[2:] - smooth_x[:-2]
    magnitude = np.sqrt(gradient_x * gradient_x + gradient_y * gradient_y)
    return _stretch_axis(_stretch_axis(magnitude, width, axis=1), height, axis=0)


def _stretch_axis(values: NDArray[np.float64], size: int, axis: int) -> NDArray[np.float64]:
    """Bilinear resize of one axis, pixel centres aligned (torch's `align_corners=False`)."""
    old = values.shape[axis]
    position = np.maximum((np.arange(size) + 0.5) * (old / size) - 0.5, 0)
    lower = np.minimum(position.astype(np.intp), old - 1)
    upper = np.minimum(lower + 1, old - 1)
    weight = position - lower
    weight = weight if axis == 1 else weight[:, None]
    return values.take(lower, axis) * (1 - weight) + values.take(upper, axis) * weight
