"""Everything that a run would find about a dataset, without a run.

python -m voc12.check mydata
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import os
import shlex
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from misc.codes import VOID
from misc.command_line import exit_status, run_as_program, this_python
from misc.errors import UserError, some_images
from misc.images import PNG_ONLY, read_mask
from misc.log import progress
from misc.runtime import WorkerPool, available_cpus, workers_for
from voc12.classes import VOC_CLASSES, read_class_names
from voc12.decoded import (
    BLACK,
    are_soft,
    look_at_photograph,
    look_at_saliency,
    notes_on_photographs,
)
from voc12.files import IMAGE_SUFFIXES, VocDataset
from voc12.image_labels import class_ids_of, find_tags_source, no_classes_problem, read_tags
from voc12.lists import TRAIN_AUG, VAL, check_ids, is_voc12, split_ids, val_ids_if_any
from voc12.picture_sizes import IMAGE, MASK, SALIENCY, PictureSizes, Size, sizes_of
from voc12.problems import (
    MORE,
    REMEDY,
    count_in_words,
    fit_problems,
    image_problems,
    misfits,
    problems_of,
    shorten,
)
from voc12.text import is_there

WIDTH = 100
TRAIN = "train"
NO_SCORES = ["--eval_cam_pass no", "--eval_walk_pass no", "--eval_sem_seg_pass no"]
WITHOUT_MAPS = "--saliency make"  # what the command says where there are none


class Item(NamedTuple):
    """An image to look at, with those of its pictures that fit it."""

    image_id: str
    photograph: Path
    saliency: Path | None
    mask: Path | None


@dataclass
class Look:
    """What the pictures of an image hold.

    Attributes:
        image_id: the image.
        problems: IMAGE, SALIENCY or MASK -> why it cannot be decoded.
        note: what is odd about the photograph, as `look_at_photograph` says it.
        saliency: what `look_at_saliency` says of the map; None without a sound one.
        mask_ids: class ids in the mask, void left out; None without a sound one.
    """

    image_id: str
    problems: dict[str, str] = field(default_factory=dict)
    note: str = ""
    saliency: str | None = None
    mask_ids: frozenset[int] | None = None


def look_at(item: Item) -> Look:
    """Decode the pictures of an image."""
    look = Look(item.image_id)
    try:
        look.note = look_at_photograph(item.photograph)
    except UserError as error:
        look.problems[IMAGE] = error.message
    try:
        if item.saliency is not None:
            look.saliency = look_at_saliency(item.saliency)
    except UserError as error:
        look.problems[SALIENCY] = error.message
    try:
        if item.mask is not None:
            look.mask_ids = frozenset(np.unique(read_mask(item.mask)).tolist()) - {0, VOID}
    except UserError as error:
        look.problems[MASK] = error.message
    return look


@dataclass
class Report:
    """What there is to say of a dataset.

    Attributes:
        root: the dataset's folder.
        rows: topic -> what was found.
        problems: why a run would not start, or would stop.
        notes: what is worth knowing.
        flags: what the next command needs, each with its value.
    """

    root: Path
    rows: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    def text(self) -> str:
        """All of it, in lines of up to WIDTH characters unless the root is longer."""
        lines = [str(self.root)]
        width = max(map(len, self.rows)) + 2
        for topic, found in self.rows.items():
            lines += _wrapped(f"  {topic.ljust(width)}", found)
        for heading, texts in (("Notes", self.notes), ("Problems", self.problems)):
            if texts:
                lines += ["", f"{heading}:"]
            for text in texts:
                is_part = text.startswith((MORE, REMEDY))
                lines += _wrapped("    " if is_part else "  - ", self._shown(text))
        if self.problems:
            return "\n".join([*lines, "", "Next, when this is mended:", *self._command_to_check()])
        return "\n".join([*lines, "", "Next:", *self._command_to_run()])

    def _shown(self, text: str) -> str:
        """Paths in the dataset are named from its folder on."""
        return text.replace(f"{self.root}{os.sep}", "")

    def _command_to_check(self) -> list[str]:
        own = [flag for flag in self.flags if flag.startswith(("--sal_root", "--tags_from"))]
        return _command([f"{this_python()} -m voc12.check {_quoted(self.root)}", *own])

    def _command_to_run(self) -> list[str]:
        start = f"{this_python()} run_sample.py --data_root {_quoted(self.root)}"
        return _command([start, *self.flags])


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_on_hyphens=False,
    )


def _command(words: Sequence[str]) -> list[str]:
    """A command in lines that can be pasted together."""
    lines = [f"  {words[0]}"]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return lines


def check_dataset(
    root: Path, sal_root: Path | None = None, tags_from: str = "auto", num_workers: int = 0
) -> Report:
    """Look at all that a run with the default lists reads of a dataset.

    Args:
        root: the dataset's folder.
        sal_root: folder of saliency maps; by default `Sal` in `root`, if it is there.
        tags_from: where tags come from, as for a run.
        num_workers: processes that look at the pictures.

    Raises:
        UserError: if `root` holds no photographs, or `sal_root` is no folder.
    """
    if not (root / "JPEGImages").is_dir():
        raise UserError(
            f"{root} has no folder JPEGImages with photographs. To make a dataset of photographs, "
            f"type {this_python()} -m voc12.init {_quoted(root)}"
        )
    if sal_root is not None and not sal_root.is_dir():
        raise UserError(f"--sal_root {sal_root} is not a folder.")
    report = Report(root)
    if tags_from != "auto":
        report.flags.append(f"--tags_from {shlex.quote(tags_from)}")
    if sal_root is not None:
        report.flags.append(f"--sal_root {_quoted(sal_root)}")
    saliency_root = root / "Sal" if sal_root is None else sal_root
    names = _check_classes(report, root)
    dataset = VocDataset(root, names, saliency_root if saliency_root.is_dir() else None)
    lists = _check_lists(report, dataset)
    ids = list(dict.fromkeys(i for of_list in lists.values() for i in of_list))
    sound = _check_photographs(report, dataset, ids)
    tags = _check_tags(report, dataset, lists, tags_from) if names else {}
    masks = MaskFiles.of(dataset, ids)
    looks = _look(dataset, sound, masks, num_workers)
    report.problems += _undecodable(IMAGE, looks, ids)
    report.notes += notes_on_photographs({look.image_id: look.note for look in looks})
    _check_saliency(report, dataset, lists[TRAIN_AUG], looks, tags)
    _check_masks(report, dataset, lists[TRAIN], masks, looks, tags)
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _check_classes(report: Report, root: Path) -> tuple[str, ...]:
    """The class names; none if they cannot be read."""
    try:
        names = read_class_names(root)
    except UserError as error:
        report.problems.append(error.message)
        report.rows["classes"] = "unknown"
        return ()
    found = f"{len(names)}: {', '.join(names)}"
    if names == VOC_CLASSES and not is_there(root / "classes.txt"):
        found = f"VOC's {len(names)}, since there is no classes.txt"
    report.rows["classes"] = found
    return names


def _check_lists(report: Report, dataset: VocDataset) -> dict[str, list[str]]:
    """List -> its ids; none if it cannot be read."""
    lists: dict[str, list[str]] = {}
    for name in (TRAIN, TRAIN_AUG, VAL):
        try:
            lists[name] = val_ids_if_any(dataset) if name == VAL else split_ids(dataset, name)
        except UserError as error:
            lists[name] = []
            report.problems.append(error.message)
            if name == TRAIN and not is_there(dataset.list_path(TRAIN)):
                command = f"{this_python()} -m voc12.init {_quoted(report.root)}"
                report.problems.append(f"{REMEDY} {command} writes one of all photographs.")
    ids = list(dict.fromkeys(i for of_list in lists.values() for i in of_list))
    report.problems += problems_of(lambda: check_ids(ids, report.root))
    counts = {name: f"{name} {len(lists[name])}" for name in lists}
    if not is_there(dataset.list_path(TRAIN_AUG)) and lists[TRAIN_AUG]:
        source = "train" if lists[TRAIN_AUG] == lists[TRAIN] else "SegmentationClassAug"
        if is_voc12(dataset):
            source = "VOC 2012's own, which comes with the project"
        counts[TRAIN_AUG] += f" ({source})"
    if not is_there(dataset.list_path(VAL)):
        counts[VAL] = "no val"
        report.notes.append(
            "Without a list val no validation loss is reported, and DeepLab-v2 needs another "
            "--make_seg_split."
        )
    report.rows["lists"] = ", ".join(counts.values())
    for name in (TRAIN, TRAIN_AUG):
        if both := sorted(set(lists[name]) & set(lists[VAL])):
            report.notes.append(f"{some_images(both)} of {name} are in val too.")
    return lists


def _check_photographs(report: Report, dataset: VocDataset, ids: Sequence[str]) -> list[str]:
    """The ids whose photograph is sound, as far as its header tells."""
    sizes = sizes_of(dataset, IMAGE)
    known: dict[str, Size] = {i: size for i in ids if not isinstance(size := sizes[i], str)}
    report.problems += image_problems(dataset, ids)
    with os.scandir(dataset.root / "JPEGImages") as entries:
        stems = {Path(e.name).stem for e in entries if Path(e.name).suffix in IMAGE_SUFFIXES}
    found = f"{len(known)} of the lists"
    if strays := len(stems - set(ids)):
        found += f", {strays} in no list"
    if known:
        ordered = sorted(set(known.values()), key=lambda size: size[0] * size[1])
        (least, most), count = (ordered[0], ordered[-1]), len(ordered)
        found += f"; {least[1]}x{least[0]}"
        found += f" to {most[1]}x{most[0]}, {count} sizes" if count > 1 else " each"
    report.rows["photographs"] = found
    return list(known)


def _check_tags(
    report: Report, dataset: VocDataset, lists: Mapping[str, Sequence[str]], tags_from: str
) -> dict[str, frozenset[int]]:
    """Image id -> the class ids of its tags; none if they cannot be read."""
    source = find_tags_source(dataset) if tags_from == "auto" else tags_from
    ids = list(dict.fromkeys(i for of_list in lists.values() for i in of_list))
    try:
        multi_hot = read_tags(dataset, ids, source)
    except UserError as error:
        report.problems += error.message.splitlines()
        report.rows["tags"] = f"from {source}: not all can be read"
        return {}
    tags = {i: frozenset(class_ids_of(multi_hot[i]).tolist()) for i in ids}
    counts = [sum(k + 1 in shown for shown in tags.values()) for k in range(dataset.num_classes)]
    shown_often = [f"{n} {count}" for n, count in zip(dataset.class_names, counts, strict=True)]
    report.rows["tags"] = f"from {source}: {', '.join(shown_often)}"
    if empty := [i for i in ids if not tags[i]]:
        report.rows["tags"] += f"; without a class {some_images(empty)}"
    trained_on = {k for i in lists[TRAIN_AUG] for k in tags[i]}
    report.problems += no_classes_problem(multi_hot, lists[TRAIN_AUG], TRAIN_AUG)
    never = [n for k, n in enumerate(dataset.class_names, start=1) if k not in trained_on]
    if never and trained_on:
        report.notes.append(f"No image of train_aug shows {', '.join(never)}.")
    return tags


@dataclass(frozen=True)
class MaskFiles:
    """The masks of a dataset: the exact one of an image, else that of the augmented set.

    Attributes:
        paths: image id -> its mask, of those that have one.
        sizes: of these.
        misfits: image id -> what is wrong with its mask, as far as the header tells.
    """

    paths: dict[str, Path]
    misfits: dict[str, str]

    @staticmethod
    def of(dataset: VocDataset, ids: Iterable[str]) -> "MaskFiles":
        """Those of the images `ids`."""
        paths = {}
        for image_id in ids:
            exact = dataset.mask_path(image_id)
            path = exact if exact.exists() else dataset.augmented_mask_path(image_id)
            if path.exists():
                paths[image_id] = path
        sizes = PictureSizes(paths.__getitem__, PNG_ONLY)
        return MaskFiles(paths, dict(misfits(dataset, sizes, paths)))


def _look(
    dataset: VocDataset, ids: Sequence[str], masks: MaskFiles, num_workers: int
) -> list[Look]:
    """What the pictures of these images hold, in the order of the images."""
    bad_maps: set[str] = set(ids)
    if dataset.saliency_root is not None:
        bad_maps = {i for i, _ in misfits(dataset, sizes_of(dataset, SALIENCY), ids)}
    items = [
        Item(
            i,
            dataset.image_path(i),
            None if i in bad_maps else dataset.saliency_path(i),
            None if i in masks.misfits else masks.paths.get(i),
        )
        for i in ids
    ]
    with WorkerPool(workers_for(len(items), num_workers)) as pool:
        done = progress(pool.map(look_at, items), desc="pictures", total=len(items))
        looks = {look.image_id: look for look in done}
    return [looks[i] for i in ids]


def _undecodable(kind: str, looks: Sequence[Look], ids: Iterable[str]) -> list[str]:
    """Pictures of these images that only decoding shows to be damaged."""
    among = set(ids)
    found = (look.problems.get(kind) for look in looks if look.image_id in among)
    return shorten([text for text in found if text], "files")


def _check_saliency(
    report: Report,
    dataset: VocDataset,
    ids: Sequence[str],
    looks: Sequence[Look],
    tags: Mapping[str, frozenset[int]],
) -> None:
    if dataset.saliency_root is None:
        report.rows["saliency"] = (
            "no folder Sal: --saliency make makes maps, --saliency none is BES"
        )
        report.flags.append(WITHOUT_MAPS)
        return
    remedy = (
        "Put maps of the images' sizes there, pass --sal_root, or run with --saliency make or "
        "--saliency none."
    )
    maps = sizes_of(dataset, SALIENCY)
    report.problems += fit_problems(dataset, maps, ids, "Saliency map", remedy)
    report.problems += _undecodable(SALIENCY, looks, ids)
    of_ids = set(ids)
    seen = [look for look in looks if look.image_id in of_ids and look.saliency is not None]
    missing = [i for i in ids if not dataset.saliency_path(i).exists()]
    found = (
        f"{len(seen)} sound maps of {len(ids)} images of train_aug in {dataset.saliency_root.name}"
    )
    if missing:
        found += f", {len(missing)} missing"
    if black := [look.image_id for look in seen if look.saliency == BLACK]:
        found += f"; all black: {some_images(black)}"
        with_class = [i for i in black if tags.get(i)]
        if with_class:
            found += f", of which {len(with_class)} with a class"
    if are_soft(look.saliency or "" for look in seen):
        found += "; soft maps: hardly a pixel is exactly 0"
        report.flags.append("--sal_bg_thres 0.1")
    report.rows["saliency"] = found


def _check_masks(
    report: Report,
    dataset: VocDataset,
    scored: Sequence[str],
    masks: MaskFiles,
    looks: Sequence[Look],
    tags: Mapping[str, frozenset[int]],
) -> None:
    have = {i for i in scored if dataset.mask_path(i).exists()}
    others = [i for i in masks.paths if i not in have]
    report.rows["masks"] = f"{len(have)} of {len(scored)} images of train, {len(others)} others"
    if not have:
        report.rows["masks"] += "; nothing can be scored"
        if dataset.masks_root(dataset.root).is_dir():
            report.flags += NO_SCORES
    if not dataset.class_names:
        return
    ids_of = {look.image_id: look.mask_ids for look in looks if look.mask_ids is not None}
    unknown = {
        i: f"{masks.paths[i]} shows class {max(shown)}, but there are {dataset.num_classes}."
        for i, shown in ids_of.items()
        if max(shown, default=0) > dataset.num_classes
    }
    damaged = {look.image_id: look.problems[MASK] for look in looks if MASK in look.problems}
    unfit = masks.misfits | damaged | unknown
    if have:
        remedy = f"Put masks there, or pass {' '.join(NO_SCORES)}."
        exact = PictureSizes(dataset.mask_path, PNG_ONLY)
        report.problems += fit_problems(dataset, exact, scored, "Mask", remedy)
        report.problems += _undecodable(MASK, looks, have)
        report.problems += shorten([unknown[i] for i in unknown if i in have], "masks", remedy)
    if odd := [i for i in others if i in unfit]:
        report.notes.append(f"The masks of {some_images(odd)} do not fit: {unfit[odd[0]]}")
    both = [i for i in ids_of if i in tags and i not in unknown]
    if more := [i for i in both if ids_of[i] - tags[i]]:
        report.notes.append(f"The masks of {some_images(more)} show classes that the tags lack.")
    if fewer := [i for i in both if tags[i] - ids_of[i]]:
        report.notes.append(f"The tags of {some_images(fewer)} name classes that the mask lacks.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status, 2 if a run would not start."""
    parser = argparse.ArgumentParser(
        prog="python -m voc12.check",
        description="Check a dataset, and say what to type next. The exit status is 0 if a run "
        "with these settings would start, else 2.",
    )
    add = parser.add_argument
    add("root", type=Path, metavar="DATASET", help="folder of the dataset")
    add("--sal_root", type=Path, metavar="DIR", help="saliency maps (default: DATASET/Sal, if any)")
    add("--tags_from", default="auto", metavar="NAME", help="auto, xml, csv, masks or a file")
    add("--num_workers", type=int, default=available_cpus(), help="processes (default: all CPUs)")
    args = parser.parse_args(arguments)

    def work() -> None:
        workers = max(args.num_workers, 0)
        report = check_dataset(args.root, args.sal_root, args.tags_from, workers)
        sys.stdout.write(f"{report.text()}\n")
        sys.stdout.flush()
        if report.problems:
            raise UserError(f"{count_in_words(report.problems)}: a run would not start.")

    return exit_status(work, "DATASET")


if __name__ == "__main__":
    run_as_program(main)
