"""The image size that CAM files themselves give: that of their full-size maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from misc.cam_files.dialects import LAYOUTS, SIZELESS, detect_format
from misc.cam_files.maps import refuse
from misc.images import PNG_ONLY, image_size
from misc.untrusted import StoredArray

# Beyond it nobody's file is believed: a few kB of PNG can claim any size.
MAX_OWN_PIXELS = 2**24
UNKNOWN = (0, 0)
SAY = "Pass --image_root or --sizes"


def size_of_pngs(paths: Sequence[Path]) -> tuple[int, int]:
    """(H,W) of an image from the first of its `<id>_<c>.png`, UNKNOWN without any.

    Raises:
        CamProblem: if it is implausibly large.
        UserError: if it is not a sound PNG.
    """
    return _believed(image_size(paths[0], PNG_ONLY)) if paths else UNKNOWN


def size_of_record(record: Any, cam_format: str, count: int) -> tuple[int, int]:
    """(H,W) of an image from what its .npy or .npz file holds; `count` as for `detect_format`.

    Returns:
        UNKNOWN where there is no class, or what should be full-size maps is none.

    Raises:
        CamProblem: if the file leaves the size open, or its maps are implausibly large.
    """
    if cam_format == "auto":
        cam_format = detect_format(record, count)
    if cam_format in SIZELESS:
        refuse(f"{cam_format} files do not record the image size", SAY)
    if not isinstance(record, dict):
        return UNKNOWN
    if cam_format in LAYOUTS:
        return _believed(_size_of_fields(record, cam_format))
    return _believed(_size_of_maps(next(iter(record.values()), None), 2))


def _size_of_fields(record: dict[Any, Any], cam_format: str) -> tuple[int, int]:
    layout = LAYOUTS[cam_format]
    if layout.high_res in record or layout.cam not in record:
        return _size_of_maps(record.get(layout.high_res), 3)
    small = record[layout.cam]
    if isinstance(small, StoredArray) and small.shape and small.shape[0]:
        refuse("it has no full-size maps, which would give the image size", SAY)
    return UNKNOWN


def _size_of_maps(maps: Any, rank: int) -> tuple[int, int]:
    if not isinstance(maps, StoredArray) or len(maps.shape) != rank:
        return UNKNOWN
    if 0 in maps.shape[-2:] and 0 not in maps.shape[:-2]:
        refuse(f"its maps have shape {maps.shape}, without a pixel")
    return maps.shape[-2], maps.shape[-1]


def _believed(size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > MAX_OWN_PIXELS:
        refuse(f"its image would be of height {size[0]}, width {size[1]}: too large", SAY)
    return size
