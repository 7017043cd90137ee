"""Convert a folder of CAMs of any dialect: `python -m misc.cam_files convert`."""

import argparse
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from misc.cam_files import CAM_FORMATS, CamFolder, cam_path, read_cams, read_tags_file, write_irn
from misc.cam_maps import PARTS
from misc.cam_png import split_name, write_png
from misc.cam_record import Cams
from misc.errors import UserError
from misc.log import progress, setup_logging
from misc.pictures import DECODING_ERRORS, open_picture
from misc.runtime import WorkerPool
from misc.workspace import Record, atomic_write, claim_record, remove_partial_files

logger = logging.getLogger(__name__)

RECORD_NAME = "converted.json"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG")
SHOWN_ERRORS = 20


@dataclass(frozen=True)
class Item:
    """One image to convert.

    Attributes:
        image_id: its id.
        source: its .npy or PNG files, as `CamFolder.find` gives them.
        size: (H,W), or the picture that tells.
        class_ids: classes from 1 that are kept, None for all.
        there: classes from 0 whose PNG the destination has.
    """

    image_id: str
    source: Path | list[Path]
    size: tuple[int, int] | Path
    class_ids: tuple[int, ...] | None
    there: frozenset[int]


@dataclass(frozen=True)
class Conversion:
    """What is the same for all images; call it with an Item."""

    target: Path
    to: str
    cam_format: str
    num_classes: int

    def __call__(self, item: Item) -> str | None:
        """Convert one image; what is wrong with it, or None."""
        try:
            if self.to == "irn":
                with atomic_write(cam_path(self.target, item.image_id)) as file:
                    write_irn(file, self._read(item, PARTS))
            else:
                self._write_pngs(item)
        except (UserError, OSError) as error:
            return str(error)
        return None

    def _read(self, item: Item, parts: Sequence[str]) -> Cams:
        size = _picture_size(item.size) if isinstance(item.size, Path) else item.size
        cams = read_cams(
            item.source,
            size,
            num_classes=self.num_classes,
            cam_format=self.cam_format,
            parts=parts,
        )
        return cams if item.class_ids is None else cams.only(item.class_ids)

    def _write_pngs(self, item: Item) -> None:
        # One image is several files: those that an interrupted run wrote are kept.
        classes = set((self._read(item, ()).class_ids - 1).tolist())
        strange = item.there - classes
        if strange:
            raise UserError(
                f"{self.target} has {item.image_id}_{min(strange)}.png, a class that the image "
                "has not in the source. Convert into an empty folder, or pass --overwrite."
            )
        if classes == item.there:
            return
        cams = self._read(item, ("high_res",))
        for class_id, high_res in zip(cams.class_ids.tolist(), cams.high_res, strict=True):
            if class_id - 1 not in item.there:
                with atomic_write(self.target / f"{item.image_id}_{class_id - 1}.png") as file:
                    write_png(file, high_res)


def _picture_size(path: Path) -> tuple[int, int]:
    try:
        with open_picture(path) as picture:
            return picture.size[1], picture.size[0]
    except DECODING_ERRORS as error:
        raise UserError(f"{path} is no readable picture ({error}). Replace the file.") from None


def _read_ids(path: Path) -> list[str]:
    """The first word of each line, as WSSS-BED's and plain lists have it."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The list {path} cannot be read: {error}.") from None
    return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def _read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Image sizes from lines `<id> <height> <width>`."""
    sizes = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                image_id, height, width = line.rsplit(maxsplit=2)
                sizes[image_id] = (int(height), int(width))
                if min(sizes[image_id]) < 1:
                    raise ValueError(line)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The sizes {path} cannot be read ({error}). Its lines are: <id> <height> <width>."
        ) from None
    return sizes


def _pictures(folder: Path) -> dict[str, Path]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(f"--image_root {folder} cannot be read ({error.strerror}).") from None
    return {Path(n).stem: folder / n for n in sorted(names) if n.endswith(PICTURE_SUFFIXES)}


def _remove_converted(target: Path, ids: Iterable[str]) -> None:
    (target / RECORD_NAME).unlink(missing_ok=True)
    wanted = set(ids)
    for path in target.iterdir():
        parsed = split_name(path.name)
        image_id = parsed[0] if parsed else path.name.removesuffix(".npy")
        if image_id in wanted and path.suffix in (".npy", ".png"):
            path.unlink()


def _pending(args: argparse.Namespace, source: CamFolder, ids: Sequence[str]) -> list[Item]:
    """What is still to convert, with everything a worker needs.

    Raises:
        UserError: naming the images without CAM, size or tags.
    """
    sizes = _read_sizes(args.sizes) if args.sizes else _pictures(args.image_root)
    tags = read_tags_file(args.tags) if args.tags else None
    names = os.listdir(args.target)
    done = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
    classes_done: dict[str, set[int]] = {}
    for parsed in filter(None, map(split_name, names)):
        classes_done.setdefault(parsed[0], set()).add(parsed[1])
    items, problems = [], []
    for image_id in ids:
        found = source.find(image_id)
        if found is None:
            problems.append(f"no CAM for {image_id} in {args.source}")
        elif image_id not in sizes:
            problems.append(f"no size of {image_id} in {args.sizes or args.image_root}")
        elif tags is not None and image_id not in tags:
            problems.append(f"no tags of {image_id} in {args.tags}")
        elif args.to == "png" or image_id not in done:
            kept = None if tags is None else tuple((tags[image_id].nonzero()[0] + 1).tolist())
            there = frozenset(classes_done.get(image_id, ()))
            items.append(Item(image_id, found, sizes[image_id], kept, there))
    _raise_all(problems, len(ids))
    return items


def _raise_all(problems: Sequence[str], count: int) -> None:
    if problems:
        more = len(problems) - SHOWN_ERRORS
        shown = [*problems[:SHOWN_ERRORS], *([f"... and {more} more"] if more > 0 else [])]
        raise UserError(f"{len(problems)} of {count} images have problems:\n" + "\n".join(shown))


def convert(args: argparse.Namespace) -> int:
    """Convert a folder; the number of images that were converted now.

    Raises:
        UserError: for whatever is wrong, after all good files are converted.
    """
    source = CamFolder(args.source, num_classes=args.num_classes, cam_format=args.cam_format)
    ids = _read_ids(args.list) if args.list else source.ids()
    if not ids:
        raise UserError(f"{args.source} holds no CAMs: neither <id>.npy nor <id>_<class>.png.")
    args.target.mkdir(parents=True, exist_ok=True)
    if args.source.resolve() == args.target.resolve():
        raise UserError("SRC and DST are one folder. Name another DST.")
    if args.overwrite:
        _remove_converted(args.target, ids)
    names = ("cam_format", "to", "num_classes", "tags")
    settings = {name: str(getattr(args, name)) for name in names}
    settings["source"] = str(args.source.resolve())
    claim_record(args.target / RECORD_NAME, Record(settings, {}), str(args.target), "another DST")
    remove_partial_files(args.target)
    items = _pending(args, source, ids)
    work = Conversion(args.target, args.to, args.cam_format, args.num_classes)
    with WorkerPool(args.num_workers) as pool:
        results = pool.map(work, items)
        problems = [p for p in progress(results, total=len(items), desc="convert") if p]
    _raise_all(sorted(problems), len(ids))
    return len(items)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m misc.cam_files", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser(
        "convert",
        help="convert a folder of CAMs",
        description="Convert a folder of CAMs. Stop and start it at will: files that are there "
        "are kept. A bad file is reported at the end and does not stop the others.",
    )
    add = command.add_argument
    add("source", metavar="SRC", type=Path, help="folder with <id>.npy or <id>_<class>.png")
    add("target", metavar="DST", type=Path, help="folder to write to")
    add("--to", choices=("irn", "png"), required=True, help="irn: <id>.npy; png: <id>_<class>.png")
    add("--num_classes", type=int, required=True, help="number of foreground classes")
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument("--image_root", type=Path, help="folder with <id>.jpg, for the sizes")
    size.add_argument("--sizes", type=Path, help="file with lines <id> <height> <width> instead")
    add("--cam_format", choices=CAM_FORMATS, default="auto", help="what SRC holds")
    add("--list", type=Path, help="file with the ids to convert (default: all in SRC)")
    add("--tags", type=Path, help="cls_labels.npy: keep only classes that it has too")
    add("--num_workers", type=int, default=os.cpu_count(), help="processes; 0: in this one")
    add("--overwrite", action="store_true", help="convert again what DST has")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; the exit status."""
    args = build_parser().parse_args(arguments)
    setup_logging(None)
    try:
        logger.info("converted %d images into %s", convert(args), args.target)
    except UserError as error:
        logger.error("%s", error)
        return 2
    return 0
