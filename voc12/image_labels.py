"""Image tags: which classes an image shows, from XML, a table, masks or a file of the user's."""

import logging
import os
import re
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from misc.codes import VOID
from misc.errors import UserError, some_images
from misc.log import progress
from misc.workspace import atomic_write, stat_digest
from voc12.decoded import read_class_mask
from voc12.files import VocDataset
from voc12.problems import shorten
from voc12.tag_table import TAGS_FILE, UNKNOWN, read_tag_table
from voc12.tagged_list import read_tagged_list
from voc12.text import is_there, read_regular

logger = logging.getLogger(__name__)

XML_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")
NO_TAGS_REMEDY = (
    f"Put XML files there, put a {TAGS_FILE} into the dataset, or pass --tags_from masks or "
    "--tags_from FILE.npy."
)
ONE_IN = 10  # images without a class are worth a word


class NoTagsError(UserError):
    """There is no file with the tags of an image."""


def read_xml_tags(path: Path, class_names: Sequence[str]) -> np.ndarray:
    """Multi-hot tags (C,) float32 of one image from its XML.

    Raises:
        NoTagsError: if the file is missing.
        UserError: if it is broken or no annotation, or names an unknown class.
    """
    try:
        root = _parse_xml(read_regular(path))
    except FileNotFoundError:
        raise NoTagsError(f"No tags {path}. {NO_TAGS_REMEDY}") from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{path} is not valid XML ({error}). Replace the file.") from None
    if root.tag != "annotation":
        raise UserError(
            f"{path} is no annotation of VOC's kind: it begins with <{root.tag}>, not with "
            "<annotation>. Replace the file."
        )
    names = {str(item.findtext("name", "")).strip() for item in root.iter("object")}
    if "" in names:
        raise UserError(f"{path} has an <object> without a <name>. Correct it.")
    unknown = sorted(names - set(class_names))
    if unknown:
        raise UserError(
            f"{path} names the unknown class {', '.join(unknown)}. Correct it, or list the "
            "classes of your dataset in its classes.txt."
        )
    return np.array([name in names for name in class_names], np.float32)


def _parse_xml(content: bytes) -> ElementTree.Element:
    """The root of an XML document in any encoding that Python knows; its parser knows fewer."""
    try:
        return ElementTree.fromstring(content)
    except (LookupError, ValueError):
        declared = XML_ENCODING.match(content)
        if declared is None:
            raise
        return ElementTree.fromstring(content.decode(declared[1].decode()))


def read_mask_tags(path: Path, num_classes: int) -> np.ndarray:
    """Multi-hot tags (C,) float32 of one image: the classes in its mask, void left out.

    Raises:
        UserError: if the mask is missing, unreadable, or shows a class beyond `num_classes`.
    """
    mask = read_class_mask(path, num_classes)
    shown = np.bincount(mask.ravel(), minlength=VOID + 1) > 0
    return shown[1 : num_classes + 1].astype(np.float32)


def find_tags_source(dataset: VocDataset) -> str:
    """`csv` if the dataset has a tags.csv and not one XML annotation, else `xml`."""
    if not is_there(dataset.root / TAGS_FILE):
        return "xml"
    folder = dataset.root / "Annotations"
    if not folder.is_dir():
        return "csv"
    with os.scandir(folder) as entries:
        return "xml" if any(entry.name.endswith(".xml") for entry in entries) else "csv"


class TagCache:
    """Tags that an earlier run read, in a file; what is new is written by `save` alone."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; it need not exist."""
        self.path = path
        self._held: tuple[str, np.ndarray] | None = None

    def get(self, key: str) -> np.ndarray | None:
        """The tags (N,C) kept under `key`; None without them."""
        if not self.path.exists():
            return None
        try:
            # Opened here, since np.load leaves a damaged archive open.
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as kept:
                return kept["tags"] if str(kept["key"]) == key else None
        except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            logger.warning("%s cannot be read (%s) and is made again", self.path, error)
            return None

    def hold(self, key: str, tags: np.ndarray) -> None:
        """Take tags (N,C) to keep under `key`."""
        self._held = key, tags

    def save(self) -> None:
        """Write what was taken."""
        if self._held is not None:
            key, tags = self._held
            with atomic_write(self.path) as file:
                np.savez_compressed(file, key=np.array(key), tags=tags)
            self._held = None


def read_tags(
    dataset: VocDataset, ids: Sequence[str], source: str = "xml", cache: "TagCache | None" = None
) -> dict[str, np.ndarray]:
    """Tags of each image.

    Args:
        dataset: where the XML files and masks are.
        ids: images.
        source: `xml`, `csv` (the dataset's tags.csv), `masks` (SegmentationClassAug, else
            SegmentationClass), or a path to another such .csv, to a `cls_labels.npy` with
            {id: (C,)} or to a list of WSSS-BED's (.txt).
        cache: keeps tags for the next run; it is used while the sources are unchanged.

    Returns:
        image_id -> multi-hot float32 (C,).

    Raises:
        UserError: naming every image whose tags cannot be obtained.
    """
    if source == "csv":
        return _tags_from_file(dataset.root / TAGS_FILE, ids, dataset.class_names)
    if source not in ("xml", "masks"):
        if not is_there(Path(source)):
            raise UserError(
                f"--tags_from {source}: no such file. Pass xml, csv, masks, a .csv, a .npy or a "
                "list of WSSS-BED's (.txt)."
            )
        return _tags_from_file(Path(source), ids, dataset.class_names)
    path_of = dataset.xml_path if source == "xml" else dataset.augmented_mask_path
    paths = [path_of(image_id) for image_id in ids]
    key = f"{source} {','.join(dataset.class_names)} {stat_digest(paths)}"
    kept = None if cache is None else cache.get(key)
    if kept is not None and len(kept) == len(ids):
        return dict(zip(ids, kept, strict=True))
    tags: dict[str, np.ndarray] = {}
    problems: list[str] = []
    missing: list[Path] = []
    for image_id, path in zip(ids, progress(paths, desc=f"tags from {source}"), strict=True):
        try:
            if source == "xml":
                tags[image_id] = read_xml_tags(path, dataset.class_names)
            else:
                tags[image_id] = read_mask_tags(path, dataset.num_classes)
        except NoTagsError:
            missing.append(path)
        except UserError as error:
            problems.append(str(error))
    if missing:
        others = len(missing) - 1
        more = f", nor for {others} other image{'s' * (others > 1)}" if others else ""
        problems.insert(0, f"No tags {missing[0]}{more}. {NO_TAGS_REMEDY}")
    if problems:
        raise UserError("\n".join(shorten(problems, "tags")))
    if cache is not None:
        cache.hold(key, np.stack(list(tags.values())))
    return tags


def _tags_from_file(
    path: Path, ids: Sequence[str], class_names: Sequence[str]
) -> dict[str, np.ndarray]:
    from misc.cam_files import read_tags_file

    num_classes, kind = len(class_names), path.suffix.lower()
    if kind == ".csv":
        known = read_tag_table(path, class_names)
    else:
        known = read_tagged_list(path, num_classes) if kind == ".txt" else read_tags_file(path)
    missing = [image_id for image_id in ids if image_id not in known]
    if missing:
        line = "Add a line for each, with just the id if it shows no class"
        remedies = {".txt": f" {line}.", ".csv": f" {line}; replace {UNKNOWN} where it stands."}
        remedy = remedies.get(kind, "")
        wanted = set(ids)
        others = [image_id for image_id in known if image_id not in wanted]
        told = f" It has lines for others, such as {others[0]!r}." if others else ""
        raise UserError(f"{path} has no tags for {some_images(missing)}.{remedy}{told}")
    wrong = [i for i in ids if known[i].shape != (num_classes,)]
    if wrong:
        raise UserError(
            f"{path}: {wrong[0]} has tags of shape {known[wrong[0]].shape}, not ({num_classes},)."
        )
    return {image_id: known[image_id].astype(np.float32, copy=False) for image_id in ids}


def few_classes_note(tags: Mapping[str, np.ndarray], ids: Sequence[str]) -> str:
    """What to say if a tenth of the images `ids` or more have no class; "" if fewer have none."""
    empty = [image_id for image_id in ids if not tags[image_id].any()]
    if not empty or len(empty) * ONE_IN < len(ids):
        return ""
    return (
        f"{some_images(empty)} of {len(ids)} have no class: they count as background everywhere. "
        "If they show one, tag them."
    )


def no_classes_problem(tags: Mapping[str, np.ndarray], ids: Sequence[str], split: str) -> list[str]:
    """What is wrong if not one of the images `ids` of a split has a class; nothing if one has."""
    if not ids or any(tags[image_id].any() for image_id in ids):
        return []
    return [
        f"Not one of the {len(ids)} images of {split} has a class, so there is nothing to learn. "
        f"Write the classes into {TAGS_FILE}, or pass --tags_from."
    ]


def class_ids_of(tags: np.ndarray) -> np.ndarray:
    """Class ids (K,) int64, from 1 and ascending, of multi-hot `tags` (C,)."""
    return np.flatnonzero(tags).astype(np.int64) + 1
