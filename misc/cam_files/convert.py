"""Convert a folder of CAMs of any dialect: `python -m misc.cam_files convert`."""

import argparse
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from misc.cam_files.convert_inputs import SizeOrPicture, find_pictures, read_ids, read_sizes
from misc.cam_files.dialects import SIZELESS
from misc.cam_files.files import (
    CAM_FORMATS,
    CamFolder,
    cam_path,
    read_cams,
    read_tags_file,
    write_irn,
)
from misc.cam_files.irn import Cams
from misc.cam_files.maps import PARTS
from misc.cam_files.numbering import CAM_IDS, CONTIGUOUS, class_id_of, compare_with_tags
from misc.cam_files.png import split_name, write_png
from misc.command_line import exit_status, raise_problems
from misc.errors import UserError
from misc.images import image_size
from misc.log import progress
from misc.runtime import WorkerPool
from misc.workspace import Record, atomic_write, claim_record, demand_own, remove_partial_files

logger = logging.getLogger(__name__)

RECORD_NAME = "converted.json"
DEFAULT_CLASSES = 20  # of the command line alone: the published sets are mostly VOC's


@dataclass(frozen=True)
class Item:
    """One image to convert.

    Attributes:
        image_id: its id.
        source: its array file or its PNG files, as `CamFolder.find` gives them.
        size: (H,W), or the picture that has it; None if the CAMs give it.
        class_ids: classes from 1 that are kept, None for all.
        there: classes from 0 whose PNG the destination has.
    """

    image_id: str
    source: Path | list[Path]
    size: SizeOrPicture | None
    class_ids: tuple[int, ...] | None
    there: frozenset[int]


@dataclass(frozen=True)
class Outcome:
    """The outcome for one image: what is wrong, if anything, and how many classes it has."""

    problem: str | None
    num_classes: int = 0


@dataclass(frozen=True)
class Conversion:
    """What is the same for all images; call it with an Item."""

    target: Path
    to: str
    cam_format: str
    cam_ids: str
    num_classes: int

    def __call__(self, item: Item) -> Outcome:
        """Convert one image."""
        try:
            if self.to == "png":
                return Outcome(None, self._write_pngs(item))
            with atomic_write(cam_path(self.target, item.image_id)) as file:
                cams = self._read(item, PARTS)
                write_irn(file, cams)
            return Outcome(None, len(cams.class_ids))
        except (UserError, OSError) as error:
            return Outcome(str(error))

    def classes_of(self, item: Item) -> tuple[str, list[int]]:
        """An image's id, and the class ids that its files have; none if they cannot be read."""
        try:
            return item.image_id, self._read_all(item, ()).class_ids.tolist()
        except (UserError, OSError):
            return item.image_id, []  # told when the image is converted

    def _read(self, item: Item, parts: Sequence[str]) -> Cams:
        cams = self._read_all(item, parts)
        return cams if item.class_ids is None else cams.only(item.class_ids)

    def _read_all(self, item: Item, parts: Sequence[str]) -> Cams:
        size = image_size(item.size) if isinstance(item.size, Path) else item.size
        return read_cams(
            item.source,
            size,
            num_classes=self.num_classes,
            cam_format=self.cam_format,
            cam_ids=self.cam_ids,
            parts=parts,
        )

    def _write_pngs(self, item: Item) -> int:
        """Write the missing files of an image; return the number of its classes."""
        # One image is several files: those that an interrupted run wrote are kept.
        classes = set((self._read(item, ()).class_ids - 1).tolist())
        strange = item.there - classes
        if strange:
            raise UserError(
                f"{self.target} has {item.image_id}_{min(strange)}.png, a class that this image "
                "does not have in the source. Convert into an empty folder, or pass --overwrite."
            )
        if classes == item.there:
            return len(classes)
        cams = self._read(item, ("high_res",))
        for class_id, high_res in zip(cams.class_ids.tolist(), cams.high_res, strict=True):
            if class_id - 1 not in item.there:
                with atomic_write(self.target / f"{item.image_id}_{class_id - 1}.png") as file:
                    write_png(file, high_res)
        return len(classes)


def _files_of(target: Path, ids: Iterable[str]) -> list[Path]:
    """The CAM files of these images in a folder."""
    wanted = set(ids)

    def image_id(path: Path) -> str:
        parsed = split_name(path.name)
        return parsed[0] if parsed else path.name.removesuffix(".npy")

    paths = (path for path in target.iterdir() if path.suffix in (".npy", ".png"))
    return sorted(path for path in paths if image_id(path) in wanted)


def _sizes(args: argparse.Namespace) -> dict[str, SizeOrPicture] | None:
    """The images' sizes; None where the CAMs themselves give them."""
    if args.sizes:
        return read_sizes(args.sizes)
    if args.image_root:
        return find_pictures(args.image_root)
    if args.cam_format in SIZELESS:
        raise UserError(
            f"{args.cam_format} files do not record the image size. Pass --image_root, the folder "
            "of the images, or --sizes."
        )
    return None


def _listed(
    args: argparse.Namespace, source: CamFolder, sizes: dict[str, SizeOrPicture] | None
) -> dict[str, bool]:
    """Image id -> whether the list names classes of it; all ids of the source without a list."""
    there = source.ids()
    if args.list is None:
        return dict.fromkeys(there, False)
    return read_ids(args.list, {*there, *(sizes or ())})


def _pending(
    args: argparse.Namespace,
    source: CamFolder,
    listed: dict[str, bool],
    sizes: dict[str, SizeOrPicture] | None,
) -> list[Item]:
    """What is still to convert, with everything a worker needs.

    Raises:
        UserError: naming the images without CAM, size or tags.
    """
    tags = read_tags_file(args.tags) if args.tags else None
    names = os.listdir(args.target)
    done = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
    classes_done: dict[str, set[int]] = {}
    for parsed in filter(None, map(split_name, names)):
        classes_done.setdefault(parsed[0], set()).add(parsed[1])
    items, problems = [], []
    for image_id, names_classes in listed.items():
        found = source.find(image_id)
        # An image without files has no class (oaa_png), but not where the list says it has some.
        if found is None or (not found and names_classes):
            problems.append(f"no CAM for {image_id} in {args.source}")
        elif sizes is not None and image_id not in sizes:
            problems.append(f"no size for {image_id} in {args.sizes or args.image_root}")
        elif tags is not None and image_id not in tags:
            problems.append(f"no tags for {image_id} in {args.tags}")
        elif args.to == "png" or image_id not in done:
            kept = None if tags is None else tuple((tags[image_id].nonzero()[0] + 1).tolist())
            there = frozenset(classes_done.get(image_id, ()))
            size = None if sizes is None else sizes[image_id]
            items.append(Item(image_id, found, size, kept, there))
    raise_problems(problems, len(listed), "images")
    return items


def convert(args: argparse.Namespace) -> int:
    """Convert a folder; return the number of images converted in this run.

    Raises:
        UserError: for whatever is wrong, after all good files are converted; at once where DST
            holds CAMs that were not converted here.
    """
    if args.num_classes < 1:
        raise UserError(f"--num_classes {args.num_classes}: there must be one class or more.")
    class_id_of(args.cam_ids, args.num_classes)
    source = CamFolder(
        args.source, num_classes=args.num_classes, cam_format=args.cam_format, cam_ids=args.cam_ids
    )
    sizes = _sizes(args)
    listed = _listed(args, source, sizes)
    if not listed:
        raise UserError(f"{args.source} holds no CAMs: no <id>.npy, <id>.npz or <id>_<class>.png.")
    args.target.mkdir(parents=True, exist_ok=True)
    if args.source.resolve() == args.target.resolve():
        raise UserError("SRC and DST are the same folder. Choose another DST.")
    there = _files_of(args.target, listed)
    demand_own(args.target / RECORD_NAME, there, "another DST")
    if args.overwrite:
        for path in there:
            path.unlink()
        (args.target / RECORD_NAME).unlink(missing_ok=True)
    names = ("cam_format", "cam_ids", "to", "num_classes", "tags")
    settings = {name: str(getattr(args, name)) for name in names}
    settings["source"] = str(args.source.resolve())
    claim_record(args.target / RECORD_NAME, Record(settings, {}), str(args.target), "another DST")
    remove_partial_files(args.target)
    items = _pending(args, source, listed, sizes)
    work = Conversion(args.target, args.to, args.cam_format, args.cam_ids, args.num_classes)
    with WorkerPool(args.num_workers) as pool:
        if args.tags is not None:
            _check_numbering(args, items, dict(pool.map(work.classes_of, items)))
        results = pool.map(work, items)
        outcomes = list(progress(results, total=len(items), desc="convert"))
    _tell_of_empty_images(args, outcomes)
    raise_problems(sorted(o.problem for o in outcomes if o.problem), len(listed), "images")
    return len(items)


def _check_numbering(
    args: argparse.Namespace, items: Sequence[Item], classes: Mapping[str, Sequence[int]]
) -> None:
    """Refuse misnumbered CAMs, of which the tags would leave little, and tell what they drop."""
    tags = {item.image_id: item.class_ids or () for item in items}
    agreement = compare_with_tags(classes, tags, args.num_classes, args.cam_ids)
    if not agreement.strange:
        return
    text = (
        f"{args.source}: the CAMs of {len(agreement.strange)} of {agreement.images} images have "
        f"classes that {args.tags} lacks (first: {agreement.strange[0]})."
    )
    if agreement.explained_by is not None:
        cause = agreement.explained_by
        raise UserError(f"{text} They look {cause.looks}. {cause.remedy}")
    logger.warning("%s These classes are left out.", text)


def _tell_of_empty_images(args: argparse.Namespace, outcomes: Sequence[Outcome]) -> None:
    count = sum(o.problem is None and o.num_classes == 0 for o in outcomes)
    if not count:
        return
    logger.info("%d of %d images have no class", count, len(outcomes))
    if args.to == "png":
        logger.warning(
            "Images without a class have no file in %s. To use this folder, pass "
            "--cam_format oaa_png and a list of all the images.",
            args.target,
        )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m misc.cam_files", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser(
        "convert",
        help="convert a folder of CAMs",
        description="Convert a folder of CAMs. Stop it and start it again at any time: existing "
        "files are kept. A bad file is reported at the end and does not stop the others.",
    )
    add = command.add_argument
    add("source", metavar="SRC", type=Path, help="folder of <id>.npy, <id>.npz, <id>_<class>.png")
    add("target", metavar="DST", type=Path, help="folder to write to")
    add("--to", choices=("irn", "png"), required=True, help="irn: <id>.npy; png: <id>_<class>.png")
    add(
        "--num_classes", type=int, default=DEFAULT_CLASSES,
        help=f"number of foreground classes (default: {DEFAULT_CLASSES}, as in VOC)",
    )  # fmt: skip
    size = command.add_mutually_exclusive_group()
    size.add_argument(
        "--image_root", type=Path,
        help="folder with <id>.jpg: maps must have the sizes of these images. Without it the "
        f"size is that of the full-size maps; {', '.join(SIZELESS)} files have none and need it",
    )  # fmt: skip
    size.add_argument("--sizes", type=Path, help="the same from a file: <id> <height> <width>")
    add("--cam_format", choices=CAM_FORMATS, default="auto", help="format of SRC")
    add(
        "--cam_ids", choices=CAM_IDS, default=CONTIGUOUS,
        help="how SRC numbers the classes; coco91: by COCO's 91 category ids",
    )  # fmt: skip
    add("--list", type=Path, help="file with the ids to convert, one per line (default: all)")
    add("--tags", type=Path, help="cls_labels.npy: keep only classes that it lists")
    add("--num_workers", type=int, default=os.cpu_count(), help="worker processes; 0: none")
    add("--overwrite", action="store_true", help="convert again what DST already has")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    args = build_parser().parse_args(arguments)
    return exit_status(
        lambda: logger.info("converted %d images into %s", convert(args), args.target), "DST"
    )
