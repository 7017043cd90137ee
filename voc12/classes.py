"""Class names: the folder's own `classes.txt`, or PASCAL VOC's twenty."""

from collections.abc import Sequence
from pathlib import Path

from misc.errors import UserError
from voc12.text import is_there, read_lines

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
MAX_CLASSES = 254  # mask ids 1..254; 0 is background, 255 is ignored


def read_class_names(root: Path) -> tuple[str, ...]:
    """Foreground class names of the dataset, in the order of their ids from 1.

    Args:
        root: the dataset's folder; `classes.txt` in it has one name per line.

    Raises:
        UserError: if the file is not UTF-8, is empty, repeats a name, names the background or has
            more than 254 names.
    """
    path = root / "classes.txt"
    if not is_there(path):
        return VOC_CLASSES
    names = tuple(read_lines(path))
    if background := next(filter(is_background, names), None):
        raise UserError(
            f"{path} names {background}, which is no class of yours: it is class 0 in any case. "
            "Remove the line; the name in the first line is class 1."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not names or repeated or len(names) > MAX_CLASSES:
        reason = f"names {', '.join(repeated)} twice" if repeated else f"has {len(names)} names"
        raise UserError(
            f"{path} {reason}: it needs 1 to {MAX_CLASSES} different names, one per line."
        )
    return names


def is_background(name: str) -> bool:
    """True for the names that label tools write in the background's place."""
    return name.strip("_ ").lower() == "background"


def class_indices(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Mask ids (from 1) of the `wanted` class names.

    Raises:
        UserError: naming the unknown ones and what there is.
    """
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise UserError(f"Unknown class {', '.join(unknown)}; the dataset has {', '.join(names)}.")
    return [names.index(name) + 1 for name in wanted]
