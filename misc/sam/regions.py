"""Regions of Segment Anything (SAM) in the files that scripts write: PNGs, run lengths, a map."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from misc.errors import UserError
from misc.images import DECODING_ERRORS, PNG_ONLY, open_picture, open_regular
from misc.run_lengths import decode_run_lengths
from misc.untrusted import StoredArray, open_npy

Region = NDArray[np.bool_]

MAX_REGIONS = 10_000  # of an image; SAM finds about a hundred
MAX_JSON_BYTES = 1 << 25
JSON, NPY = ".json", ".npy"
NOTHING = -1  # in S2C's maps
REMEDY = "Make the regions of this image again, or choose another --sam_root."


class RegionFolder:
    """A folder with the regions of many images.

    An image has `<id>/` with a PNG for each region or `<id>.json`, as segment-anything's
    `scripts/amg.py` writes them, or `<id>.npy`, as S2C does.
    """

    def __init__(self, path: Path) -> None:
        """List the folder.

        Raises:
            UserError: if it is none.
        """
        if not path.is_dir():
            raise UserError(f"--sam_root {path} is not a folder.")
        self.path = path
        with os.scandir(path) as entries:
            self._names = {entry.name + "/" * entry.is_dir() for entry in entries}

    def find(self, image_id: str) -> Path | None:
        """Where the regions of an image lie; None without any.

        Raises:
            UserError: if they lie there in two forms.
        """
        found = [name for suffix in ("/", JSON, NPY) if (name := image_id + suffix) in self._names]
        if len(found) > 1:
            raise UserError(
                f"{self.path} holds both {found[0]} and {found[1]}. Remove one of them."
            )
        return self.path / found[0] if found else None


def files_of_regions(path: Path) -> list[Path]:
    """The files that the regions at `path` are in: itself, or the PNGs of a folder, by name."""
    if not path.is_dir():
        return [path]
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".png"))
    return [path / name for name in names]


def read_regions(path: Path, size: tuple[int, int]) -> Iterator[Region]:
    """The regions of an image, one after the other.

    Args:
        path: what `RegionFolder.find` found. A folder's `metadata.csv` is not read: which PNGs are
            there counts.
        size: (H,W) of the image.

    Yields:
        (H,W) each, True inside.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    if path.is_dir():
        yield from _of_pngs(path, size)
    elif path.suffix == JSON:
        yield from _of_json(path, size)
    else:
        yield from _of_map(path, size)


def _of_pngs(folder: Path, size: tuple[int, int]) -> Iterator[Region]:
    paths = files_of_regions(folder)
    _check_number(folder, len(paths))
    if not paths and not (folder / "metadata.csv").exists():
        raise UserError(f"{folder} holds neither a PNG nor metadata.csv. {REMEDY}")
    for path in paths:
        try:
            with open_picture(path, PNG_ONLY) as picture:
                _check_size(path, (picture.height, picture.width), size)
                if picture.mode not in ("L", "1"):
                    raise UserError(
                        f"{path} has mode {picture.mode}, not black and white. {REMEDY}"
                    )
                values = np.asarray(picture.convert("L"))
        except DECODING_ERRORS as error:
            raise UserError(f"Cannot read the region {path}: {error}. {REMEDY}") from None
        region = values == 255
        if not (region | (values == 0)).all():
            raise UserError(f"{path} holds other values than 0 and 255. {REMEDY}")
        yield region


def _of_json(path: Path, size: tuple[int, int]) -> Iterator[Region]:
    try:
        with open_regular(path) as file:
            text = file.read(MAX_JSON_BYTES + 1)
        if len(text) > MAX_JSON_BYTES:
            raise UserError(f"{path} has more than {MAX_JSON_BYTES} bytes. {REMEDY}")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not read as JSON: {error}. {REMEDY}") from None
    if not isinstance(content, list):
        raise UserError(f"{path} holds no list of regions. {REMEDY}")
    _check_number(path, len(content))
    for number, entry in enumerate(content):
        rle = entry.get("segmentation") if isinstance(entry, dict) else None
        if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
            raise UserError(
                f"{path}: region {number} has no run lengths, which amg.py writes with "
                f"--convert-to-rle. {REMEDY}"
            )
        try:
            region = decode_run_lengths(rle, size)
        except UserError as error:
            raise UserError(f"{path}, region {number}: {error}. {REMEDY}") from None
        yield region


def _of_map(path: Path, size: tuple[int, int]) -> Iterator[Region]:
    with open_npy(path, max_opcodes=0) as array:
        if not isinstance(array, StoredArray) or array.dtype.kind not in "iu":
            raise UserError(f"{path} is not an array of whole numbers. {REMEDY}")
        if len(array.shape) != 2:
            raise UserError(f"{path} has the shape {array.shape}, not (H,W). {REMEDY}")
        _check_size(path, array.shape, size)
        numbers = array.read()
    found = np.unique(numbers[numbers != NOTHING])
    if found.size and found[0] < 0:
        raise UserError(f"{path} holds {found[0]}: regions are numbered from 0. {REMEDY}")
    _check_number(path, len(found))
    for number in found:
        yield numbers == number


def _check_size(path: Path, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    if size != expected:
        raise UserError(
            f"{path} is {size[1]}x{size[0]}, but its image is {expected[1]}x{expected[0]}. {REMEDY}"
        )


def _check_number(path: Path, number: int) -> None:
    if number > MAX_REGIONS:
        raise UserError(
            f"{path} has {number} regions, but at most {MAX_REGIONS} are read. {REMEDY}"
        )
