"""One mask from a file of another method: a PNG, or the scores of a segmentation network."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misc.cam_files import SCORE_FIELDS
from misc.codes import VOID
from misc.errors import UserError
from misc.images import read_mask
from misc.untrusted import StoredArray, open_npy

MAX_OPCODES = 100_000


def read_any_mask(path: Path, num_classes: int) -> NDArray[np.uint8]:
    """A mask (H,W) of class ids, 255 = ignore; nothing in the file is executed.

    Args:
        path: a PNG as `read_mask` takes it, or a .npy with a dict that has one of SCORE_FIELDS,
            (1,C+1,H,W) or (C+1,H,W): class = channel, 0 is the background. The mask is the channel
            with the highest score, the lower one of equal ones.
        num_classes: number of foreground classes C.

    Raises:
        UserError: naming file, reason and remedy.
    """
    if path.suffix == ".npy":
        return _mask_of_scores(path, num_classes)
    mask = read_mask(path)
    unknown = np.setdiff1d(mask, [*range(num_classes + 1), VOID])
    if len(unknown):
        raise UserError(
            f"{path} has the class {unknown[0]}, but there are {num_classes}. Give their number "
            "with --num_classes, or replace the file."
        )
    return mask


def _mask_of_scores(path: Path, num_classes: int) -> NDArray[np.uint8]:
    with open_npy(path, max_opcodes=MAX_OPCODES) as record:
        field, stored = _scores(path, record)
        shape = stored.shape[1:] if len(stored.shape) == 4 else stored.shape
        is_single = len(stored.shape) in (3, 4) and stored.shape[:-3] in ((), (1,))
        if not is_single or stored.dtype.kind != "f" or 0 in shape:
            raise UserError(
                f"{path}: its {field} is {stored.dtype} {stored.shape}, not scores (1, classes, "
                "height, width). Save them as the network gives them, before the argmax."
            )
        if shape[0] != num_classes + 1:
            raise UserError(
                f"{path}: its {field} has {shape[0]} channels, but {num_classes} classes and the "
                "background make another number. Give the number of classes with --num_classes."
            )
        scores = stored.read().reshape(shape)
    if np.isnan(scores).any():
        raise UserError(f"{path}: its {field} has NaN values. Make the file again.")
    return scores.argmax(axis=0).astype(np.uint8)


def _scores(path: Path, record: Any) -> tuple[str, StoredArray]:
    """The field with scores, of several scales where there are such, and what it holds."""
    fields = record if isinstance(record, dict) else {}
    for name in SCORE_FIELDS:
        if isinstance(stored := fields.get(name), StoredArray):
            return name, stored
    raise UserError(
        f"{path} holds no scores of a segmentation network: a dict with {', '.join(SCORE_FIELDS)}. "
        "CAMs go into --cam_out_dir instead."
    )
