"""What all CAM dialects share: the checks of maps and classes, and the stride-4 map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from misc.cam_files.irn import MAX_EPSILON, STRIDE, Cams, padded_size, stride4_size
from misc.cam_files.numbering import (
    COCO91,
    CONTIGUOUS,
    NUM_COCO_CLASSES,
    class_id_of,
    count_of_numbers,
)

PARTS = ("cam", "high_res")
MAX_VALUE = 1 + 1e-3  # CAMs are 0..1; interpolation and half precision round a little above
ANEW = "Make the file again, or remove its image from the list"
OTHER_FORMAT = "Give its format with --cam_format"
OTHER_SIZE = "Make it again at the size of the image, or replace the image"


class CamProblem(Exception):
    """Why a file is not taken for CAMs; the message ends with the remedy."""


def refuse(reason: str, remedy: str = ANEW) -> NoReturn:
    """Raise CamProblem."""
    raise CamProblem(f"{reason}. {remedy}.")


@dataclass(frozen=True)
class Wanted:
    """What CAMs must fit, and what of them is read.

    Attributes:
        image_size: (H,W).
        num_classes: number of foreground classes.
        parts: those of PARTS that are read.
        cam_ids: how files number the classes, one of CAM_IDS.
    """

    image_size: tuple[int, int]
    num_classes: int
    parts: Sequence[str] = PARTS
    cam_ids: str = CONTIGUOUS

    @property
    def class_id_of(self) -> Mapping[int, int]:
        """Number of a class in a file, counted from 0 -> class id from 1."""
        return class_id_of(self.cam_ids, self.num_classes)

    @property
    def count(self) -> int:
        """How many numbers there are, with those that a gap leaves unused."""
        return count_of_numbers(self.cam_ids, self.num_classes)

    def size_of(self, part: str) -> tuple[int, int]:
        """(h,w) that the part's maps must have."""
        return stride4_size(self.image_size) if part == "cam" else self.image_size


def sorted_ids(numbers: Sequence[int], first: int, wanted: Wanted) -> tuple[np.ndarray, list[int]]:
    """Class ids from 1, ascending, and where each stands in `numbers`.

    Args:
        numbers: classes as a file names them.
        first: how its format names the first class.
        wanted: which classes there are, and how they are numbered.

    Raises:
        CamProblem: if a class is unknown or there twice.
    """
    if len(set(numbers)) != len(numbers):
        refuse(f"it has a class twice: {list(numbers)[:40]}")
    known = wanted.class_id_of
    for number in numbers:
        if number - first not in known:
            _refuse_class(number, first, wanted)
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return np.array([known[numbers[i] - first] for i in order], np.int64), order


def _refuse_class(number: int, first: int, wanted: Wanted) -> NoReturn:
    if wanted.cam_ids == COCO91:
        refuse(
            f"it has the class {number}, but COCO has no category {number - first + 1}",
            f"Leave out --cam_ids {COCO91} if the classes are numbered without gaps",
        )
    remedy = "Choose another --cam_format, or check the classes (--num_classes of convert)"
    if wanted.num_classes == NUM_COCO_CLASSES:
        remedy += f", or pass --cam_ids {COCO91} if they are numbered by COCO's 91 category ids"
    refuse(
        f"it has the unknown class {number}: {wanted.num_classes} classes are numbered from "
        f"{first} to {wanted.num_classes + first - 1} in this format",
        remedy,
    )


def checked_maps(maps: np.ndarray, what: str, highest_value: float = 1) -> np.ndarray:
    """`maps` as float32, if all values are finite and 0..`highest_value`.

    Raises:
        CamProblem: if they are not.
    """
    if maps.dtype.itemsize < 4 or not maps.dtype.isnative:
        maps = maps.astype(np.float32)
    if maps.size:
        with np.errstate(invalid="ignore"):
            lowest, highest = float(maps.min()), float(maps.max())
        if not np.isfinite([lowest, highest]).all():
            refuse(f"its {what} has NaN or infinite values")
        if lowest < 0:
            refuse(
                f"its {what} has negative values, down to {lowest:.3g}; they must be "
                f"0..{highest_value:g}"
            )
        if highest > MAX_VALUE * highest_value:
            refuse(
                f"its {what} has values up to {highest:.4g}; they must be 0..{highest_value:g}",
                "Divide each class by its maximum when the file is made",
            )
    return np.ascontiguousarray(maps, np.float32)


def resize(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Float32 maps (K,h,w) resized bilinearly to `size`, corners not aligned; K > 0."""
    # Here, because the settings read CAM_FORMATS and --help should not wait for torch.
    import torch
    from torch.nn.functional import interpolate

    batch = torch.from_numpy(maps)[None]
    return interpolate(batch, size, mode="bilinear", align_corners=False)[0].numpy()


def check_grid(grid: tuple[int, ...], image_size: tuple[int, int], what: str) -> None:
    """Check that maps on a grid (h,w) of any fineness can be of an image of `image_size` (H,W).

    Raises:
        CamProblem: if the grid has no cell, or is upright and the image lies, or the reverse.
    """
    (h, w), (height, width) = grid, image_size
    if 0 in grid or (h - w) * (height - width) < 0:
        refuse(
            f"its {what} has height {h}, width {w}, which does not fit an image of height "
            f"{height}, width {width}",
            OTHER_SIZE,
        )


def derive_cam(high_res: np.ndarray) -> np.ndarray:
    """The stride-4 map of full-size maps (K,H,W): bilinear, the maximum of each class 1 again."""
    maps = resize(high_res, stride4_size((high_res.shape[1], high_res.shape[2])))
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1)


def derive_high_res(
    cam: np.ndarray, image_size: tuple[int, int], *, walked: bool = False
) -> np.ndarray:
    """The full-size maps (K,H,W) of stride-4 maps (K,h,w), each class divided by its maximum.

    Enlarged and divided as `net.cam.combine_scales` does it with the network's maps: bilinearly to
    the padded size, then cut. It has the maps of every scale to start from, this their sum at
    stride 4. Scores of a walk (`walked`) lie on the boundary network's grid instead, whose cells
    are exactly 4 pixels wide.
    """
    grid = (STRIDE * cam.shape[1], STRIDE * cam.shape[2])
    padded = resize(cam, grid if walked else padded_size(image_size))
    maps = padded[:, : image_size[0], : image_size[1]]
    return maps / (maps.max(axis=(1, 2), keepdims=True) + np.float32(MAX_EPSILON))


def complete_cams(
    class_ids: np.ndarray, maps: Mapping[str, np.ndarray], wanted: Wanted, *, walked: bool = False
) -> Cams:
    """The record of the wanted parts from the maps that a file had.

    Args:
        class_ids: int64 (K,), ascending.
        maps: part -> float32 (K,h,w) in the order of `class_ids`; may be empty if K = 0.
        wanted: image size and parts; one that is missing is derived from the other.
        walked: they are scores of a random walk.
    """
    parts = {part: np.zeros((len(class_ids), 0, 0), np.float32) for part in PARTS}
    for part in wanted.parts:
        if len(class_ids) == 0:
            parts[part] = np.zeros((0, *wanted.size_of(part)), np.float32)
        elif part in maps:
            parts[part] = maps[part]
        elif part == "cam":
            parts[part] = derive_cam(maps["high_res"])
        else:
            parts[part] = derive_high_res(maps["cam"], wanted.image_size, walked=walked)
    return Cams(class_ids, parts["cam"], parts["high_res"])
