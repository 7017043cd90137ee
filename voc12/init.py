"""Make a dataset of a folder of photographs: lists, and class names and tags to fill in.

python -m voc12.init mydata                                      photographs in mydata/JPEGImages
python -m voc12.init mydata --images photos --classes mug,spoon
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import csv
import io
import logging
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from misc.command_line import exit_status, run_as_program, this_python
from misc.errors import UserError, some_images
from misc.seeds import parse_seed
from misc.workspace import atomic_write
from voc12.classes import is_background
from voc12.files import VocDataset
from voc12.links import link_image
from voc12.lists import TRAIN_AUG, VAL, read_list
from voc12.photographs import Photographs, dataset_photographs
from voc12.tag_table import HEADER, TAGS_FILE, UNKNOWN
from voc12.tagged_list import ids_if_tagged
from voc12.text import read_lines

logger = logging.getLogger(__name__)

TRAIN = "train"


@dataclass(frozen=True)
class NewFile:
    """A file to write unless it is there: what it is to hold, and that in words."""

    path: Path
    text: str
    what: str

    def write(self, root: Path) -> str:
        """Write it; a line that says what was done."""
        name = self.path.relative_to(root)
        if os.path.lexists(self.path):
            return f"kept {name} as it is"
        with atomic_write(self.path) as file:
            file.write(self.text.encode())
        return f"wrote {name}: {self.what}"


def init_dataset(
    root: Path,
    images: Path | None = None,
    class_names: Sequence[str] = (),
    val_share: float = 0,
    seed: int = 0,
) -> list[str]:
    """Make `root` a dataset; nothing that is there is changed.

    Args:
        root: the dataset's folder.
        images: a folder of photographs, or of folders of them, one for each class. They are linked.
        class_names: the classes; by default the names of those folders, else to be filled in.
        val_share: share of the images that the list val gets instead of train, below 1.
        seed: decides which ones.

    Returns:
        What was done, in lines.

    Raises:
        UserError: if photographs or flags cannot make a dataset; then nothing was written.
    """
    if images is None and not root.is_dir():
        raise UserError(
            f"{root} is not a folder. Pass --images DIR to take photographs from there."
        )
    photographs = dataset_photographs(root, images, class_names)
    files = [
        _classes_file(root, list(class_names), photographs),
        *_tags_file(root, photographs),
        *_list_files(root, photographs, val_share, seed),
    ]
    home = root / "JPEGImages"
    links = {i: path for i, path in photographs.paths.items() if path.parent != home}
    for image_id, path in links.items():
        home.mkdir(parents=True, exist_ok=True)
        link = home / f"{image_id}{path.suffix.lower()}"
        link_image(path, link, within=root, elsewhere="another folder")
    lines = [f"{root}: {len(photographs.paths)} photographs"]
    if links:
        lines.append(f"linked {len(links)} of them into JPEGImages: they stay where they are")
    if photographs.left_out:
        named = some_images([path.name for path in photographs.left_out])
        lines.append(f"left out {named}, neither JPEG nor PNG: convert what you need")
    return lines + [file.write(root) for file in files]


def _classes_file(root: Path, names: list[str], photographs: Photographs) -> NewFile:
    """classes.txt: the names that were given, those of the folders, or nothing yet.

    Raises:
        UserError: for names that it cannot hold, or that it contradicts.
    """
    path = root / "classes.txt"
    if names and path.exists() and read_lines(path) != names:
        raise UserError(f"{path} exists and holds other names. Write them there, not in --classes.")
    names = names or sorted(set(photographs.classes.values()))
    for name in names:
        if is_background(name):
            raise UserError(
                f"{name} is no class. Leave it out: an image that shows no class is a line of "
                f"{TAGS_FILE} with its id alone."
            )
        if name != name.strip() or not name or name == UNKNOWN or "\n" in name:
            raise UserError(f"{name!r} cannot be the name of a class. Choose another.")
        if names.count(name) > 1:
            raise UserError(f"--classes names {name} twice.")
    text = "".join(f"{name}\n" for name in names)
    return NewFile(
        path, text, ", ".join(names) if names else "empty, for the names of your classes"
    )


def _tags_file(root: Path, photographs: Photographs) -> list[NewFile]:
    """tags.csv: a line for each image; none where there are XML annotations."""
    if any((root / "Annotations").glob("*.xml")):
        return []
    ids, classes = sorted(photographs.paths), photographs.classes
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER.split(","))
    writer.writerows([image_id, classes.get(image_id, UNKNOWN)] for image_id in ids)
    what = f"{len(ids)} lines, with {UNKNOWN} for classes"
    if len(classes) == len(ids):
        what = "each image with the class of its folder: add others that it shows"
    return [NewFile(root / TAGS_FILE, text.getvalue(), what)]


def _list_files(root: Path, photographs: Photographs, val_share: float, seed: int) -> list[NewFile]:
    """The list train, and val if it gets a share.

    Raises:
        UserError: if images cannot be shared out, or are shared out already.
    """
    paths = {name: VocDataset(root, ()).list_path(name) for name in (TRAIN, VAL, TRAIN_AUG)}
    there = [path for path in paths.values() if path.exists()]
    if val_share and there:
        raise UserError(f"{there[0]} exists: leave out --val_share, or move the list away.")
    ids, drawn = sorted(photographs.paths), f", drawn with --seed {seed}" if val_share else ""
    val = draw_val(ids, val_share, seed)
    if paths[VAL].exists():
        val = set(read_list(paths[VAL], VocDataset(root, ())))
    members = {TRAIN: [i for i in ids if i not in val], VAL: [i for i in ids if i in val]}
    return [
        NewFile(paths[name], _list_text(of_list, photographs), f"{_images(len(of_list))}{drawn}")
        for name, of_list in members.items()
        if of_list
    ]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def draw_val(ids: Sequence[str], share: float, seed: int) -> set[str]:
    """Ids drawn for the list val: about this share of `ids`, at least one and never all.

    Raises:
        UserError: if that is not possible.
    """
    if not share:
        return set()
    if not 0 < share < 1 or len(ids) < 2:
        raise UserError(
            f"--val_share {share:g}: {len(ids)} photographs cannot be shared out. Pass a number "
            "between 0 and 1, such as 0.2, for two photographs or more."
        )
    count = min(max(round(share * len(ids)), 1), len(ids) - 1)
    drawn = np.random.default_rng(seed).permutation(len(ids))[:count]
    return {ids[k] for k in drawn}


def _list_text(ids: Sequence[str], photographs: Photographs) -> str:
    """A list; ids that could be taken for others with classes are written as files."""
    lines = list(ids)
    if ids_if_tagged(lines) is not None:
        lines = [f"JPEGImages/{i}{photographs.paths[i].suffix.lower()}" for i in ids]
    return "".join(f"{line}\n" for line in lines)


def left_to_do(root: Path) -> list[str]:
    """What a new dataset needs before a run, in lines."""
    lines = []
    if not read_lines(root / "classes.txt"):
        lines.append("write the names of the classes into classes.txt, one per line")
    tags = root / TAGS_FILE
    if tags.exists() and any(line.endswith(f",{UNKNOWN}") for line in read_lines(tags)):
        lines.append(
            f"in {TAGS_FILE}, replace each {UNKNOWN} by the image's classes, separated by commas; "
            f"delete it where the image shows none"
        )
    if not (root / "Sal").is_dir():
        lines.append("put saliency maps into Sal, <id>.png, or have them made with --saliency make")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m voc12.init",
        description="Make a dataset of a folder of photographs. Nothing is moved, and no file that "
        "is there is changed.",
    )
    parser.add_argument(
        "root", type=Path, metavar="DATASET", help="folder of the dataset, with photographs in it "
        "or in its JPEGImages; with --images it is made",
    )  # fmt: skip
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="photographs to link into the dataset, in this "
        "folder or in folders in it that are named by classes",
    )  # fmt: skip
    parser.add_argument(
        "--classes", default="", metavar="A,B", help="names of the classes (default: those of the "
        "folders in --images, else classes.txt is left empty)",
    )  # fmt: skip
    parser.add_argument(
        "--val_share", type=float, default=0, metavar="X", help="share of the photographs that is "
        "drawn for the list val, such as 0.2 (default: 0, no such list)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=parse_seed, default=0, help="decides which ones (default: 0)"
    )
    args = parser.parse_args(arguments)
    names = [name.strip() for name in args.classes.split(",")] if args.classes else []

    def work() -> None:
        for line in init_dataset(args.root, args.images, names, args.val_share, args.seed):
            logger.info("%s", line)
        logger.info("Next:")
        for line in left_to_do(args.root):
            logger.info("  %s", line)
        logger.info("  %s -m voc12.check %s", this_python(), shlex.quote(str(args.root)))

    return exit_status(work, "DATASET")


if __name__ == "__main__":
    run_as_program(main)
