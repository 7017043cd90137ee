"""What a step is about to write: said before it begins, and refused where it cannot be written."""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from step.graph import Artefact, ImageFiles, Node, TrainingStep
from voc12.picture_sizes import IMAGE, sizes_of

try:
    import resource
except ImportError:  # a system without such limits
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

SPARE_BYTES = 1 << 28  # for logs and scores
BACKBONE_BYTES = {
    "squeezenet1_0": 3_000_000, "resnet18": 45_000_000, "resnet34": 85_000_000,
    "resnet50": 94_000_000, "resnet101": 170_000_000,
}  # fmt: skip
HEAD_BYTES = 8_000_000  # at most, of what is added to a backbone
OF_A_TRAINING = 6
"""The last and the best weights, a checkpoint with its momentum, and the next one beside it."""


@dataclass(frozen=True)
class DiskUse:
    """What a step is about to write.

    Attributes:
        artefact: the files.
        folder: where they go.
        num_images: number of images that they are made for; 0 for weights.
        num_bytes: how much disk they take, about; what they replace is not deleted before.
        largest: bytes of the largest file, about.
    """

    artefact: Artefact
    folder: Path
    num_images: int
    num_bytes: int
    largest: int = 0

    @property
    def what(self) -> str:
        """The files in words."""
        if self.num_images:
            return f"{self.artefact.name} of {self.num_images} images"
        return f"{self.artefact.name} and the state of their training"

    @property
    def remedy(self) -> str:
        """What helps where they do not fit."""
        smaller = self.artefact.smaller if isinstance(self.artefact, ImageFiles) else ""
        return f"choose another --{self.artefact.flag}" + (f"; {smaller}" if smaller else "")

    def free(self) -> tuple[Path, int]:
        """The nearest folder that exists, and the bytes that are free there."""
        existing = _nearest(self.folder)
        return existing, shutil.disk_usage(existing).free


def permission_problems(node: Node) -> list[str]:
    """Folders that a step would write into and may not."""
    problems = []
    for artefact in node.step.written(node.run):
        path = artefact.path(node.run)
        folder = path if isinstance(artefact, ImageFiles) else path.parent
        existing = _nearest(folder)
        if existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK):
            problems.append(
                f"--{artefact.flag} {path}: {existing} cannot be written into. Change its "
                "permissions, or choose another place."
            )
    return problems


def _nearest(path: Path) -> Path:
    """The path itself if it exists, else the nearest folder above it that does."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def use_of(node: Node, todo: Sequence[str]) -> DiskUse | None:
    """What a step would write for the images `todo`; None for steps that only score."""
    artefact = node.step.writes
    if isinstance(node.step, TrainingStep):
        return _use_of_training(node, node.step)
    if not isinstance(artefact, ImageFiles) or not todo:
        return None
    sizes = sizes_of(node.run.dataset, IMAGE)
    known = {image_id: size for image_id in todo if not isinstance(size := sizes[image_id], str)}
    if artefact.image_bytes is not None:
        counts = Counter(known.values())  # many images are of one size
        total = sum(count * artefact.image_bytes(size) for size, count in counts.items())
        largest = max(map(artefact.image_bytes, counts), default=0) // len(artefact.suffixes)
    else:
        each = [artefact.bytes_of(node.run, i, size) for i, size in known.items()]
        total, largest = sum(each), max(each, default=0)
    return DiskUse(artefact, artefact.path(node.run), len(todo), total, largest)


def _use_of_training(node: Node, step: TrainingStep) -> DiskUse:
    is_deeplab = "seg_backbone" in step.own_settings()
    backbone = node.run.setting("seg_backbone" if is_deeplab else "backbone")
    weights = BACKBONE_BYTES[backbone] + HEAD_BYTES
    folder = step.writes.path(node.run).parent
    # A checkpoint holds the momentum too.
    return DiskUse(step.writes, folder, 0, OF_A_TRAINING * weights, 2 * weights)


def space_problems(uses: Iterable[DiskUse]) -> list[str]:
    """What is too small for all that the steps, in their order, would write: a disk, a limit."""
    needed: dict[int, int] = {}
    problems: dict[int, str] = {}
    limit = _file_size_limit()
    for use in uses:
        if limit is not None and use.largest > limit:
            return [
                f"{use.folder}: {use.what} need a file of {in_words(use.largest)}, but the limit "
                f"of the size of files (ulimit -f) is {in_words(limit)}. Raise it, or {use.remedy}."
            ]
        existing, free = use.free()
        disk = existing.stat().st_dev
        needed[disk] = needed.get(disk, SPARE_BYTES) + use.num_bytes
        if needed[disk] > free and disk not in problems:
            problems[disk] = _problem(use, existing, free, needed[disk])
    return list(problems.values())


def _problem(use: DiskUse, existing: Path, free: int, needed: int) -> str:
    return (
        f"{use.folder}: {use.what} need {in_words(use.num_bytes)} ({in_words(needed)} with what is "
        f"written before them), but {existing} has {in_words(free)} free. Free some space or "
        f"{use.remedy}."
    )


def _file_size_limit() -> int | None:
    """The largest file that this process may write; None if there is no such limit."""
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def announce_use(node: Node, todo: Sequence[str]) -> None:
    """Log what a step is about to write."""
    use = use_of(node, todo)
    if use is not None:
        logger.info(
            "%s: %s will take about %s in %s (%s free)",
            node.title, use.what, in_words(use.num_bytes), use.folder, in_words(use.free()[1]),
        )  # fmt: skip


def in_words(num_bytes: int) -> str:
    """A number of bytes in GB or MB."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
