"""Write `cls_labels.npy`, the {id: 0/1 per class} file that other projects of this family read.

python -m voc12.make_cls_labels --data_root DIR --out cls_labels.npy
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np

from misc.command_line import exit_status, run_as_program
from misc.errors import UserError
from misc.workspace import atomic_write
from voc12.files import VocDataset
from voc12.image_labels import find_tags_source, read_tags
from voc12.lists import split_ids
from voc12.text import is_there

logger = logging.getLogger(__name__)


DEFAULT_OUT = Path("cls_labels.npy")


def make_cls_labels(dataset: VocDataset, splits: list[str], source: str, out: Path) -> int:
    """Write the tags of all images of `splits`.

    Args:
        dataset: the dataset.
        splits: list files or names.
        source: where tags come from, as for `read_tags`, or auto.
        out: the .npy file, a pickled {id: float32 (C,)}.

    Returns:
        the number of images.

    Raises:
        UserError: if lists or tags cannot be read, or something else has that name.
    """
    ids = list(dict.fromkeys(i for split in splits for i in split_ids(dataset, split)))
    source = find_tags_source(dataset) if source == "auto" else source
    content: Any = np.array(read_tags(dataset, ids, source), dtype=object)
    made = io.BytesIO()
    np.save(made, content, allow_pickle=True)
    if is_there(out) and not (out.is_file() and out.read_bytes() == made.getvalue()):
        raise UserError(f"{out} exists already and holds something else. Choose a file with --out.")
    with atomic_write(out) as file:
        file.write(made.getvalue())
    return len(ids)


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--data_root", "--voc12_root", dest="root", type=Path, required=True, help="the dataset"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=DEFAULT_OUT,
        help=f"file to write, a new one (default: {DEFAULT_OUT})",
    )
    parser.add_argument("--splits", nargs="+", default=["train_aug", "val"], help="lists")
    parser.add_argument("--tags_from", default="auto", help="auto, xml, csv, masks or a file")
    args = parser.parse_args(arguments)

    def work() -> None:
        dataset = VocDataset.open(args.root)
        count = make_cls_labels(dataset, args.splits, args.tags_from, args.out)
        logger.info("wrote the tags of %d images to %s", count, args.out)

    return exit_status(work)


if __name__ == "__main__":
    run_as_program(main)
