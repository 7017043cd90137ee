"""Count the masks of a pair of sets at all thresholds, over many images, and go on if stopped."""

import logging
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from misc.images import read_mask
from misc.log import progress
from misc.runtime import WorkerPool
from misc.saliency import read_saliency
from misc.workspace import atomic_write
from misc.wsss_bed import SaliencyScores, ThresholdGrid
from step.common.results import CamFile, CamReader
from step.common.scores import IMAGES_A_TASK, chunks, naming
from voc12.files import VocDataset

logger = logging.getLogger(__name__)

TASKS_BETWEEN_SAVES = 16  # of 16 images each

Sparse = tuple[NDArray[np.int64], NDArray[np.int64]]
Item = tuple[str, CamFile, list[bool]]  # image, its CAMs, in which of the parts it is


@dataclass(frozen=True)
class PairJob:
    """What is counted of a pair of sets.

    Attributes:
        dataset: with the pair's saliency maps, or none.
        read_cams: reads the CAM files.
        act_thresholds: 0..1.
        sal_thresholds: 0..1; None without saliency.
        num_parts: number of grids, each over images of its own choice.
    """

    dataset: VocDataset
    read_cams: CamReader
    act_thresholds: tuple[float, ...]
    sal_thresholds: tuple[float, ...] | None
    num_parts: int

    def empty_grids(self) -> list[ThresholdGrid]:
        """A grid for each part."""
        classes = self.dataset.num_classes + 1
        return [
            ThresholdGrid(self.act_thresholds, self.sal_thresholds, classes)
            for _ in range(self.num_parts)
        ]


@dataclass
class PairCounts:
    """The grids of a pair, and which tasks they hold.

    Attributes:
        grids: one per part.
        done: (tasks,) bool.
    """

    grids: list[ThresholdGrid]
    done: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def write(self, path: Path, made_from: str) -> None:
        """Save everything, whole or not at all."""
        arrays: dict[str, Any] = {"made_from": np.array(made_from), "done": self.done}
        arrays |= {f"counts{i}": grid.counts for i, grid in enumerate(self.grids)}
        with atomic_write(path) as file:
            np.savez_compressed(file, **arrays)

    def _are_alike(self, done: NDArray[Any], counts: Sequence[NDArray[Any]]) -> bool:
        """True if arrays are of the shapes and kinds of these."""
        pairs = [(done, self.done), *zip(counts, (g.counts for g in self.grids), strict=True)]
        return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)

    def read(self, path: Path, made_from: str) -> bool:
        """Take what `path` holds, if it was made from the same; False if not."""
        if not path.exists():
            return False
        try:
            # Opened here, since np.load leaves a damaged archive open.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
                if str(kept["made_from"]) != made_from:
                    logger.info(
                        "%s was made with different settings or files and is counted again", path
                    )
                    return False
                done = kept["done"]
                counts = [kept[f"counts{i}"] for i in range(len(self.grids))]
                if not self._are_alike(done, counts):
                    raise ValueError("it holds something else")
        except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            logger.warning("%s cannot be read (%s) and is counted again", path, error)
            return False
        self.done = done
        for grid, values in zip(self.grids, counts, strict=True):
            grid.counts[...] = values
        return True


def count_pair(
    pool: WorkerPool,
    job: PairJob,
    cam_files: dict[str, CamFile],
    parts: Sequence[Sequence[str]],
    path: Path,
    made_from: str,
    *,
    is_redone: bool = False,
    desc: str,
) -> tuple[list[ThresholdGrid], int]:
    """The grids of a pair, one for each part of the images; saved every few hundred images.

    Args:
        pool: worker processes.
        job: what is counted.
        cam_files: the CAMs of all images.
        parts: the images of each grid; one may be in several and is read once.
        path: where the counts are kept.
        made_from: fingerprint of settings and inputs; counts of another are not used.
        is_redone: what was counted before is not used; it stays until there is something new.
        desc: what the progress bar says.

    Returns:
        the grids, and the number of images counted in this run.

    Raises:
        UserError: if an input is bad.
    """
    members = [frozenset(part) for part in parts]
    tasks = chunks(list(dict.fromkeys(image_id for part in parts for image_id in part)))
    counts = PairCounts(job.empty_grids(), np.zeros(len(tasks), bool))
    made_from = f"{made_from} {len(tasks)}"
    if not is_redone:
        counts.read(path, made_from)
    pending = np.flatnonzero(~counts.done).tolist()
    work = (
        (job, place, [(i, cam_files[i], [i in part for part in members]) for i in tasks[place]])
        for place in pending
    )
    images = sum(len(tasks[place]) for place in pending)
    found = progress(pool.map(_count, work), desc=desc, total=images, each=IMAGES_A_TASK)
    for number, (place, sparse) in enumerate(found, 1):
        for grid, part in zip(counts.grids, sparse, strict=True):
            grid.add_sparse(*part)
        counts.done[place] = True
        if number % TASKS_BETWEEN_SAVES == 0 or number == len(pending):
            counts.write(path, made_from)
    return counts.grids, images


def _count(task: tuple[PairJob, int, list[Item]]) -> tuple[int, list[Sparse]]:
    job, place, items = task
    grids = job.empty_grids()
    for image_id, cam_file, wanted in items:
        truth_path = job.dataset.mask_path(image_id)
        truth = read_mask(truth_path)
        cams = job.read_cams(cam_file, (truth.shape[0], truth.shape[1]), "high_res")
        saliency = None
        if job.sal_thresholds is not None:
            saliency = read_saliency(job.dataset.saliency_path(image_id))
        for grid in (grid for grid, is_member in zip(grids, wanted, strict=True) if is_member):
            with naming(truth_path):
                grid.add(truth, cams.high_res, cams.class_ids, saliency)
    return place, [grid.sparse() for grid in grids]


def score_saliency(
    pool: WorkerPool, dataset: VocDataset, ids: Sequence[str], *, desc: str
) -> dict[str, float]:
    """MAE, F-beta and IoU of the dataset's saliency maps, as `SaliencyScores.measures`."""
    tasks = [(dataset, place, part) for place, part in enumerate(chunks(ids))]
    scored = pool.map(_score_saliency, tasks)
    found = progress(scored, desc=desc, total=len(ids), each=IMAGES_A_TASK)
    total = SaliencyScores()
    # In the order of the list: sums of floats depend on it.
    for _, part in sorted(found, key=lambda pair: pair[0]):
        total.merge(part)
    return total.measures()


def _score_saliency(task: tuple[VocDataset, int, list[str]]) -> tuple[int, SaliencyScores]:
    dataset, place, ids = task
    scores = SaliencyScores()
    for image_id in ids:
        truth = read_mask(dataset.mask_path(image_id))
        scores.add(truth, read_saliency(dataset.saliency_path(image_id)))
    return place, scores
