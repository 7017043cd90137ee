"""PASCAL VOC's palette, and masks written with it."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def voc_palette(num_colours: int = 256) -> NDArray[np.uint8]:
    """The PASCAL VOC colours: bits 0, 1, 2 of the index, three at a time, from the top bit down.

    Args:
        num_colours: at most 256.

    Returns:
        (num_colours, 3) uint8 RGB; 0 is black, 255 is (224, 224, 192), VOC's "void".
    """
    index = np.arange(num_colours)
    palette = np.zeros((num_colours, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return palette.astype(np.uint8)


def palette_indices(colours: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Which of the 256 VOC colours each pixel has: the inverse of `voc_palette`.

    Args:
        colours: (H, W, 3) uint8 RGB.

    Returns:
        (H, W) 0..255, and -1 for any other colour, however near it is.
    """
    weights = np.array([1 << 16, 1 << 8, 1])
    known = voc_palette() @ weights
    order = np.argsort(known)
    codes = colours @ weights
    places = np.minimum(np.searchsorted(known, codes, sorter=order), len(known) - 1)
    found = order[places]
    return np.where(known[found] == codes, found, -1).astype(np.int16)


def write_palette_png(path_or_file: str | Path | BinaryIO, mask: NDArray[np.uint8]) -> None:
    """Write a mask as a PNG whose pixels are the indices and whose palette is VOC's.

    Args:
        path_or_file: a path or an open binary file.
        mask: (H, W) uint8 class ids, 255 ignore.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"mask is {mask.dtype} {mask.shape}: pass uint8 (H, W)")
    picture = Image.fromarray(mask)
    picture.putpalette(voc_palette().tobytes())
    picture.save(path_or_file, format="PNG")
