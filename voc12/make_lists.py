"""Write the train_aug list of a dataset that came without it.

python -m voc12.make_lists --data_root DIR [--out FILE]
"""

from misc.signals import leave_when_stopped

if __name__ == "__main__":
    leave_when_stopped()  # before the imports, which take a while

import argparse
import logging
from pathlib import Path

from misc.command_line import exit_status, run_as_program
from misc.errors import UserError
from misc.workspace import atomic_write
from voc12.files import VocDataset
from voc12.lists import TRAIN_AUG, augmented_ids, is_voc12, read_list, shipped_list
from voc12.text import is_there

logger = logging.getLogger(__name__)


def make_list(dataset: VocDataset, out: Path | None = None) -> Path:
    """Write the ids of VOC 2012's train_aug, or those of SegmentationClassAug without val.

    Args:
        dataset: the dataset.
        out: the file; by default ImageSets/Segmentation/train_aug.txt of the dataset.

    Returns:
        the file written.

    Raises:
        UserError: if there is no mask, or the file exists already.
    """
    ids = read_list(shipped_list(TRAIN_AUG)) if is_voc12(dataset) else augmented_ids(dataset)
    if not ids:
        raise UserError(f"{dataset.root}/SegmentationClassAug holds no masks to list.")
    out = dataset.list_path(TRAIN_AUG) if out is None else out
    if is_there(out):
        raise UserError(f"{out} exists already. Choose another file with --out.")
    with atomic_write(out) as file:
        file.write("".join(f"{image_id}\n" for image_id in ids).encode())
    return out


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--data_root", "--voc12_root", dest="root", type=Path, required=True, help="the dataset"
    )
    parser.add_argument("--out", type=Path, help="file to write, a new one")
    args = parser.parse_args(arguments)
    return exit_status(
        lambda: logger.info("wrote %s", make_list(VocDataset.open(args.root), args.out))
    )


if __name__ == "__main__":
    run_as_program(main)
