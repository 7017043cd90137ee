"""Photographs in a folder of the user's: in it, in JPEGImages, or in folders named by classes."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from misc.errors import UserError
from voc12.files import IMAGE_SUFFIXES
from voc12.links import is_linked
from voc12.lists import check_ids

SUFFIXES = {suffix.lower() for suffix in IMAGE_SUFFIXES}
# What cameras and browsers also write, and no step reads.
OTHER_SUFFIXES = {
    ".heic", ".heif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".jfif", ".dng", ".nef",
    ".cr2", ".arw",
}  # fmt: skip
OWN_FOLDERS = {
    "JPEGImages", "Annotations", "ImageSets", "Sal", "SegmentationClass", "SegmentationClassAug",
    "SegmentationObject",
}  # fmt: skip


@dataclass
class Photographs:
    """Photographs of a dataset.

    Attributes:
        paths: image id -> where its photograph lies.
        classes: image id -> its class, where the folder that it lies in is named by that.
        left_out: pictures of formats that no step reads.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)

    def add(self, folder: Path, class_name: str = "") -> None:
        """Take those of a folder; a class is put before the ids, which repeat between classes.

        Raises:
            UserError: if two would have the same id.
        """
        for path in _visible(folder):
            if path.suffix.lower() in OTHER_SUFFIXES:
                self.left_out.append(path)
            if not _is_photograph(path):
                continue
            image_id = path.stem
            if class_name:
                starts_with_it = image_id.startswith(f"{class_name}_")
                image_id = image_id if starts_with_it else f"{class_name}_{image_id}"
                self.classes[image_id] = class_name
            known = self.paths.get(image_id)
            if known is not None and not is_linked(known, path):
                raise UserError(f"{known} and {path} would have the same id. Rename one of them.")
            self.paths.setdefault(image_id, path)


def _is_photograph(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder that are no parts of a dataset."""
    return [path for path in _visible(folder) if path.is_dir() and path.name not in OWN_FOLDERS]


def find_photographs(folder: Path, class_names: Sequence[str] = ()) -> Photographs:
    """The photographs of a folder, or of the folders in it, one for each class.

    Args:
        folder: holds the photographs.
        class_names: what the folders in it may be called; empty: anything.

    Raises:
        UserError: if there are none, or it is not clear what they show.
    """
    if not folder.is_dir():
        raise UserError(f"--images {folder} is not a folder.")
    found, of_classes = Photographs(), Photographs()
    found.add(folder)
    for path in _folders(folder):
        of_classes.add(path, path.name)
    if not found.paths and not of_classes.paths:
        kinds = ", ".join(sorted(SUFFIXES))
        raise UserError(f"{folder} holds no photographs ({kinds}), nor do the folders in it.")
    if not of_classes.paths:
        return found
    folders = sorted(set(of_classes.classes.values()))
    if found.paths:
        raise UserError(
            f"{folder} holds photographs, and a folder of photographs {folders[0]}. Name the one "
            f"that is meant with --images, or put all photographs into folders of their classes."
        )
    unknown = [name for name in folders if class_names and name not in class_names]
    if unknown:
        raise UserError(
            f"{folder / unknown[0]} holds photographs, but --classes does not name {unknown[0]}. "
            "Add the class, or move the folder away."
        )
    if len(folders) == 1 and not class_names:
        raise UserError(
            f"{folder / folders[0]} is the only folder of photographs. Pass --images "
            f"{shlex.quote(str(folder / folders[0]))}, or --classes {folders[0]} if that is what "
            "they show."
        )
    return of_classes


def dataset_photographs(
    root: Path, images: Path | None = None, class_names: Sequence[str] = ()
) -> Photographs:
    """The photographs that a dataset has, and those that are to join it.

    Args:
        root: the dataset's folder.
        images: the folder of those to join; by default they lie in `root` itself.
        class_names: what folders in `images` may be called.

    Raises:
        UserError: if there are none, two would have the same id, or an id is none.
    """
    home, found = root / "JPEGImages", Photographs()
    if home.is_dir():
        found.add(home)
        misnamed = [p for p in found.paths.values() if p.suffix not in IMAGE_SUFFIXES]
        if misnamed:
            raise UserError(
                f"{misnamed[0]}: no step looks for the ending {misnamed[0].suffix}. Rename it to "
                f"{misnamed[0].stem}{misnamed[0].suffix.lower()}."
            )
    if images is not None:
        joining = find_photographs(images, class_names)
    else:
        joining = Photographs()
        joining.add(root)
    for image_id, path in joining.paths.items():
        known = found.paths.setdefault(image_id, path)
        if not is_linked(known, path):
            raise UserError(f"{known} and {path} would have the same id. Rename one of them.")
    found.classes |= joining.classes
    found.left_out += joining.left_out
    if not found.paths:
        inner = [path for path in _folders(root) if any(map(_is_photograph, path.iterdir()))]
        folder = shlex.quote(str(inner[0] if len(inner) == 1 else root))
        hint = f", such as {folder}" if inner else ""
        raise UserError(
            f"{root} holds no photographs. Put them into {home}, or name their folder with "
            f"--images{hint}: they are linked, and stay where they are."
        )
    for image_id in found.paths:
        if image_id != image_id.strip() or "\n" in image_id:
            raise UserError(f"{found.paths[image_id]}: the name has spaces at an end. Rename it.")
    check_ids(list(found.paths), root)
    return found
