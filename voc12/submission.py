"""The archive that PASCAL's evaluation server takes, checked before it appears."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from misc.errors import UserError
from misc.images import DECODING_ERRORS, JPEG_OR_PNG, voc_palette
from misc.workspace import atomic_write

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
TAR_SUFFIXES = (".tar.gz", ".tgz")
SUFFIXES = (*TAR_SUFFIXES, ".zip")
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # one time for all members: the same masks, the same bytes


def submission_suffix(path: Path) -> str:
    """The part of an archive's name that says its kind.

    Raises:
        UserError: if it is not a kind that the server takes.
    """
    for suffix in SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return suffix
    raise UserError(f"--voc_submission {path}: the name must end in {', '.join(SUFFIXES)}.")


def is_submission(path: Path) -> bool:
    """True if an archive holds masks for the server and nothing else, as those written here do."""
    if not path.is_file():
        return False
    try:
        if submission_suffix(path) == ".zip":
            with zipfile.ZipFile(path) as zipped:
                names = zipped.namelist()
        else:
            with tarfile.open(path) as tarred:
                names = tarred.getnames()
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError):
        return False
    return all(name.startswith(f"{FOLDER}/") and name.endswith(".png") for name in names)


def write_submission(
    path: Path,
    masks: Mapping[str, Path],
    image_size: Callable[[str], tuple[int, int]],
    num_classes: int,
) -> None:
    """Write the masks as `results/VOC2012/Segmentation/comp6_test_cls/<id>.png`, or nothing.

    Args:
        path: .tar.gz, .tgz or .zip; an existing submission is replaced.
        masks: the mask of each image of the split.
        image_size: (H,W) of an image.
        num_classes: foreground classes; a mask holds 0 to this, and nothing is ignored.

    Raises:
        UserError: a mask is missing or not as the server takes it; all that are so are named.
    """
    suffix = submission_suffix(path)
    contents, problems = {}, []
    for image_id, mask in masks.items():
        content = mask.read_bytes() if mask.is_file() else b""
        problem = _problem_of(content, image_size(image_id), num_classes)
        if problem is not None:
            problems.append(f"{mask} {problem}")
        contents[f"{FOLDER}/{image_id}.png"] = content
    if problems:
        shown = "\n  ".join(problems[:10])
        raise UserError(
            f"{path} was not written: the server would not accept {len(problems)} masks.\n"
            f"  {shown}\nRun make_seg for them again."
        )
    with atomic_write(path) as file:
        (_write_zip if suffix == ".zip" else _write_tar)(file, contents)
        file.flush()
        _check_archive(Path(file.name), suffix, contents)


def _problem_of(content: bytes, size: tuple[int, int], num_classes: int) -> str | None:
    if not content:
        return "is missing"
    try:
        with Image.open(io.BytesIO(content), formats=JPEG_OR_PNG) as picture:
            kind, mode, palette = picture.format, picture.mode, picture.getpalette()
            mask = np.array(picture)
    except DECODING_ERRORS as error:
        return f"cannot be read ({error})"
    if kind != "PNG" or mode != "P" or palette is None:
        return f"is a {kind} of mode {mode}, not a palette PNG"
    expected = voc_palette().ravel().tolist()
    if palette != expected[: len(palette)] or 3 * int(mask.max()) >= len(palette):
        return "does not have VOC's palette"
    if mask.shape != size:
        return f"is {mask.shape}, but its image is {size}"
    if mask.max() > num_classes:
        return f"holds {mask.max()}, but the last class is {num_classes}"
    return None


def _write_tar(file: BinaryIO, contents: Mapping[str, bytes]) -> None:
    with (
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _write_zip(file: BinaryIO, contents: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)


def _check_archive(path: Path, suffix: str, contents: Mapping[str, bytes]) -> None:
    """Read the archive again and compare names, their number and every byte."""
    found: dict[str, bytes | None] = {}
    if suffix == ".zip":
        with zipfile.ZipFile(path) as zipped:
            found = {name: zipped.read(name) for name in zipped.namelist()}
    else:
        with tarfile.open(path) as tarred:
            for member in tarred:
                stream = tarred.extractfile(member)
                found[member.name] = None if stream is None else stream.read()
    if found != dict(contents):
        raise UserError(f"{path} is damaged after writing. Check the disk and run again.")
