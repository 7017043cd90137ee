"""CAMs as one 8-bit gray PNG per class, `<id>_<c>.png`: OAA, NSROM, L2G, WSSS-BED."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from misc.cam_files.irn import Cams
from misc.cam_files.maps import OTHER_SIZE, Wanted, complete_cams, refuse, sorted_ids
from misc.images import DECODING_ERRORS, PNG_ONLY
from misc.untrusted import open_data_file


def split_name(name: str) -> tuple[str, int] | None:
    """(image id, class from 0) of a file name `<id>_<c>.png`, None for other names.

    `2007_000032.png` is none: a class has no leading zeros.
    """
    stem, dot, suffix = name.rpartition(".")
    image_id, line, number = stem.rpartition("_")
    if not (dot and line and image_id and suffix == "png" and number.isascii()):
        return None
    if not number.isdigit() or len(number) > 4 or str(int(number)) != number:
        return None
    return image_id, int(number)


def read_png_cams(paths: Sequence[Path], wanted: Wanted) -> Cams:
    """The CAMs of one image from its files; a class without a file is absent.

    Raises:
        CamProblem: if names, classes or sizes do not fit.
        UserError: if a file cannot be read, naming it.
    """
    names = [split_name(path.name) for path in paths]
    if None in names or len({name[0] for name in names if name}) > 1:
        refuse(f"its files are not all <id>_<class>.png of one image: {paths[0].name} ...")
    ids, order = sorted_ids([name[1] for name in names if name], 0, wanted)
    if not wanted.parts or not paths:
        return complete_cams(ids, {}, wanted)
    maps = np.stack([_read_png(paths[i], wanted.image_size) for i in order])
    return complete_cams(ids, {"high_res": maps}, wanted)


def _read_png(path: Path, image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    with open_data_file(path, 2 * height * width + 2**20) as whole:
        try:
            with Image.open(whole.file, formats=PNG_ONLY) as picture:  # type: ignore[arg-type]
                # Known from the header; nothing is decoded before.
                if picture.size != (width, height):
                    refuse(
                        f"{path.name} has height {picture.size[1]}, width {picture.size[0]}, but "
                        f"the image has height {height}, width {width}",
                        OTHER_SIZE,
                    )
                if picture.mode != "L":
                    refuse(
                        f"{path.name} has mode {picture.mode}, not 8-bit gray",
                        "Save it as 8-bit gray, 255 for an activation of 1",
                    )
                return np.asarray(picture, np.float32) / 255
        except DECODING_ERRORS as error:
            # Pillow names the open file, not its path, where it finds no PNG in it.
            reason = "not a PNG" if isinstance(error, UnidentifiedImageError) else error
            refuse(f"{path.name} is truncated or damaged ({reason})")


def write_png(file: BinaryIO, maps: np.ndarray) -> None:
    """Write one class's full-size map, float (H,W) in 0..1, rounded to 1/255."""
    pixels = np.rint(np.clip(maps, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, format="png")
