"""The images of a conversion of CAMs: which there are, and their sizes."""

import os
from collections.abc import Collection
from pathlib import Path

from misc.errors import UserError
from misc.images import open_regular

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG")

SizeOrPicture = tuple[int, int] | Path  # (H,W), or the picture that tells


def read_ids(path: Path, known: Collection[str]) -> dict[str, bool]:
    """Image ids of a list, in its order: a line, or its first word where more follows.

    Args:
        path: lines `<id>`, or `<id> c c c` as WSSS-BED has them. An id may have spaces.
        known: ids that there are; a line is taken whole if it is one of them.

    Returns:
        image id -> whether its line continues after the id.

    Raises:
        UserError: if the list cannot be read.
    """
    ids = {}
    for line in _lines(path, "list"):
        image_id = line if line in known else line.split()[0]
        ids[image_id] = image_id != line
    return ids


def read_sizes(path: Path) -> dict[str, SizeOrPicture]:
    """Image sizes from lines `<id> <height> <width>`.

    Raises:
        UserError: if the file cannot be read or has other lines.
    """
    sizes: dict[str, SizeOrPicture] = {}
    try:
        for line in _lines(path, "sizes"):
            image_id, height, width = line.rsplit(maxsplit=2)
            if min(int(height), int(width)) < 1:
                raise ValueError(line)
            sizes[image_id] = (int(height), int(width))
    except ValueError as error:
        raise UserError(
            f"The sizes in {path} cannot be read ({error}). Its lines must be: "
            "<id> <height> <width>."
        ) from None
    return sizes


def find_pictures(folder: Path) -> dict[str, SizeOrPicture]:
    """Image id -> the picture in `folder` that gives its size.

    Raises:
        UserError: if the folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(f"--image_root {folder} cannot be read ({error.strerror}).") from None
    return {Path(n).stem: folder / n for n in sorted(names) if n.endswith(PICTURE_SUFFIXES)}


def _lines(path: Path, what: str) -> list[str]:
    """Lines without the spaces around them; empty ones are left out."""
    try:
        with open_regular(path) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The {what} {path} cannot be read: {error}.") from None
    return [line.strip() for line in text.split("\n") if line.strip()]
