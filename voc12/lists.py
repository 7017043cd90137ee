"""Lists of image ids: read, checked, and found where the dataset has none."""

import re
from collections.abc import Sequence
from pathlib import Path

from misc.errors import UserError
from misc.workspace import LONGEST_NAME
from voc12.classes import VOC_CLASSES
from voc12.files import CRF_SUFFIX, PROJECT, VocDataset
from voc12.tagged_list import ids_if_tagged
from voc12.text import is_there, read_lines

TRAIN_AUG, VAL = "train_aug", "val"  # the lists that a dataset may lack
LONGEST_ENDING = f"{CRF_SUFFIX}.png"  # of the files that steps name by ids
OLDER_LINE = re.compile(r"/?JPEGImages/(.+?)\.(?:jpe?g|png)(?:\s.*)?", re.IGNORECASE)


def read_list(path: Path, dataset: VocDataset | None = None) -> list[str]:
    """Image ids of a list file, in its order.

    A line is an id, any string; `/JPEGImages/<id>.jpg ...` of the older lists is understood, and
    so is WSSS-BED's `<id> c c`. `photo 1` may be an id or the image `photo` of class 1: which of
    the two, the photographs tell.

    Args:
        path: the list.
        dataset: has the photographs; without it no line is WSSS-BED's.

    Raises:
        UserError: if the file is missing, empty or not UTF-8, repeats an id, has one that is no
            file name, or can be read in both ways.
    """
    if not is_there(path) or path.is_dir():
        what = f"The list {path} is a folder" if path.is_dir() else f"No list {path}"
        raise UserError(f"{what}. Write one image id per line, or choose another list.")
    lines = read_lines(path)
    if not lines:
        raise UserError(f"The list {path} is empty: it needs at least one image id.")
    older_lines = [OLDER_LINE.fullmatch(line) for line in lines]
    ids = [
        line if older is None else older[1] for line, older in zip(lines, older_lines, strict=True)
    ]
    if dataset is not None and not any(older_lines):
        ids = _without_classes(lines, path, dataset)
    check_ids(ids, path)
    return ids


def _without_classes(lines: list[str], path: Path, dataset: VocDataset) -> list[str]:
    """The lines, or the ids in them where they are those of WSSS-BED's lists.

    Raises:
        UserError: if there are photographs for both.
    """
    ids = ids_if_tagged(lines)
    if ids is None:
        return lines
    with_classes = [pair for pair in zip(lines, ids, strict=True) if pair[0] != pair[1]]
    whole = [line for line, _ in with_classes if dataset.image_path(line).exists()]
    shorter = [image_id for _, image_id in with_classes if dataset.image_path(image_id).exists()]
    if whole and shorter:
        raise UserError(
            f"{path} can be read in two ways: {whole[0]!r} is a photograph, and so is "
            f"{shorter[0]!r}, with classes after it. If the lines are ids, write one of them as "
            f"JPEGImages/{whole[0]}.jpg. If classes follow the ids, leave them out."
        )
    return ids if shorter else lines


def check_ids(ids: Sequence[str], source: Path) -> None:
    """Refuse ids that cannot name files of their own.

    Raises:
        UserError: for repeated ids, ids with path separators, ids that are no UTF-8 or too long for
            the names of files, and `a` beside `a_crf`.
    """
    known = set(ids)
    if len(known) < len(ids):
        seen: set[str] = set()
        repeated = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
        raise UserError(f"{source} names {repeated[0]} twice. Remove one of the lines.")
    for image_id in ids:
        if "/" in image_id or "\\" in image_id or "\0" in image_id or image_id in (".", ".."):
            raise UserError(f"{source}: {image_id!r} cannot be part of a file name.")
        _check_bytes(image_id, source)
        if image_id.endswith(CRF_SUFFIX) and image_id.removesuffix(CRF_SUFFIX) in known:
            raise UserError(
                f"{source}: the masks of {image_id!r} and {image_id.removesuffix(CRF_SUFFIX)!r} "
                f"would have the same name ({image_id}.png). Rename one of the images."
            )


def _check_bytes(image_id: str, source: Path) -> None:
    try:
        length = len(f"{image_id}{LONGEST_ENDING}".encode())
    except UnicodeEncodeError:
        raise UserError(f"{source}: the name {image_id!r} is not UTF-8. Rename the file.") from None
    if length > LONGEST_NAME:
        longest = LONGEST_NAME - len(LONGEST_ENDING)
        raise UserError(
            f"{source}: {image_id[:40]}... is too long for the names of files that are made of it. "
            f"Rename the image: an id may have {longest} bytes."
        )


def split_ids(
    dataset: VocDataset, split: str, *, train: str = "train", val: str = VAL
) -> list[str]:
    """Image ids of a split of `dataset`.

    Args:
        dataset: the dataset.
        split: a list file, or the name of one under ImageSets/Segmentation. Where the name
            `train_aug` has none, it is VOC 2012's own if the dataset surely is that, else every id
            of SegmentationClassAug that is not in `val`, else `train`.
        train: the split that stands in for train_aug.
        val: the split that train_aug leaves out.

    Raises:
        UserError: if there is no such list or it is bad.
    """
    path = dataset.list_path(split)
    if is_there(path) or split != TRAIN_AUG:
        return read_list(path, dataset)
    return _ids_for_train_aug(dataset, val) or read_list(dataset.list_path(train), dataset)


def _ids_for_train_aug(dataset: VocDataset, val: str) -> list[str]:
    """What stands in for train_aug besides train: none where there is nothing."""
    if not is_voc12(dataset):
        return augmented_ids(dataset, val)
    left_out = set(val_ids_if_any(dataset, val))
    return [i for i in read_list(shipped_list(TRAIN_AUG)) if i not in left_out]


def stand_in_note(dataset: VocDataset, split: str, *, train: str = "train", val: str = VAL) -> str:
    """What stands in for a missing list in `split_ids`, where a user may not expect it; else "".

    Datasets with classes of their own have no train_aug: train stands in, and nothing is said.
    """
    path = dataset.list_path(split)
    if is_there(path) or split != TRAIN_AUG:
        return ""
    if ids := _ids_for_train_aug(dataset, val):
        where = "SegmentationClassAug"
        if is_voc12(dataset):
            where = "VOC 2012, which come with this project"
        return f"{path} is missing: training on the {len(ids)} ids of {where}."
    if dataset.class_names != VOC_CLASSES:
        return ""
    return f"{path} and SegmentationClassAug are missing: training on {train} alone."


def shipped_list(name: str) -> Path:
    """A list of VOC 2012 that comes with the project: train, val, test or train_aug."""
    return PROJECT / "voc12" / f"{name}.txt"


def is_voc12(dataset: VocDataset) -> bool:
    """True if the dataset surely is VOC 2012: by its classes and by the images of its train.txt."""
    train = dataset.list_path("train")
    return (
        dataset.class_names == VOC_CLASSES
        and train.is_file()
        and set(read_lines(train)) == set(read_lines(shipped_list("train")))
    )


def val_ids_if_any(dataset: VocDataset, val: str = VAL) -> list[str]:
    """Ids of the split `val`; none where it is the usual one and the dataset has no such list.

    Raises:
        UserError: if the list is bad, or is not the usual one and missing.
    """
    path = dataset.list_path(val)
    return [] if val == VAL and not is_there(path) else read_list(path, dataset)


def augmented_ids(dataset: VocDataset, val: str = VAL) -> list[str]:
    """Ids with a mask in SegmentationClassAug, those of `val` left out, in alphabetical order.

    Raises:
        UserError: if one of them cannot name files of its own, or the list `val` is bad.
    """
    folder = dataset.root / "SegmentationClassAug"
    left_out = set(val_ids_if_any(dataset, val))
    ids = sorted(path.stem for path in folder.glob("*.png") if path.stem not in left_out)
    check_ids(ids, folder)
    return ids
