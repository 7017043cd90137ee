"""The size of a PNG or JPEG from its first bytes, where these leave no doubt.

A dataset's start-up looks at every file: this takes a tenth of what opening it with Pillow does.
"""

import zlib
from pathlib import Path

from PIL import Image

from misc.images.pictures import JPEG_OR_PNG, open_regular

END_BYTES = 4096  # where the end mark is looked for: other programs add bytes after it
_HEAD_BYTES = 4096
_PNG_START = b"\x89PNG\r\n\x1a\n"
_FRAMES = frozenset((0xC0, 0xC1, 0xC2))  # the kinds of JPEG that are in use
_SCAN = 0xDA
END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}


def size_from_header(
    path: str | Path, formats: tuple[str, ...] = JPEG_OR_PNG
) -> tuple[int, int] | None:
    """(H, W) of a PNG or JPEG that is sound as far as its header and its end mark tell.

    Args:
        path: the file.
        formats: PNG, JPEG or both.

    Returns:
        None where a closer look is needed: another format, a header that is unusual, damaged
        or longer than a few kB, a missing end mark, more pixels than Pillow takes for safe.

    Raises:
        OSError: if the file cannot be opened or is not a regular file.
    """
    with open_regular(path, buffering=0) as file:
        head = file.read(_HEAD_BYTES)
        length = file.seek(0, 2)
        if length > _HEAD_BYTES:
            file.seek(length - END_BYTES)
            end = file.read(END_BYTES)
        else:
            end = head
    if head.startswith(_PNG_START) and "PNG" in formats:
        size, mark = _png_size(head), END_MARKS["PNG"]
    elif head.startswith(b"\xff\xd8") and "JPEG" in formats:
        size, mark = _jpeg_size(head), END_MARKS["JPEG"]
    else:
        return None
    if size is None or mark not in end:
        return None
    limit = Image.MAX_IMAGE_PIXELS
    return size if limit is None or size[0] * size[1] <= limit else None


def _png_size(head: bytes) -> tuple[int, int] | None:
    """(H, W) if all chunks before the pixels are there and have their checksums."""
    at, size = len(_PNG_START), None
    while at + 12 <= len(head):
        kind, data = head[at + 4 : at + 8], at + 8
        if kind == b"IDAT":
            return size
        behind = data + int.from_bytes(head[at : at + 4], "big")
        if zlib.crc32(head[at + 4 : behind]) != int.from_bytes(head[behind : behind + 4], "big"):
            return None
        if kind == b"IHDR":
            width, height = (int.from_bytes(head[data + i : data + i + 4], "big") for i in (0, 4))
            size = (height, width) if width and height else None
        at = behind + 4
    return None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """(H, W) if all segments before the pixels are there and one of them is a frame."""
    at, size = 2, None
    while at + 9 <= len(head) and head[at] == 0xFF:
        kind = head[at + 1]
        if kind == _SCAN:
            return size
        if kind in _FRAMES:
            height, width = (int.from_bytes(head[at + i : at + i + 2], "big") for i in (5, 7))
            usual = head[at + 4] == 8 and size is None and width > 0 and height > 0
            size = (height, width) if usual else None
            if not usual:
                return None
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None
