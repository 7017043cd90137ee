"""Any folder of masks against the exact ones: what `step.score` and `step.compare` share."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misc.codes import VOID
from misc.config import parse_names
from misc.errors import UserError, some_images
from misc.images import read_mask
from misc.log import progress
from misc.metrics import BOUNDARY_TOLERANCE, ConfusionMatrix, boundary_f
from misc.runtime import WorkerPool, available_cpus
from misc.workspace import read_json
from step.common.scores import IMAGES_A_TASK, by_name, chunks, naming, percent, scores_to_json
from voc12.classes import class_indices
from voc12.files import CRF_SUFFIX, VocDataset, mask_paths
from voc12.lists import split_ids

FilesOfImage = tuple[Path, list[Path]]  # of one image: its exact mask, those to be scored


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that both tools have."""
    add = parser.add_argument
    add(
        "--data_root", "--voc12_root", dest="root", type=Path, required=True,
        metavar="DIR", help="dataset with the exact masks",
    )  # fmt: skip
    add("--split", default="val", help="images to score: a list file or its name (default: val)")
    add(
        "--suffix", default=None,
        help=f"what follows the id in the names: '' or {CRF_SUFFIX} (default: {CRF_SUFFIX} if all "
        "images have such masks, else '')",
    )  # fmt: skip
    add(
        "--eval_classes", type=parse_names, default=(), metavar="A,B",
        help="also report the mIoU over background and these classes: cat,dog",
    )  # fmt: skip
    add("--to", type=Path, metavar="DIR", help="folder to write the results to")
    add("--num_workers", type=int, default=available_cpus(), help="worker processes; 0: none")


def demand_own_results(folder: Path | None, names: Sequence[str], keys: set[str]) -> None:
    """Refuse to write over files in `--to` that the tool did not write.

    Args:
        folder: `--to`; None where nothing is written.
        names: what would be written; the first is JSON, by which an earlier result is known.
        keys: some that this JSON has.

    Raises:
        UserError: naming such a file.
    """
    there = [] if folder is None else [path for name in names if (path := folder / name).exists()]
    if not there:
        return
    try:
        content = read_json(there[0]) if there[0].name == names[0] else None
    except (UserError, OSError):
        content = None
    if not (isinstance(content, dict) and keys <= content.keys()):
        raise UserError(f"{there[0]} is there, and was not written here. Choose another --to.")


@dataclass(frozen=True)
class ScoredSplit:
    """What masks are scored against: the images of a split, and their exact masks.

    The mask of the augmented set (SegmentationClassAug) stands in where an image has no exact one.

    Attributes:
        dataset: the dataset.
        name: of the split.
        ids: its images.
        truth: the mask of each.
        eval_classes: classes whose mean is reported too.
    """

    dataset: VocDataset
    name: str
    ids: list[str]
    truth: dict[str, Path]
    eval_classes: tuple[str, ...] = ()

    @staticmethod
    def of(args: argparse.Namespace) -> "ScoredSplit":
        """The split that the flags name.

        Raises:
            UserError: if the dataset, the list or a mask is missing, or a class is unknown.
        """
        dataset = VocDataset.open(args.root)
        class_indices(dataset.class_names, args.eval_classes)
        ids = split_ids(dataset, args.split)
        exact = {image_id: dataset.mask_path(image_id) for image_id in ids}
        truth = {
            i: path if path.exists() else dataset.augmented_mask_path(i)
            for i, path in exact.items()
        }
        if missing := [image_id for image_id, path in truth.items() if not path.exists()]:
            raise UserError(
                f"{args.root} lacks the exact masks of {some_images(missing)}: "
                f"{truth[missing[0]]}. Put them there, or score another --split."
            )
        return ScoredSplit(dataset, args.split, ids, truth, args.eval_classes)

    @property
    def num_augmented(self) -> int:
        """How many masks of the augmented set stand in."""
        return sum(self.truth[i] != self.dataset.mask_path(i) for i in self.ids)

    def describe(self) -> str:
        """What it is, in words."""
        stand_in = f", {self.num_augmented} by masks of SegmentationClassAug"
        return (
            f"{len(self.ids)} images of {self.name} ({self.dataset.root})"
            f"{stand_in * bool(self.num_augmented)}"
        )

    def to_json(self) -> dict[str, Any]:
        """What it is, for results."""
        return {
            "data_root": str(self.dataset.root),
            "split": self.name,
            "images": len(self.ids),
            "images_of_augmented_set": self.num_augmented,
        }


@dataclass(frozen=True)
class MaskFolder:
    """A folder of masks, `<id><suffix>.png`, with one for each image of a split.

    Attributes:
        name: what it is called in tables.
        path: the folder.
        suffix: `_crf` or "".
        files: the mask of each image.
    """

    name: str
    path: Path
    suffix: str
    files: dict[str, Path]

    @staticmethod
    def find(path: Path, suffix: str | None, ids: Sequence[str], name: str = "") -> "MaskFolder":
        """The masks of `ids` in a folder; `suffix` None takes those after the CRF if all are there.

        Raises:
            UserError: if some are missing.
        """
        if not path.is_dir():
            raise UserError(f"{path} is not a folder of masks.")
        if suffix is None:
            files = mask_paths(path, ids)
            suffix = files[ids[0]].stem.removeprefix(ids[0])
        else:
            files = {image_id: path / f"{image_id}{suffix}.png" for image_id in ids}
        if missing := [image_id for image_id in ids if not files[image_id].is_file()]:
            raise UserError(
                f"{path} lacks the masks of {some_images(missing)}, such as "
                f"{files[missing[0]].name}. Add them, or choose another --suffix or "
                "--split, which may be a file with the ids that are there."
            )
        return MaskFolder(name or path.name or str(path), path, suffix, files)


@dataclass(frozen=True)
class FolderScores:
    """The scores of a folder of masks.

    Attributes:
        confusion: all pixels.
        counts: (N,3,C) of each image, as `ConfusionMatrix.counts` with unscored pixels as wrong.
        boundary: (N,C) boundary F-measure of each image.
    """

    confusion: ConfusionMatrix
    counts: NDArray[np.int64]
    boundary: NDArray[np.float64]

    @staticmethod
    def of_none(num_images: int, num_classes: int) -> "FolderScores":
        """Scores of so many images before any is counted."""
        counts = np.zeros((num_images, 3, num_classes), np.int64)
        boundary = np.full((num_images, num_classes), np.nan)
        return FolderScores(ConfusionMatrix(num_classes), counts, boundary)

    def put(self, places: Sequence[int], part: "FolderScores") -> None:
        """Take over those of a part of the images, which have these places."""
        self.confusion.merge(part.confusion)
        self.counts[places] = part.counts
        self.boundary[places] = part.boundary

    @property
    def ignored(self) -> float:
        """Share of the scored pixels whose prediction is no class (255), 0..1."""
        unscored = int(self.confusion.unscored.sum())
        return unscored / max(unscored + int(self.confusion.matrix.sum()), 1)

    def boundary_by_class(self) -> NDArray[np.float64]:
        """Mean boundary F-measure (C,) of each class over the images that have it; NaN for none."""
        occurs = ~np.isnan(self.boundary)
        number = occurs.sum(axis=0)
        total = np.where(occurs, self.boundary, 0).sum(axis=0)
        return np.where(number == 0, np.nan, total / np.maximum(number, 1))

    def to_json(self, class_names: Sequence[str], eval_classes: Sequence[str]) -> dict[str, Any]:
        """All scores by the names of the classes; null for a class that does not occur.

        Returns:
            what `scores_to_json` does, by chainercv's protocol, which leaves ignored pixels out;
            `strict`, the same with these counted as wrong; `ignored`, their share; `boundary_f`,
            the mean over the classes, and `boundary_f_by_class`, each over its images;
            `confusion` and `unscored`, in pixels.
        """
        strict = self.confusion.scores(count_unscored=True)
        by_class = self.boundary_by_class()
        known = by_class[~np.isnan(by_class)]
        return {
            **scores_to_json(self.confusion.scores(), class_names, eval_classes),
            "strict": scores_to_json(strict, class_names, eval_classes),
            "ignored": self.ignored,
            "boundary_f": float(known.mean()) if known.size else None,
            "boundary_f_by_class": by_name(("background", *class_names), by_class),
            "boundary_tolerance": BOUNDARY_TOLERANCE,
            "confusion": self.confusion.matrix.tolist(),
            "unscored": self.confusion.unscored.tolist(),
        }


def score_folders(
    split: ScoredSplit, folders: Sequence[MaskFolder], num_workers: int
) -> list[FolderScores]:
    """Score folders of masks in one pass; each exact mask is read once.

    Raises:
        UserError: if a mask cannot be read, does not fit, or holds a class that is unknown.
    """
    num_classes = split.dataset.num_classes + 1
    scores = [FolderScores.of_none(len(split.ids), num_classes) for _ in folders]
    tasks = [
        (places, num_classes, [_files_of(split, folders, split.ids[k]) for k in places])
        for places in chunks(range(len(split.ids)))
    ]
    with WorkerPool(num_workers) as pool:
        scored = pool.map(_score, tasks)
        total = len(split.ids)
        for places, parts in progress(scored, desc="scoring", total=total, each=IMAGES_A_TASK):
            for of_folder, part in zip(scores, parts, strict=True):
                of_folder.put(places, part)
    return scores


def _files_of(split: ScoredSplit, folders: Sequence[MaskFolder], image_id: str) -> FilesOfImage:
    return split.truth[image_id], [folder.files[image_id] for folder in folders]


def _score(task: tuple[list[int], int, list[FilesOfImage]]) -> tuple[list[int], list[FolderScores]]:
    places, num_classes, images = task
    number = len(images[0][1])
    scores = [FolderScores.of_none(len(images), num_classes) for _ in range(number)]
    for place, (truth_path, paths) in enumerate(images):
        truth = read_mask(truth_path)
        for of_folder, path in zip(scores, paths, strict=True):
            mask = _read_fitting_mask(path, truth_path, truth.shape, num_classes)
            confusion = ConfusionMatrix(num_classes)
            with naming(truth_path):
                confusion.add(truth, mask)
            of_folder.confusion.merge(confusion)
            of_folder.counts[place] = confusion.counts(count_unscored=True)
            of_folder.boundary[place] = boundary_f(truth, mask, num_classes)
    return places, scores


def _read_fitting_mask(
    path: Path, truth_path: Path, size: tuple[int, ...], num_classes: int
) -> NDArray[np.uint8]:
    mask = read_mask(path)
    if mask.shape != size:
        raise UserError(f"{path} and {truth_path} differ in size. Replace one of them.")
    known = (mask < num_classes) | (mask == VOID)
    if not known.all():
        raise UserError(
            f"{path} holds class {mask[~known].max()}, but the dataset has {num_classes - 1} "
            "classes. Are these masks of another dataset, or of another numbering?"
        )
    return mask


HEADER = ("mIoU", "of chosen", "strict", "ignored", "boundary F", "fp", "fn")


def headline(scores: Mapping[str, Any]) -> list[str]:
    """Scores of all classes together, in the order of `HEADER`; a dash for what there is not.

    The strict mIoU and the share of ignored pixels are shown where there are such pixels; `fp` and
    `fn` are means over the foreground classes.
    """
    has_ignored = scores["ignored"] > 0
    return [
        percent(scores["miou"]),
        percent(scores.get("miou_chosen")),
        percent(scores["strict"]["miou"] if has_ignored else None),
        percent(scores["ignored"] if has_ignored else None),
        percent(scores["boundary_f"]),
        percent(scores["fp_foreground"]),
        percent(scores["fn_foreground"]),
    ]


def note_on_ignored(scores: Sequence[Mapping[str, Any]]) -> str:
    """What to say of ignored pixels where there are any; "" where not."""
    if not any(each["ignored"] for each in scores):
        return ""
    return (
        "ignored: scored pixels that the masks leave open (255). The usual protocol leaves them\n"
        "out, which flatters; strict counts them as wrong."
    )
