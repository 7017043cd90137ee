"""Make a dataset in VOC layout from COCO's annotations: links, masks, lists, tags, class names.

python -m voc12.from_coco --annotations instances_train2014.json --images train2014 --out ROOT
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from misc.command_line import exit_status, run_as_program
from misc.errors import UserError
from misc.runtime import available_cpus
from voc12.from_coco.convert import SHOWN, Source, convert
from voc12.from_coco.masks import CROWD_VALUES, DRAWING_ORDER
from voc12.from_coco.root import LISTS

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


def sources_of(args: argparse.Namespace) -> list[Source]:
    """The annotation files with their folders and splits.

    Raises:
        UserError: if the flags do not pair, or a split cannot be told from a file's name.
    """
    count = len(args.annotations)
    folders = args.images * count if len(args.images) == 1 else args.images
    splits = args.splits or [_split_of(path) for path in args.annotations]
    for flag, values in (("--images", folders), ("--splits", splits)):
        if len(values) != count:
            raise UserError(
                f"{flag} has {len(values)} values, --annotations has {count}: pass one for each."
            )
    for split in splits:
        if not split.replace("-", "").replace("_", "").isalnum():
            raise UserError(f"--splits {split}: a name may have letters, digits, - and _.")
        if split.endswith(tuple(f"_{name}" for name in LISTS)):
            raise UserError(f"--splits {split}: this ending is reserved for other lists.")
    return [Source(*item) for item in zip(args.annotations, folders, splits, strict=True)]


def _split_of(path: Path) -> str:
    found = [split for split in SPLITS if split in path.stem.lower()]
    if len(found) != 1:
        raise UserError(f"{path}: its name does not say train or val. Pass --splits.")
    return found[0]


def summary_lines(summaries: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Lines for the console: counts, and whatever might surprise a user."""
    for name, found in summaries.items():
        yield (
            f"{name}: {found['images']} images, {found['images_with_a_label']} with a label, "
            f"{found['annotations']} annotations ({found['crowd_annotations']} crowds: "
            f"{found['crowd']}). {found['split']}.txt lists the {found['listed']} ones."
        )
        for key, what in (
            ("images_without_a_label", "images have no label (their masks are all background)"),
            ("images_missing", "images are missing and left out"),
            ("grayscale_images", "images are grayscale (every step reads them as RGB)"),
            ("annotations_without_pixels", "annotations have no area or lie outside their image"),
        ):
            if found[key]["number"]:
                first = ", ".join(map(str, found[key]["first"][:SHOWN]))
                yield f"  {found[key]['number']} {what}: {first}"
        if found["annotations_of_unknown_images"]:
            number = found["annotations_of_unknown_images"]
            yield f"  {number} annotations belong to no image of the file and are not drawn"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m voc12.from_coco",
        description="Make a dataset in VOC layout from COCO's annotations. Stop it and start it "
        f"again at any time: finished work is kept. Masks are drawn in this order: "
        f"{DRAWING_ORDER}.",
    )
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "required": True, "type": Path}
    add("--annotations", metavar="JSON", help="instances_train2014.json, one or more", **several)
    add(
        "--images",
        metavar="DIR",
        help="folder of the images; one for all or one per JSON",
        **several,
    )
    add("--out", metavar="ROOT", type=Path, required=True, help="the dataset to make or add to")
    add(
        "--splits", metavar="NAME", nargs="+", action="extend", default=[],
        help="names of the lists, one per JSON (default: train or val, by the file's name)",
    )  # fmt: skip
    add(
        "--crowd", choices=tuple(CROWD_VALUES), default="background",
        help="what pixels that are only in crowd regions become: 255, or 0 as in most published "
        "masks (default: background)",
    )  # fmt: skip
    add(
        "--list_images", choices=LISTS, default="labelled",
        help="what <split>.txt lists; <split>_labelled.txt and <split>_all.txt are both written "
        "(default: labelled, as published results have it)",
    )  # fmt: skip
    add(
        "--missing_images", choices=("refuse", "skip"), default="refuse",
        help="what to do about images whose file is missing (default: refuse)",
    )  # fmt: skip
    add("--num_workers", type=int, default=available_cpus(), help="worker processes; 0: none")
    add(
        "--overwrite",
        action="store_true",
        help="convert again what was converted with different settings",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    args = build_parser().parse_args(arguments)

    def work() -> None:
        summaries = convert(
            sources_of(args),
            args.out,
            crowd=args.crowd,
            list_images=args.list_images,
            skip_missing=args.missing_images == "skip",
            overwrite=args.overwrite,
            num_workers=max(args.num_workers, 0),
        )
        for line in summary_lines(summaries):
            logger.info("%s", line)
        logger.info("wrote %s", args.out)

    return exit_status(work)


if __name__ == "__main__":
    run_as_program(main)
