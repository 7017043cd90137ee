"""Class activation maps in files: every dialect in, one out.

python -m misc.cam_files convert SRC DST --to irn|png
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from misc.cam_files.dialects import DRS_SIZE, NPY_FORMATS, NPZ_FORMAT, cams_of_record
from misc.cam_files.irn import CAM_DTYPES, Cams, cam_file_bytes, irn_record_bytes, stride4_size
from misc.cam_files.maps import OTHER_FORMAT, PARTS, CamProblem, Wanted, refuse
from misc.cam_files.numbering import CONTIGUOUS, count_of_numbers
from misc.cam_files.png import read_png_cams, split_name
from misc.cam_files.sizes import MAX_OWN_PIXELS, size_of_pngs, size_of_record
from misc.errors import UserError
from misc.untrusted import open_npy, open_npz, safe_load

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

CAM_FORMATS = ("auto", *NPY_FORMATS, NPZ_FORMAT, "oaa_png")
NPY, NPZ = ".npy", ".npz"
MAX_CAM_OPCODES = 100_000  # 81 classes in a dict of maps take about 3,000


def read_cams(
    path: Path | Sequence[Path],
    image_size: tuple[int, int] | None,
    *,
    num_classes: int,
    cam_format: str = "auto",
    cam_ids: str = CONTIGUOUS,
    parts: Sequence[str] = PARTS,
) -> Cams:
    """Read the CAMs of one image, whoever made them; nothing in the file is executed.

    Args:
        path: the .npy or .npz file, or the image's `<id>_<c>.png` files (none: no class is
            present).
        image_size: (H,W) of the image, which the maps must fit; None: as the full-size maps say.
        num_classes: number of foreground classes; others are unknown.
        cam_format: one of CAM_FORMATS; auto where the file is unambiguous.
        cam_ids: one of CAM_IDS, how the file numbers the classes.
        parts: what is read and checked, of `cam` and `high_res`; the rest has shape (K,0,0).

    Returns:
        classes sorted, values 0..1 (up to 1.001 by rounding), the stride-4 map derived where the
        format has none, the full-size map where a file of the irn family was written without.

    Raises:
        UserError: naming file, reason and remedy, for anything that is not exactly such CAMs.
    """
    if cam_format not in CAM_FORMATS:
        raise ValueError(f"{cam_format!r} is none of {CAM_FORMATS}")
    count = count_of_numbers(cam_ids, num_classes)
    try:
        if not isinstance(path, Path):
            if cam_format not in ("auto", "oaa_png"):
                refuse(f"{cam_format} files are {suffix_of(cam_format)}", OTHER_FORMAT)
            size = size_of_pngs(path) if image_size is None else image_size
            return read_png_cams(path, Wanted(size, num_classes, parts, cam_ids))
        if cam_format == "auto":
            cam_format = NPZ_FORMAT if path.suffix == NPZ else "auto"
        elif path.suffix != suffix_of(cam_format):
            refuse(f"{cam_format} files are {suffix_of(cam_format)}", OTHER_FORMAT)
        pixels = MAX_OWN_PIXELS if image_size is None else image_size[0] * image_size[1]
        with _open(path, num_classes, pixels) as record:
            size = image_size or size_of_record(record, cam_format, count)
            return cams_of_record(record, cam_format, Wanted(size, num_classes, parts, cam_ids))
    except CamProblem as problem:
        where = path if isinstance(path, Path) else f"{path[0]} (and its other classes)"
        raise UserError(f"CAM {where} cannot be used: {problem}") from None


def _open(path: Path, num_classes: int, pixels: int) -> AbstractContextManager[Any]:
    # Room for 20 bytes a pixel and class: float64 twice over, as protocol 2 or SFC may need.
    limit = 20 * (num_classes + 1) * max(pixels, DRS_SIZE**2) + 2**20
    if path.suffix == NPZ:
        return open_npz(path, max_bytes=limit)
    return open_npy(path, max_bytes=limit, max_opcodes=MAX_CAM_OPCODES)


def suffix_of(cam_format: str) -> str:
    """What the names of the files of a dialect end in."""
    return {NPZ_FORMAT: NPZ, "oaa_png": "<id>_<class>.png"}.get(cam_format, NPY)


def cam_path(folder: Path, image_id: str) -> Path:
    """Where the .npy CAMs of `image_id` lie.

    Raises:
        UserError: if the id cannot be a file name.
    """
    if not image_id or "/" in image_id or os.sep in image_id or "\0" in image_id:
        raise UserError(f"The image id {image_id!r} cannot be a file name. Correct the list.")
    return folder / f"{image_id}.npy"


def write_irn(
    file: BinaryIO,
    cams: Cams,
    dtype: str = "float32",
    *,
    high_res: bool = True,
    walked: bool = False,
) -> None:
    """Write `cams` as IRN, BES and SBE exchange them; equal CAMs give equal bytes.

    Args:
        file: open for binary writing.
        cams: both parts; their values are rounded to `dtype`.
        dtype: one of CAM_DTYPES.
        high_res: write the full-size maps too; `read_cams` derives them where they are missing.
        walked: they are scores of a random walk, whose cells are exactly 4 pixels wide.
    """
    file.write(irn_record_bytes(cams, dtype, high_res=high_res, walked=walked))


class CamFolder:
    """The CAM files of a folder, listed once; ids are any strings that name a file.

    Where the format is named as oaa_png and the folder holds such files, an image without any is
    an image without classes; auto does not take that for granted.
    """

    def __init__(
        self, folder: Path, *, num_classes: int, cam_format: str = "auto", cam_ids: str = CONTIGUOUS
    ) -> None:
        """List the folder.

        Args:
            folder: holds `<id>.npy`, `<id>.npz` or `<id>_<c>.png`.
            num_classes: number of foreground classes.
            cam_format: one of CAM_FORMATS.
            cam_ids: one of CAM_IDS.

        Raises:
            UserError: if there is no such folder.
        """
        self.folder, self.num_classes = folder, num_classes
        self.cam_format, self.cam_ids = cam_format, cam_ids
        try:
            names = os.listdir(folder)
        except OSError as error:
            raise UserError(
                f"The CAM folder {folder} cannot be read ({error.strerror}). Name the folder that "
                "holds <id>.npy, <id>.npz or <id>_<class>.png."
            ) from None
        wanted = (NPY, NPZ) if cam_format == "auto" else (suffix_of(cam_format),)
        self._arrays: dict[str, list[str]] = {}
        self._png: dict[str, list[int]] = {}
        for name in names:
            if (suffix := name[-4:]) in wanted:
                self._arrays.setdefault(name[:-4], []).append(suffix)
            elif cam_format in ("auto", "oaa_png") and (parsed := split_name(name)):
                self._png.setdefault(parsed[0], []).append(parsed[1])

    def ids(self) -> list[str]:
        """All image ids that have files, sorted."""
        return sorted(self._arrays.keys() | self._png.keys())

    @property
    def holds_pngs(self) -> bool:
        """True if there are `<id>_<c>.png`, and the format is auto or oaa_png."""
        return bool(self._png)

    @property
    def absent_is_empty(self) -> bool:
        """True if an image without a file is an image without classes."""
        return self.cam_format == "oaa_png" and self.holds_pngs

    def find(self, image_id: str) -> Path | list[Path] | None:
        """The image's .npy or .npz file, or its PNGs in the order of classes; None without any.

        The list is empty for an image without classes (`absent_is_empty`).

        Raises:
            UserError: if there are several kinds.
        """
        kinds = [f"{image_id}{suffix}" for suffix in sorted(self._arrays.get(image_id, []))]
        if image_id in self._png:
            kinds.append(f"{image_id}_<class>.png")
        if len(kinds) > 1:
            raise UserError(
                f"{self.folder} has both {' and '.join(kinds[:2])}. Say with --cam_format which "
                f"are meant: {NPZ_FORMAT} for .npz, oaa_png for PNGs, or the format of the .npy."
            )
        if image_id in self._png:
            return [self.folder / f"{image_id}_{c}.png" for c in sorted(self._png[image_id])]
        if kinds:
            return self.folder / kinds[0]
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
            path,
            image_size,
            num_classes=self.num_classes,
            cam_format=self.cam_format,
            cam_ids=self.cam_ids,
            parts=parts,
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
