"""Class activation maps in files: every dialect in, one out.

python -m misc.cam_files convert SRC DST --to irn|png
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from misc.cam_files.dialects import DRS_SIZE, NPY_FORMATS, cams_of_record
from misc.cam_files.irn import CAM_DTYPES, Cams, cam_file_bytes, irn_record_bytes, stride4_size
from misc.cam_files.maps import OTHER_FORMAT, PARTS, CamProblem, Wanted, refuse
from misc.cam_files.png import read_png_cams, split_name
from misc.cam_files.sizes import MAX_OWN_PIXELS, size_of_pngs, size_of_record
from misc.errors import UserError
from misc.untrusted import open_npy, safe_load

__all__ = [
    "CAM_DTYPES",
    "CAM_FORMATS",
    "CamFolder",
    "Cams",
    "cam_file_bytes",
    "cam_path",
    "read_cams",
    "read_tags_file",
    "stride4_size",
    "write_irn",
]

CAM_FORMATS = ("auto", *NPY_FORMATS, "oaa_png")
MAX_CAM_OPCODES = 100_000  # 81 classes in a dict of maps take about 3,000


def read_cams(
    path: Path | Sequence[Path],
    image_size: tuple[int, int] | None,
    *,
    num_classes: int,
    cam_format: str = "auto",
    parts: Sequence[str] = PARTS,
) -> Cams:
    """Read the CAMs of one image, whoever made them; nothing in the file is executed.

    Args:
        path: the .npy file, or the image's `<id>_<c>.png` files (none: no class is present).
        image_size: (H,W) of the image, which the maps must fit; None: as the full-size maps say.
        num_classes: number of foreground classes; others are unknown.
        cam_format: one of CAM_FORMATS; auto where the file is unambiguous.
        parts: what is read and checked, of `cam` and `high_res`; the rest has shape (K,0,0).

    Returns:
        classes sorted, values 0..1 (up to 1.001 by rounding), the stride-4 map derived where the
        format has none, the full-size map where a file of the irn family was written without.

    Raises:
        UserError: naming file, reason and remedy, for anything that is not exactly such CAMs.
    """
    if cam_format not in CAM_FORMATS:
        raise ValueError(f"{cam_format!r} is none of {CAM_FORMATS}")
    try:
        if not isinstance(path, Path):
            if cam_format not in ("auto", "oaa_png"):
                refuse(f"{cam_format} files are .npy", OTHER_FORMAT)
            size = size_of_pngs(path) if image_size is None else image_size
            return read_png_cams(path, Wanted(size, num_classes, parts))
        if cam_format == "oaa_png":
            refuse("oaa_png files are <id>_<class>.png", OTHER_FORMAT)
        pixels = MAX_OWN_PIXELS if image_size is None else image_size[0] * image_size[1]
        # Room for 20 bytes a pixel and class: float64 twice over, as protocol 2 may need.
        limit = 20 * (num_classes + 1) * max(pixels, DRS_SIZE**2) + 2**20
        with open_npy(path, max_bytes=limit, max_opcodes=MAX_CAM_OPCODES) as record:
            size = image_size or size_of_record(record, cam_format, num_classes)
            return cams_of_record(record, cam_format, Wanted(size, num_classes, parts))
    except CamProblem as problem:
        where = path if isinstance(path, Path) else f"{path[0]} (and its other classes)"
        raise UserError(f"CAM {where} cannot be used: {problem}") from None


def cam_path(folder: Path, image_id: str) -> Path:
    """Where the .npy CAMs of `image_id` lie.

    Raises:
        UserError: if the id cannot be a file name.
    """
    if not image_id or "/" in image_id or os.sep in image_id or "\0" in image_id:
        raise UserError(f"The image id {image_id!r} cannot be a file name. Correct the list.")
    return folder / f"{image_id}.npy"


def write_irn(file: BinaryIO, cams: Cams, dtype: str = "float32", *, high_res: bool = True) -> None:
    """Write `cams` as IRN, BES and SBE exchange them; equal CAMs give equal bytes.

    Args:
        file: open for binary writing.
        cams: both parts; their values are rounded to `dtype`.
        dtype: one of CAM_DTYPES.
        high_res: write the full-size maps too; `read_cams` derives them where they are missing.
    """
    file.write(irn_record_bytes(cams, dtype, high_res=high_res))


class CamFolder:
    """The CAM files of a folder, listed once; ids are any strings that name a file.

    Where the format is named as oaa_png and the folder holds such files, an image without any is
    an image without classes; auto does not take that for granted.
    """

    def __init__(self, folder: Path, *, num_classes: int, cam_format: str = "auto") -> None:
        """List the folder.

        Args:
            folder: holds `<id>.npy` or `<id>_<c>.png`.
            num_classes: number of foreground classes.
            cam_format: one of CAM_FORMATS.

        Raises:
            UserError: if there is no such folder.
        """
        self.folder, self.num_classes, self.cam_format = folder, num_classes, cam_format
        try:
            names = os.listdir(folder)
        except OSError as error:
            raise UserError(
                f"The CAM folder {folder} cannot be read ({error.strerror}). Name the folder that "
                "holds <id>.npy or <id>_<class>.png."
            ) from None
        self._npy: set[str] = set()
        self._png: dict[str, list[int]] = {}
        for name in names:
            if name.endswith(".npy") and cam_format != "oaa_png":
                self._npy.add(name[:-4])
            elif cam_format in ("auto", "oaa_png") and (parsed := split_name(name)):
                self._png.setdefault(parsed[0], []).append(parsed[1])

    def ids(self) -> list[str]:
        """All image ids that have files, sorted."""
        return sorted(self._npy | self._png.keys())

    @property
    def holds_pngs(self) -> bool:
        """True if there are `<id>_<c>.png`, and the format is auto or oaa_png."""
        return bool(self._png)

    @property
    def absent_is_empty(self) -> bool:
        """True if an image without a file is an image without classes."""
        return self.cam_format == "oaa_png" and self.holds_pngs

    def find(self, image_id: str) -> Path | list[Path] | None:
        """The image's .npy file, or its PNG files in the order of classes; None without any.

        The list is empty for an image without classes (`absent_is_empty`).

        Raises:
            UserError: if there are both.
        """
        if image_id in self._npy and image_id in self._png:
            raise UserError(
                f"{self.folder} has both {image_id}.npy and {image_id}_<class>.png. Pass "
                "--cam_format oaa_png for the latter, or the format of the former."
            )
        if image_id in self._npy:
            return self.folder / f"{image_id}.npy"
        if image_id in self._png:
            return [self.folder / f"{image_id}_{c}.png" for c in sorted(self._png[image_id])]
        return [] if self.absent_is_empty else None

    def read(
        self, image_id: str, image_size: tuple[int, int], *, parts: Sequence[str] = PARTS
    ) -> Cams:
        """The CAMs of one image; arguments and errors as for `read_cams`."""
        path = self.find(image_id)
        if path is None:
            raise UserError(
                f"No CAM for {image_id} in {self.folder}: neither {image_id}.npy nor "
                f"{image_id}_<class>.png. Put it there, or remove the image from the list."
            )
        return read_cams(
            path, image_size, num_classes=self.num_classes, cam_format=self.cam_format, parts=parts
        )


def read_tags_file(path: Path) -> dict[str, np.ndarray]:
    """Image tags from a user's `cls_labels.npy`, a pickled {id: multi-hot}, read as data.

    Returns:
        image_id -> float32 (C,) of 0 and 1. Ids may be strings, or the reference's integers:
        2007000032 is "2007_000032".

    Raises:
        UserError: if the file cannot be read, or holds anything else.
    """
    content = safe_load(path)
    if not isinstance(content, Mapping) or not content:
        raise UserError(
            f"{path} holds no {{id: tags}} but a {type(content).__name__}. Make it with "
            "python -m voc12.make_cls_labels."
        )
    tags = {_id_of(key, path): _tags_of(value, key, path) for key, value in content.items()}
    if len(tags) != len(content):
        raise UserError(f"{path} names an image twice, as a string and as a number. Remove one.")
    lengths = {len(value) for value in tags.values()}
    if len(lengths) > 1:
        raise UserError(
            f"{path} has tags of lengths {sorted(lengths)}. Make them all the same length."
        )
    return tags


def _id_of(key: str | int, path: Path) -> str:
    if isinstance(key, str):
        return key
    digits = str(key)
    if len(digits) != 10 or key < 0:
        raise UserError(
            f"{path}: the number {digits[:40]} is not an image id; that needs ten digits "
            "(2007000032 is 2007_000032). Use strings as ids."
        )
    return f"{digits[:4]}_{digits[4:]}"


def _tags_of(value: Any, key: str | int, path: Path) -> np.ndarray:
    if isinstance(value, (list, tuple)) and not all(np.isscalar(each) for each in value):
        # Not made an array to see: lists that hold each other may have no end of numbers.
        value = 0
    try:
        tags: np.ndarray = np.asarray(value, np.float32)
    except (ValueError, TypeError, OverflowError):
        tags = np.zeros((), np.float32)
    if tags.ndim != 1 or not ((tags == 0) | (tags == 1)).all():
        raise UserError(
            f"{path}: the tags of {key!r} are not a vector of 0 and 1. Correct them, or make the "
            "file with python -m voc12.make_cls_labels."
        )
    return tags
