"""A dataset in VOC layout: which files belong to an image, and how they are read."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from misc.errors import UserError
from misc.picture_header import END_BYTES, END_MARKS, size_from_header
from misc.pictures import DECODING_ERRORS, JPEG_OR_PNG, PNG_ONLY, open_picture, open_regular
from voc12.classes import read_class_names

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".JPG", ".JPEG", ".png")


@dataclass(frozen=True)
class VocDataset:
    """Paths and readers of a dataset in VOC layout; `saliency_root` None means no saliency."""

    root: Path
    class_names: tuple[str, ...]
    saliency_root: Path | None = None

    @staticmethod
    def open(root: Path, saliency_root: Path | None = None) -> "VocDataset":
        """The dataset at `root`, with its class names.

        Raises:
            UserError: if `root` is no folder or its classes.txt is bad.
        """
        if not root.is_dir():
            raise UserError(f"{root} is no folder. --data_root names the folder of JPEGImages.")
        return VocDataset(root, read_class_names(root), saliency_root)

    @property
    def num_classes(self) -> int:
        """Number of foreground classes."""
        return len(self.class_names)

    def image_path(self, image_id: str) -> Path:
        """The photograph: the first of .jpg, .jpeg, .png that exists, .jpg if none does."""
        # Plain strings: every start of a run comes here once for each image.
        stem = f"{self.root}/JPEGImages/{image_id}"
        found = (suffix for suffix in IMAGE_SUFFIXES if os.path.exists(stem + suffix))
        return Path(stem + next(found, IMAGE_SUFFIXES[0]))

    def xml_path(self, image_id: str) -> Path:
        """The annotation with the objects' names."""
        return self.root / "Annotations" / f"{image_id}.xml"

    def mask_path(self, image_id: str) -> Path:
        """The exact mask, for scores only."""
        return self.root / "SegmentationClass" / f"{image_id}.png"

    def augmented_mask_path(self, image_id: str) -> Path:
        """The mask of the augmented set (SBD), falling back to the exact one."""
        path = self.root / "SegmentationClassAug" / f"{image_id}.png"
        return path if path.exists() else self.mask_path(image_id)

    def saliency_path(self, image_id: str) -> Path:
        """The saliency map.

        Raises:
            ValueError: if the dataset was opened without saliency.
        """
        if self.saliency_root is None:
            raise ValueError("this dataset was opened without saliency maps")
        return self.saliency_root / f"{image_id}.png"

    def list_path(self, split: str) -> Path:
        """File of a split: a path as it is, else a name under ImageSets/Segmentation.

        What names a folder is a path, whether it exists or not; so is `x.txt` where it exists.
        """
        path = Path(split)
        if len(path.parts) > 1 or (path.suffix == ".txt" and path.is_file()):
            return path
        return self.root / "ImageSets" / "Segmentation" / f"{split.removesuffix('.txt')}.txt"


def read_image(path: Path) -> np.ndarray:
    """A photograph as uint8 RGB (H,W,3), from a JPEG or PNG whatever its name.

    Gray, CMYK, palette and 16-bit files are converted.

    Raises:
        UserError: if the file is missing or cannot be decoded.
    """
    try:
        with open_picture(path) as picture:
            picture.load()
            # A transparent colour would only make Pillow warn; alpha is no part of a photograph.
            picture.info.pop("transparency", None)
            # Pillow would cut off above 255; before its version 11, 16-bit files were of mode I.
            if picture.mode == "I" or picture.mode.startswith("I;16"):
                return np.stack([(np.asarray(picture) >> 8).astype(np.uint8)] * 3, axis=-1)
            return np.array(picture.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"No image {path}. Put it there or take its id off the list.") from None
    except DECODING_ERRORS as error:
        raise UserError(f"Cannot read the image {path}: {error}. Replace the file.") from None


def read_mask(path: Path) -> np.ndarray:
    """A mask of class ids as uint8 (H,W), 255 = ignore, from a palette or gray PNG.

    Raises:
        UserError: if the file is missing, cannot be decoded, or holds colours instead of ids.
    """
    try:
        with open_picture(path, PNG_ONLY) as picture:
            if picture.mode not in ("P", "L"):
                raise UserError(
                    f"{path} has mode {picture.mode}: a mask is a palette or gray PNG of class ids."
                )
            return np.array(picture)
    except FileNotFoundError:
        raise UserError(f"No mask {path}. Put it there or score another split.") from None
    except DECODING_ERRORS as error:
        raise UserError(f"Cannot read the mask {path}: {error}. Replace the file.") from None


def image_size(path: Path, formats: tuple[str, ...] = JPEG_OR_PNG) -> tuple[int, int]:
    """(H, W) of a picture from its header; nothing is decoded.

    Args:
        path: the file.
        formats: what may belong there: PNG, JPEG or both.

    Raises:
        UserError: if the file is missing, no such picture, or cut off before its end.
    """
    try:
        found = size_from_header(path, formats)
        if found is not None:
            return found
        with open_picture(path, formats) as picture:
            width, height = picture.size
            kind = picture.format
        if _is_cut_off(path, kind):
            raise UserError(f"{path} is cut off before its end. Replace the file.")
        return height, width
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except DECODING_ERRORS as error:
        raise UserError(f"{path} is no readable picture ({error}). Replace the file.") from None


def _is_cut_off(path: Path, kind: str | None) -> bool:
    """True if the end mark of a PNG or JPEG is missing and decoding confirms it."""
    mark = END_MARKS.get(kind or "")
    if mark is None:
        return False
    with open_regular(path) as file:
        file.seek(0, 2)
        file.seek(max(file.tell() - END_BYTES, 0))
        if mark in file.read():
            return False
    try:
        with open_picture(path) as picture:
            picture.load()
    except DECODING_ERRORS:
        return True
    return False
