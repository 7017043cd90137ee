"""WSSS-BED's list files: each line is an image id without spaces and its classes, from 0.

2007_000032 0 14
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from misc.errors import UserError
from voc12.text import is_there, read_lines

TAGGED_LINE = re.compile(r"(\S+)((?:\s+\d+)*)")
FORMAT = "A line is an image id and its classes, counted from 0."


def ids_if_tagged(lines: Sequence[str]) -> list[str] | None:
    """The ids of lines that may be a tagged list; None for what is surely none.

    Nobody can tell from a line such as `photo 1` alone whether it is an id with a space.
    """
    parts = [TAGGED_LINE.fullmatch(line) for line in lines]
    if not any(part and part[2] for part in parts):
        return None
    ids = [part[1] for part in parts if part]
    return ids if len(set(ids)) == len(lines) else None


def read_tagged_list(path: Path, num_classes: int) -> dict[str, np.ndarray]:
    """Tags of every image that a tagged list names.

    Args:
        path: UTF-8 text; an id alone is an image without a class.
        num_classes: number of foreground classes C; the list's go from 0 to C - 1.

    Returns:
        image_id -> multi-hot float32 (C,).

    Raises:
        UserError: if the file is missing, no such list, names an image twice or an unknown class,
            or not one class.
    """
    if not is_there(path):
        raise UserError(f"No tags {path}. {FORMAT}")
    tags: dict[str, np.ndarray] = {}
    for line in read_lines(path):
        part = TAGGED_LINE.fullmatch(line)
        if part is None:
            raise UserError(
                f"{path}: {line!r} is not a line of a tagged list. {FORMAT} Ids with spaces need a "
                "tags.csv."
            )
        image_id, classes = part[1], [int(word) for word in part[2].split()]
        if image_id in tags:
            raise UserError(f"{path} names {image_id} twice. Keep one line per image.")
        if max(classes, default=0) >= num_classes:
            raise UserError(
                f"{path} says that {image_id} shows class {max(classes)}, but the classes of the "
                f"dataset are 0 to {num_classes - 1}. Correct it, or list the classes of your "
                "dataset in its classes.txt."
            )
        tags[image_id] = np.zeros(num_classes, np.float32)
        tags[image_id][classes] = 1
    if not any(shown.any() for shown in tags.values()):
        raise UserError(f"{path} names images, but not one class. {FORMAT}")
    return tags
