"""How much a step is about to write: said before it begins, and refused where it cannot fit."""

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from misc.cam_files import cam_file_bytes
from misc.workspace import ArtefactFolder
from step.context import Context
from step.segmentation import segmented_ids, variants
from voc12.picture_sizes import IMAGE, Size, sizes_of

logger = logging.getLogger(__name__)

CAMS = "CAMs"
SPARE_BYTES = 1 << 28  # for weights, logs and scores
BLOCK_BYTES = 4096  # a small file takes this much of most disks
LABEL_BYTES_A_PIXEL = 0.06  # of a PNG of labels, as measured on the drawn images


@dataclass(frozen=True)
class DiskUse:
    """What a step is about to write.

    Attributes:
        what: the files, in words.
        folder: where they go.
        flag: the flag that names another folder.
        num_images: number of images that they are made for.
        num_bytes: how much disk they take, about.
        num_freed: how much is deleted there before.
    """

    what: str
    folder: Path
    flag: str
    num_images: int
    num_bytes: int
    num_freed: int = 0

    def free(self) -> tuple[Path, int]:
        """The nearest folder that exists, and the bytes that are free there."""
        parents = (self.folder, *self.folder.absolute().parents)
        existing = next(path for path in parents if path.exists())
        return existing, shutil.disk_usage(existing).free


def planned(context: Context, step: str) -> list[DiskUse]:
    """What a step would write now, image by image; nothing for steps that write a few files."""
    if step == "make_cam":
        return _cams(context)
    if step == "make_boundary_label":
        labels, ids = context.boundary_labels, context.train_ids
        if labels.is_plugged_in(ids):
            return []
        regions = _labels(context, context.confident_regions, ids, "confident regions")
        return regions + _labels(context, labels, ids, "boundary labels")
    if step == "make_sem_seg":
        return _labels(context, context.pseudo_masks, context.infer_ids, "masks")
    if step == "make_wsss_bed_masks":
        return _labels(context, context.wsss_bed_masks, context.infer_ids, "masks")
    if step == "make_seg":
        ids, folders = segmented_ids(context), [each.masks for each in variants(context)]
        what = f"masks of {context.config.make_seg_split}"
        return [use for folder in folders for use in _labels(context, folder, ids, what)]
    return []


def _cams(context: Context) -> list[DiskUse]:
    config = context.config

    def num_bytes(image_id: str, size: Size) -> int:
        num_classes = int(context.tags[image_id].sum())
        return cam_file_bytes(num_classes, size, config.cam_dtype, high_res=config.cam_high_res)

    return _use(context, context.cams, context.cams_to_make(), CAMS, num_bytes)


def _labels(
    context: Context, folder: ArtefactFolder, ids: Sequence[str], what: str
) -> list[DiskUse]:
    """PNGs of labels, one an image for each suffix of the folder."""

    def num_bytes(_image_id: str, size: Size) -> int:
        a_file = max(int(size[0] * size[1] * LABEL_BYTES_A_PIXEL), BLOCK_BYTES)
        return a_file * len(folder.suffixes)

    wanted = [] if folder.is_plugged_in(ids) else context.to_make(folder, ids)
    return _use(context, folder, wanted, what, num_bytes)


def _use(
    context: Context,
    folder: ArtefactFolder,
    ids: Sequence[str],
    what: str,
    num_bytes: Callable[[str, Size], int],
) -> list[DiskUse]:
    sizes = sizes_of(context.dataset, IMAGE)
    found = ((image_id, sizes[image_id]) for image_id in ids)
    total = sum(num_bytes(i, size) for i, size in found if not isinstance(size, str))
    if not ids:
        return []
    freed = (
        sum(_on_disk(size) for size in folder.file_sizes(ids)) if context.config.overwrite else 0
    )
    return [DiskUse(what, folder.folder, folder.flag, len(ids), total, freed)]


def _on_disk(num_bytes: int) -> int:
    return -(-num_bytes // BLOCK_BYTES) * BLOCK_BYTES


def space_problems(uses: Iterable[DiskUse]) -> list[str]:
    """Disks that are too small for all that the steps, in their order, would write there."""
    needed: dict[int, int] = {}
    problems: dict[int, str] = {}
    for use in uses:
        existing, free = use.free()
        disk = existing.stat().st_dev
        needed[disk] = needed.get(disk, SPARE_BYTES) + use.num_bytes - use.num_freed
        if needed[disk] > free and disk not in problems:
            problems[disk] = _problem(use, existing, free, needed[disk])
    return list(problems.values())


def _problem(use: DiskUse, existing: Path, free: int, needed: int) -> str:
    remedy = f"Make room or name another {use.flag}"
    if use.what == CAMS:
        remedy += "; --cam_dtype float16 and --cam_high_res no take less"
    return (
        f"{use.folder}: the {use.what} of {use.num_images} images need {in_words(use.num_bytes)} "
        f"({in_words(needed)} with what comes before them), but {existing} has "
        f"{in_words(free)} free. {remedy}."
    )


def announce(step: str, uses: Iterable[DiskUse]) -> None:
    """Log what a step is about to write."""
    for use in uses:
        logger.info(
            "%s: the %s of %d images will take about %s in %s (%s free)",
            step, use.what, use.num_images, in_words(use.num_bytes), use.folder,
            in_words(use.free()[1]),
        )  # fmt: skip


def in_words(num_bytes: int) -> str:
    """A number of bytes in GB or MB."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
