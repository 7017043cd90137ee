"""Masks as COCO's run lengths (RLE): checked, then decoded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misc.errors import UserError

_BITS, _MORE, _SIGN = 5, 0x20, 0x10  # of a character of the compressed form
_MOST_CHARACTERS = 7  # of a number: 35 bits are more than any picture has pixels


def decode_run_lengths(rle: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (H,W) of a mask in COCO's run lengths.

    Args:
        rle: {"size": [H,W], "counts": run lengths down the columns, of pixels outside and inside
            the mask in turn: a list of numbers, or COCO's compressed string}.
        size: (H,W) of the image.

    Raises:
        UserError: if it is for another size, does not cover the image exactly, or is damaged.
    """
    if rle["size"] != list(size):
        raise UserError(
            f"its run lengths are for size {str(rle['size'])[:40]}, but its image is {list(size)}"
        )
    counts = rle["counts"]
    if isinstance(counts, str):
        counts = _numbers_of(counts)
    if not isinstance(counts, list) or any(type(n) is not int or n < 0 for n in counts):
        raise UserError(
            "its run lengths are neither a list of counts from 0 nor a compressed string"
        )
    if sum(counts) != size[0] * size[1]:
        raise UserError(f"its run lengths cover {sum(counts)} of {size[0] * size[1]} pixels")
    is_inside = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(is_inside, counts).reshape(size[::-1]).T)


def _numbers_of(compressed: str) -> list[int]:
    """Run lengths of the compressed form.

    Five bits per character from '0', lowest first, bit 5 for more to come, two's complement; from
    the fourth run on, what is stored is the difference to the run before the last.
    """
    if not compressed:
        return []
    characters = np.frombuffer(compressed.encode("utf-8", "surrogatepass"), np.uint8)
    codes = characters.astype(np.int64) - ord("0")
    is_last = codes & _MORE == 0
    if codes.min() < 0 or codes.max() >= 2 * _MORE or not is_last[-1]:
        raise UserError("its compressed run lengths are damaged")
    starts = np.flatnonzero(np.concatenate([[True], is_last[:-1]]))
    lengths = np.diff(starts, append=len(codes))
    if lengths.max() > _MOST_CHARACTERS:
        raise UserError("its compressed run lengths are damaged")
    shifts = _BITS * (np.arange(len(codes)) - np.repeat(starts, lengths))
    numbers = np.add.reduceat((codes & (_MORE - 1)) << shifts, starts)
    numbers -= np.where(codes[is_last] & _SIGN, 1 << _BITS * lengths, 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers.tolist()
