"""What a step is about to write: said before it begins, and refused where it cannot be written."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from step.graph import ImageFiles, Node
from voc12.picture_sizes import IMAGE, sizes_of

logger = logging.getLogger(__name__)

SPARE_BYTES = 1 << 28  # for weights, logs and scores


@dataclass(frozen=True)
class DiskUse:
    """What a step is about to write.

    Attributes:
        artefact: the files.
        folder: where they go.
        num_images: number of images that they are made for.
        num_bytes: how much disk they take, about; what they replace is not deleted before.
    """

    artefact: ImageFiles
    folder: Path
    num_images: int
    num_bytes: int

    def free(self) -> tuple[Path, int]:
        """The nearest folder that exists, and the bytes that are free there."""
        existing = _nearest(self.folder)
        return existing, shutil.disk_usage(existing).free


def permission_problems(node: Node) -> list[str]:
    """Folders that a step would write into and must not."""
    problems = []
    for artefact in node.step.written(node.run):
        path = artefact.path(node.run)
        folder = path if isinstance(artefact, ImageFiles) else path.parent
        existing = _nearest(folder)
        if existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK):
            problems.append(
                f"--{artefact.flag} {path}: {existing} must not be written into. Change its "
                "permissions, or choose another place."
            )
    return problems


def _nearest(path: Path) -> Path:
    """The path itself if it exists, else the nearest folder above it that does."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def use_of(node: Node, todo: Sequence[str]) -> DiskUse | None:
    """What a step would write for the images `todo`; None for steps that write a few files."""
    artefact = node.step.writes
    if not isinstance(artefact, ImageFiles) or not todo:
        return None
    sizes = sizes_of(node.run.dataset, IMAGE)
    known = {image_id: size for image_id in todo if not isinstance(size := sizes[image_id], str)}
    if artefact.image_bytes is not None:
        counts = Counter(known.values())  # many images are of one size
        total = sum(count * artefact.image_bytes(size) for size, count in counts.items())
    else:
        total = sum(artefact.bytes_of(node.run, i, size) for i, size in known.items())
    return DiskUse(artefact, artefact.path(node.run), len(todo), total)


def space_problems(uses: Iterable[DiskUse]) -> list[str]:
    """Disks that are too small for all that the steps, in their order, would write there."""
    needed: dict[int, int] = {}
    problems: dict[int, str] = {}
    for use in uses:
        existing, free = use.free()
        disk = existing.stat().st_dev
        needed[disk] = needed.get(disk, SPARE_BYTES) + use.num_bytes
        if needed[disk] > free and disk not in problems:
            problems[disk] = _problem(use, existing, free, needed[disk])
    return list(problems.values())


def _problem(use: DiskUse, existing: Path, free: int, needed: int) -> str:
    smaller = use.artefact.smaller
    remedy = f"Free some space or choose another --{use.artefact.flag}"
    remedy += f"; {smaller}" if smaller else ""
    return (
        f"{use.folder}: {use.artefact.name} of {use.num_images} images need "
        f"{in_words(use.num_bytes)} ({in_words(needed)} with what is written before them), but "
        f"{existing} has {in_words(free)} free. {remedy}."
    )


def announce_use(node: Node, todo: Sequence[str]) -> None:
    """Log what a step is about to write."""
    use = use_of(node, todo)
    if use is not None:
        logger.info(
            "%s: %s of %d images will take about %s in %s (%s free)",
            node.title, use.artefact.name, use.num_images, in_words(use.num_bytes), use.folder,
            in_words(use.free()[1]),
        )  # fmt: skip


def in_words(num_bytes: int) -> str:
    """A number of bytes in GB or MB."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
