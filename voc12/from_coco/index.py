"""A COCO annotation file as a list of images, each with its annotations."""

import json
import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, NoReturn

from misc.errors import UserError
from voc12.classes import MAX_CLASSES
from voc12.files import IMAGE_SUFFIXES
from voc12.lists import check_ids
from voc12.text import read_regular

logger = logging.getLogger(__name__)

REMEDY = "Pass a file like instances_train2014.json."


class CocoImage(NamedTuple):
    """An image of the file.

    Attributes:
        image_id: what names its mask and its link.
        file_name: its path below --images.
        size: (H,W), if the file tells.
        annotations: COCO's objects, in the order of the file.
    """

    image_id: str
    file_name: str
    size: tuple[int, int] | None
    annotations: list[dict[str, Any]]

    @property
    def link_name(self) -> str:
        """Name below JPEGImages."""
        suffix = PurePosixPath(self.file_name).suffix
        return self.image_id + (suffix if suffix in IMAGE_SUFFIXES else suffix.lower())


@dataclass(frozen=True)
class CocoIndex:
    """What an annotation file holds.

    Attributes:
        path: the file.
        images: its images, in its order.
        class_names: foreground names in the order of the category ids.
        class_ids: category id -> class id from 1, in the order of the category ids.
        num_strays: annotations of images that are not in the file.
    """

    path: Path
    images: tuple[CocoImage, ...]
    class_names: tuple[str, ...]
    class_ids: dict[int, int]
    num_strays: int


def read_index(path: Path) -> CocoIndex:
    """Read an annotation file; train2014's takes about 3 GB of memory.

    Raises:
        UserError: if it is missing, broken or cut off, has no images, annotations or categories, or
            one of them is not as COCO has it.
    """
    logger.info("reading %s", path)
    try:
        content = json.loads(read_regular(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}. Correct its name.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is not a complete JSON file ({error}). Download or write it again."
        ) from None
    return _CocoFile(path, content if isinstance(content, dict) else {}).index()


class _CocoFile:
    """The checks of a file's entries, whose complaints name file and entry."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self._path, self._content = path, content

    def index(self) -> CocoIndex:
        categories = self._categories()
        images = self._images()
        num_annotations = num_strays = 0
        for annotation in self._entries("annotations"):
            category_id = self._field("annotations", annotation, "category_id", int)
            if category_id not in categories:
                reason = f"has the category_id {category_id}, which no category has"
                self._refuse("annotations", annotation, reason)
            image = images.get(self._field("annotations", annotation, "image_id", int, str))
            num_annotations += 1
            if image is None:
                num_strays += 1
            else:
                image.annotations.append(annotation)
        if not (images and categories and num_annotations):
            raise UserError(
                f"{self._path} has {len(images)} images, {len(categories)} categories and "
                f"{num_annotations} annotations: it needs some of each. {REMEDY}"
            )
        check_ids([image.image_id for image in images.values()], self._path)
        return CocoIndex(
            path=self._path,
            images=tuple(images.values()),
            class_names=tuple(categories[category_id] for category_id in sorted(categories)),
            class_ids={category_id: i for i, category_id in enumerate(sorted(categories), start=1)},
            num_strays=num_strays,
        )

    def _categories(self) -> dict[int, str]:
        categories: dict[int, str] = {}
        for entry in self._entries("categories"):
            category_id = self._field("categories", entry, "id", int)
            name = self._field("categories", entry, "name", str)
            if category_id in categories or name in categories.values():
                reason = f"repeats the id {category_id} or the name {name!r}"
                self._refuse("categories", entry, reason)
            if not name.strip() or name != name.strip() or not name.isprintable():
                reason = f"has the name {name!r}, which cannot be a line of classes.txt"
                self._refuse("categories", entry, reason)
            categories[category_id] = name
        if len(categories) > MAX_CLASSES:
            raise UserError(
                f"{self._path} has {len(categories)} categories, more than the {MAX_CLASSES} that "
                "a mask can hold."
            )
        return categories

    def _images(self) -> dict[Hashable, CocoImage]:
        images: dict[Hashable, CocoImage] = {}
        for entry in self._entries("images"):
            key = self._field("images", entry, "id", int, str)
            if key in images:
                self._refuse("images", entry, f"has the id {key}, which another one also has")
            file_name = self._field("images", entry, "file_name", str)
            as_path = PurePosixPath(file_name)
            if as_path.is_absolute() or ".." in as_path.parts or "\\" in file_name:
                reason = f"has the file name {file_name!r}, which is outside --images"
                self._refuse("images", entry, reason)
            image_id = as_path.stem
            if not image_id or image_id != image_id.strip() or not image_id.isprintable():
                reason = f"has the file name {file_name!r}, which cannot be a line of a list"
                self._refuse("images", entry, reason)
            image = CocoImage(image_id, file_name, self._size(entry), [])
            if PurePosixPath(image.link_name).suffix not in IMAGE_SUFFIXES:
                self._refuse("images", entry, f"is {file_name!r}, neither a JPEG nor a PNG")
            images[key] = image
        return images

    def _size(self, entry: Mapping[str, Any]) -> tuple[int, int] | None:
        if entry.get("height") is None and entry.get("width") is None:
            return None
        height, width = (self._field("images", entry, n, int) for n in ("height", "width"))
        if min(height, width) < 1:
            self._refuse("images", entry, f"has the size {width}x{height}")
        return height, width

    def _entries(self, key: str) -> list[dict[str, Any]]:
        entries = self._content.get(key, [])
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, dict):
                self._refuse(key, {}, "is not an object")
        return entries

    def _field(self, key: str, entry: Mapping[str, Any], name: str, *kinds: type) -> Any:
        value = entry.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            stated = f"the {name} {value!r}" if name in entry else f"no {name}"
            self._refuse(key, entry, f"has {stated}")
        return value

    def _refuse(self, key: str, entry: Mapping[str, Any], reason: str) -> NoReturn:
        which = entry.get("id")
        raise UserError(
            f"{self._path}: entry {which!r} of its {key} {reason}. Correct it. {REMEDY}"
        )
