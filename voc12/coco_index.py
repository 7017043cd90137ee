"""A COCO annotation file as a list of images, each with the places of its annotations."""

import json
import logging
from array import array
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, NoReturn

import numpy as np

from misc.errors import UserError
from misc.json_stream import Entry, stream_entries
from misc.log import progress
from voc12.classes import MAX_CLASSES
from voc12.files import IMAGE_SUFFIXES
from voc12.lists import check_ids

logger = logging.getLogger(__name__)

REMEDY = "Pass a file like instances_train2014.json."


class CocoImage(NamedTuple):
    """An image of the file: `image_id` names masks and links, `size` is (H,W) if the file tells."""

    image_id: str
    file_name: str
    size: tuple[int, int] | None

    @property
    def link_name(self) -> str:
        """Name below JPEGImages."""
        suffix = PurePosixPath(self.file_name).suffix
        return self.image_id + (suffix if suffix in IMAGE_SUFFIXES else suffix.lower())


@dataclass(frozen=True)
class CocoIndex:
    """What an annotation file holds; the annotations themselves stay in it.

    Attributes:
        path: the file.
        images: its images, in its order.
        class_names: foreground names in the order of the category ids.
        class_ids: category id -> class id from 1, in the order of the category ids.
        num_annotations: annotations of these images.
        num_strays: annotations of images that are not in the file.
        starts, ends: byte places (num_annotations,) of the annotations, image by image, in the
            file's order within one.
        first: number of an image's first annotation (len(images) + 1,).
    """

    path: Path
    images: tuple[CocoImage, ...]
    class_names: tuple[str, ...]
    class_ids: dict[int, int]
    num_annotations: int
    num_strays: int
    starts: np.ndarray
    ends: np.ndarray
    first: np.ndarray

    def spans(self, number: int) -> list[tuple[int, int]]:
        """Byte places [start, end) of the annotations of image `number`, in the file's order."""
        part = slice(self.first[number], self.first[number + 1])
        return list(zip(self.starts[part].tolist(), self.ends[part].tolist(), strict=True))


def read_annotations(path: Path, spans: list[list[tuple[int, int]]]) -> list[list[dict[str, Any]]]:
    """The annotations of several images at the places that `CocoIndex.spans` gave.

    Raises:
        UserError: if the file was changed meanwhile.
    """
    try:
        with open(path, "rb") as file:

            def read(start: int, end: int) -> dict[str, Any]:
                file.seek(start)
                return json.loads(file.read(end - start))

            return [[read(*span) for span in of_image] for of_image in spans]
    except ValueError:
        raise UserError(f"{path} was changed while it was read. Run again.") from None


def read_index(path: Path) -> CocoIndex:
    """Read the file once, entry by entry, and keep images, categories and places.

    Raises:
        UserError: if it is missing, broken or cut off, has no images, annotations or categories, or
            one of them is not as COCO has it.
    """
    gatherer = _Gatherer(path)
    for entry in progress(stream_entries(path), desc=f"reading {path.name}"):
        gatherer.add(entry)
    return gatherer.index()


class _Gatherer:
    """What is known of the file while it is read; its arrays may come in any order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[Hashable, int] = {}  # COCO's image ids, as they are met
        self._images: dict[int, CocoImage] = {}
        self._categories: dict[int, str] = {}
        self._first_of_category: dict[Hashable, Entry] = {}
        self._owners, self._starts, self._ends = array("q"), array("q"), array("q")

    def add(self, entry: Entry) -> None:
        """Take one entry."""
        add = {
            "images": self._add_image,
            "annotations": self._add_annotation,
            "categories": self._add_category,
        }.get(entry.key)
        if add is not None:
            if not isinstance(entry.value, dict):
                self._refuse(entry, "is no object")
            add(entry)

    def _add_image(self, entry: Entry) -> None:
        number = self._numbers.setdefault(self._field(entry, "id", int, str), len(self._numbers))
        if number in self._images:
            self._refuse(entry, f"has the id {entry.value['id']}, as another one has")
        file_name = self._field(entry, "file_name", str)
        as_path = PurePosixPath(file_name)
        if as_path.is_absolute() or ".." in as_path.parts or "\\" in file_name:
            self._refuse(entry, f"has the file name {file_name!r}, which leaves --images")
        image_id = as_path.stem
        if not image_id or image_id != image_id.strip() or not image_id.isprintable():
            self._refuse(entry, f"has the file name {file_name!r}, no name for a line of a list")
        image = CocoImage(image_id, file_name, self._size(entry))
        if PurePosixPath(image.link_name).suffix not in IMAGE_SUFFIXES:
            self._refuse(entry, f"is {file_name!r}, neither a JPEG nor a PNG")
        self._images[number] = image

    def _size(self, entry: Entry) -> tuple[int, int] | None:
        height, width = entry.value.get("height"), entry.value.get("width")
        if height is None and width is None:
            return None
        size = self._field(entry, "height", int), self._field(entry, "width", int)
        if min(size) < 1:
            self._refuse(entry, f"has the size {width}x{height}")
        return size

    def _add_annotation(self, entry: Entry) -> None:
        image_id = self._field(entry, "image_id", int, str)
        self._first_of_category.setdefault(self._field(entry, "category_id", int), entry)
        self._owners.append(self._numbers.setdefault(image_id, len(self._numbers)))
        self._starts.append(entry.start)
        self._ends.append(entry.end)

    def _add_category(self, entry: Entry) -> None:
        category_id = self._field(entry, "id", int)
        name = self._field(entry, "name", str)
        if category_id in self._categories or name in self._categories.values():
            self._refuse(entry, f"repeats the id {category_id} or the name {name!r}")
        if not name.strip() or name != name.strip() or not name.isprintable():
            self._refuse(entry, f"has the name {name!r}, which is no line of classes.txt")
        self._categories[category_id] = name

    def _field(self, entry: Entry, name: str, *kinds: type) -> Any:
        value = entry.value.get(name)
        if not isinstance(value, kinds) or isinstance(value, bool):
            stated = f"the {name} {value!r}" if name in entry.value else f"no {name}"
            self._refuse(entry, f"has {stated}")
        return value

    def _refuse(self, entry: Entry, reason: str) -> NoReturn:
        which = entry.value.get("id") if isinstance(entry.value, dict) else None
        raise UserError(
            f"{self._path}: entry {which!r} of its {entry.key} (byte {entry.start}) {reason}. "
            f"Correct it. {REMEDY}"
        )

    def index(self) -> CocoIndex:
        """The index of all that was taken."""
        if not (self._images and self._categories and len(self._owners)):
            raise UserError(
                f"{self._path} has {len(self._images)} images, {len(self._categories)} categories "
                f"and {len(self._owners)} annotations: it needs some of each. {REMEDY}"
            )
        if len(self._categories) > MAX_CLASSES:
            raise UserError(
                f"{self._path} has {len(self._categories)} categories: a mask holds {MAX_CLASSES}."
            )
        for category_id, entry in self._first_of_category.items():
            if category_id not in self._categories:
                self._refuse(entry, f"has the category_id {category_id}, which no category has")
        check_ids([image.image_id for image in self._images.values()], self._path)
        ordered = sorted(self._categories)
        return CocoIndex(
            path=self._path,
            images=tuple(self._images.values()),
            class_names=tuple(self._categories[category_id] for category_id in ordered),
            class_ids={category_id: i for i, category_id in enumerate(ordered, start=1)},
            **self._places(),
        )

    def _places(self) -> dict[str, Any]:
        position = np.full(len(self._numbers), -1)
        position[list(self._images)] = np.arange(len(self._images))
        owners = position[np.asarray(self._owners)]
        order = np.argsort(owners, kind="stable")  # the file's order within an image
        strays = int(np.count_nonzero(owners < 0))
        order = order[strays:]
        counts = np.bincount(owners[order], minlength=len(self._images))
        return {
            "num_annotations": len(order),
            "num_strays": strays,
            "starts": np.asarray(self._starts)[order],
            "ends": np.asarray(self._ends)[order],
            "first": np.concatenate([[0], np.cumsum(counts)]),
        }
