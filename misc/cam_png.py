"""CAMs as one 8-bit gray PNG a class, `<id>_<c>.png`: OAA, NSROM, L2G, WSSS-BED."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from misc.cam_maps import Wanted, complete_cams, refuse, sorted_ids
from misc.cam_record import Cams
from misc.pictures import DECODING_ERRORS, PNG_ONLY
from misc.safe_load import open_data_file
from misc.stored_array import Span

IHDR = struct.Struct(">8s4x4sIIBB")  # signature, chunk, width, height, bits, colour type

MAX_HEADED_BYTES = 2**30  # of a file whose header is read and no more


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
    ids, order = sorted_ids([name[1] for name in names if name], 0, wanted.num_classes)
    if not wanted.parts or not paths:
        return complete_cams(ids, {}, wanted)
    maps = np.stack([_read_png(paths[i], wanted.image_size) for i in order])
    return complete_cams(ids, {"high_res": maps}, wanted)


def png_size(path: Path) -> tuple[int, int]:
    """(H,W) that the header of a PNG claims.

    Raises:
        CamProblem: if it has none.
        UserError: if the file cannot be read, naming it.
    """
    with open_data_file(path, MAX_HEADED_BYTES) as whole:
        return _read_header(whole, path.name)[0]


def _read_header(whole: Span, name: str) -> tuple[tuple[int, int], int, int]:
    """((H,W), bits, colour type) of a PNG's first header."""
    if whole.size < IHDR.size:
        refuse(f"{name} is truncated")
    signature, chunk, width, height, bits, colour = IHDR.unpack(whole.part(0, IHDR.size).read())
    if signature != b"\x89PNG\r\n\x1a\n" or chunk != b"IHDR":
        refuse(f"{name} is no PNG")
    return (height, width), bits, colour


def _read_png(path: Path, image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    with open_data_file(path, 2 * height * width + 2**20) as whole:
        size, bits, colour = _read_header(whole, path.name)
        if size != image_size:
            refuse(
                f"{path.name} has height {size[0]}, width {size[1]}, but the image {height}, "
                f"{width}",
                "Make it from the image of this size, or replace the image",
            )
        if (bits, colour) != (8, 0):
            refuse(
                f"{path.name} has {bits} bits of PNG colour type {colour}, not 8-bit gray",
                "Save it as 8-bit gray, 255 for an activation of 1",
            )
        return _decode(whole, path.name, (width, height))


def _decode(whole: Span, name: str, size: tuple[int, int]) -> np.ndarray:
    """The pixels as 0..1, if Pillow too finds 8-bit gray of `size` (width, height)."""
    whole.file.seek(0)
    try:
        with Image.open(whole.file, formats=PNG_ONLY) as picture:  # type: ignore[arg-type]
            # Pillow obeys the last header where a file has several; nothing is decoded before.
            if picture.size != size or picture.mode != "L":
                refuse(
                    f"{name} has a second header, of width {picture.size[0]}, height "
                    f"{picture.size[1]} and mode {picture.mode}, where its first says {size[0]}, "
                    f"{size[1]} and 8-bit gray"
                )
            return np.asarray(picture, np.float32) / 255
    except DECODING_ERRORS as error:
        refuse(f"{name} is truncated or damaged ({error})")


def write_png(file: BinaryIO, maps: np.ndarray) -> None:
    """Write one class's full-size map, float (H,W) in 0..1, rounded to 1/255."""
    pixels = np.rint(np.clip(maps, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, format="png")
