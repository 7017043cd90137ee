"""Turn masks of other methods into PNGs of class ids: `python -m misc.mask_files`."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from misc.codes import VOID
from misc.command_line import exit_status, raise_problems
from misc.errors import UserError
from misc.images import write_palette_png
from misc.log import progress
from misc.mask_files.reading import read_any_mask
from misc.runtime import WorkerPool, available_cpus
from misc.workspace import Record, atomic_write, claim_record, demand_own, remove_partial_files

logger = logging.getLogger(__name__)

RECORD_NAME = "converted.json"
DEFAULT_CLASSES = 20  # of the command line alone: the published sets are mostly VOC's


@dataclass(frozen=True)
class Conversion:
    """What is the same for all images; call it with a file."""

    target: Path
    num_classes: int

    def __call__(self, path: Path) -> str:
        """Convert one file; what is wrong with it, "" if nothing is."""
        try:
            mask = read_any_mask(path, self.num_classes)
            with atomic_write(self.target / f"{path.stem}.png") as file:
                write_palette_png(file, mask)
        except (UserError, OSError) as error:
            return str(error)
        return ""


def find_masks(folder: Path) -> dict[str, Path]:
    """Image id -> its file.

    Raises:
        UserError: if the folder cannot be read, holds no masks, or two of an image.
    """
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix in (".npy", ".png"))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}).") from None
    masks = {path.stem: path for path in paths}
    if not masks:
        raise UserError(f"{folder} holds no masks: neither <id>.npy nor <id>.png.")
    if len(masks) < len(paths):
        twice = next(path for path in paths if masks[path.stem] != path)
        raise UserError(f"{folder} has both {twice.stem}.npy and {twice.stem}.png. Remove one.")
    return masks


def convert(args: argparse.Namespace) -> int:
    """Convert a folder; return the number of files converted in this run.

    Raises:
        UserError: for whatever is wrong, after all good files are converted; at once where DST
            holds masks that were not converted here.
    """
    if not 0 < args.num_classes < VOID:
        raise UserError(
            f"--num_classes {args.num_classes}: masks have at least one and "
            f"at most {VOID - 1} classes."
        )
    masks = find_masks(args.source)
    args.target.mkdir(parents=True, exist_ok=True)
    if args.source.resolve() == args.target.resolve():
        raise UserError("SRC and DST are the same folder. Choose another DST.")
    there = [path for image_id in masks if (path := args.target / f"{image_id}.png").exists()]
    demand_own(args.target / RECORD_NAME, there, "another DST")
    if args.overwrite:
        for path in there:
            path.unlink()
        (args.target / RECORD_NAME).unlink(missing_ok=True)
    settings = {"num_classes": str(args.num_classes), "source": str(args.source.resolve())}
    claim_record(args.target / RECORD_NAME, Record(settings, {}), str(args.target), "another DST")
    remove_partial_files(args.target)
    pending = [
        path for image_id, path in masks.items() if not (args.target / f"{image_id}.png").exists()
    ]
    with WorkerPool(args.num_workers) as pool:
        results = pool.map(Conversion(args.target, args.num_classes), pending)
        problems = sorted(filter(None, progress(results, total=len(pending), desc="masks")))
    raise_problems(problems, len(masks), "files")
    return len(pending)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m misc.mask_files",
        description="Turn masks of other methods into PNGs of class ids, which --seg_label_dir "
        "and every other flag for masks take. Stop it and start it again at any time: existing "
        "files are kept. A bad file is reported at the end and does not stop the others.",
    )
    add = parser.add_argument
    add(
        "source", metavar="SRC", type=Path,
        help="folder with <id>.npy (scores of a network, as DuPL, SeCo and WeCLIP write them) or "
        "<id>.png (class ids, or VOC's exact colours)",
    )  # fmt: skip
    add("target", metavar="DST", type=Path, help="folder to write <id>.png to")
    add(
        "--num_classes", type=int, default=DEFAULT_CLASSES,
        help=f"number of foreground classes (default: {DEFAULT_CLASSES}, as in VOC)",
    )  # fmt: skip
    add("--num_workers", type=int, default=available_cpus(), help="worker processes; 0: none")
    add("--overwrite", action="store_true", help="convert again what DST already has")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    args = build_parser().parse_args(arguments)
    return exit_status(
        lambda: logger.info("converted %d masks into %s", convert(args), args.target), "DST"
    )
