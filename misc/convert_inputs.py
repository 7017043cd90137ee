"""What the conversion of CAMs is told of the images: which there are, and how large they are."""

import os
from collections.abc import Collection
from pathlib import Path

from misc.errors import UserError
from misc.pictures import DECODING_ERRORS, open_picture

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG")

Size = tuple[int, int] | Path  # (H,W), or the picture that tells


def picture_size(path: Path) -> tuple[int, int]:
    """(H,W) of a picture.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        with open_picture(path) as picture:
            return picture.size[1], picture.size[0]
    except DECODING_ERRORS as error:
        raise UserError(f"{path} is no readable picture ({error}). Replace the file.") from None


def read_ids(path: Path, known: Collection[str]) -> dict[str, bool]:
    """Image ids of a list, in its order: a line, or its first word where more follows.

    Args:
        path: lines `<id>`, or `<id> c c c` as WSSS-BED has them. An id may have blanks.
        known: ids that there are; a line is taken whole if it is one of them.

    Returns:
        image id -> whether its line goes on behind the id.

    Raises:
        UserError: if the list cannot be read.
    """
    ids = {}
    for line in _lines(path, "list"):
        image_id = line if line in known else line.split()[0]
        ids[image_id] = image_id != line
    return ids


def read_sizes(path: Path) -> dict[str, Size]:
    """Image sizes from lines `<id> <height> <width>`.

    Raises:
        UserError: if the file cannot be read or has other lines.
    """
    sizes: dict[str, Size] = {}
    try:
        for line in _lines(path, "sizes"):
            image_id, height, width = line.rsplit(maxsplit=2)
            if min(int(height), int(width)) < 1:
                raise ValueError(line)
            sizes[image_id] = (int(height), int(width))
    except ValueError as error:
        raise UserError(
            f"The sizes {path} cannot be read ({error}). Its lines are: <id> <height> <width>."
        ) from None
    return sizes


def find_pictures(folder: Path) -> dict[str, Size]:
    """Image id -> the picture in `folder` that tells its size.

    Raises:
        UserError: if the folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(f"--image_root {folder} cannot be read ({error.strerror}).") from None
    return {Path(n).stem: folder / n for n in sorted(names) if n.endswith(PICTURE_SUFFIXES)}


def _lines(path: Path, what: str) -> list[str]:
    """Lines without the blanks around them; empty ones are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The {what} {path} cannot be read: {error}.") from None
    return [line.strip() for line in text.split("\n") if line.strip()]
