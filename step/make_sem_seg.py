"""Pseudo masks: CAMs spread by a random walk that boundaries stop, before and after a CRF."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from misc.boundary_label import regions_to_mask
from misc.cam_files import read_cams
from misc.crf import MASK_CRF, USUAL_CRF, DenseCrf, crf_device, crf_has_threads, crf_setting
from misc.errors import UserError
from misc.log import progress
from misc.pseudo_mask import scores_to_regions
from misc.random_walk import random_walk_many
from misc.runtime import is_accelerator
from misc.visualize import write_palette_png
from misc.workers import WorkerPool
from misc.workspace import ArtefactFolder, Record, atomic_write
from step.context import CamFile, Context
from step.predict import with_boundaries
from step.preflight import cam_problems, foreign_problems, image_problems, weights_problems
from voc12.dataloader import ImagePyramids
from voc12.files import VocDataset
from voc12.lists import CRF_SUFFIX

logger = logging.getLogger(__name__)

IMAGES_A_WALK = 16  # on a GPU, which one image leaves idle
Predicted = tuple[dict[str, Any], torch.Tensor]
"""What `_Inputs` read of an image, and its boundary (h,w)."""

SETTINGS = (
    "backbone", "beta", "exp_times", "sem_seg_bg_thres", "walk", "cam_format", "precision",
)  # fmt: skip


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    masks, ids = context.pseudo_masks, context.infer_ids
    wanted = context.to_make(masks, ids)
    if masks.is_plugged_in(ids) or not wanted:
        return []
    problems = foreign_problems(masks, ids) + image_problems(context.dataset, wanted)
    if "make_cam" not in context.requested or context.cams_are_plugged_in():
        problems += cam_problems(context, wanted)
    if "train_bes" not in context.requested:
        problems += weights_problems(context.bes_weights, "train_bes")
    return problems


class _Inputs(ImagePyramids):
    """What a mask is made of: the image, for the network, and its CAMs.

    Both are read in the loader's workers while the network runs in this process.
    """

    def __init__(self, dataset: VocDataset, cam_files: dict[str, CamFile], cam_format: str) -> None:
        super().__init__(dataset, list(cam_files))
        self.cam_files = cam_files
        self.cam_format = cam_format

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        cams = read_cams(
            self.cam_files[sample["image_id"]],
            sample["image"].shape[:2],
            num_classes=self.dataset.num_classes,
            cam_format=self.cam_format,
            parts=["cam"],
        )
        # A copy, since torch warns of sharing memory that numpy holds read-only.
        return sample | {"class_ids": cams.class_ids, "cam": torch.tensor(cams.cam)}


@dataclass(frozen=True)
class Walked:
    """One image after the random walk: scores (K,h,w).

    Image and scores are tensors only where the CRF is on a GPU.
    """

    image_id: str
    image: np.ndarray | torch.Tensor
    class_ids: np.ndarray
    scores: np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Labelled:
    """One image's labels uint8 (H,W), indices into `class_ids` + 1, before and after the CRF."""

    image_id: str
    class_ids: np.ndarray
    regions: np.ndarray
    smoothed: np.ndarray


@dataclass(frozen=True)
class _Job:
    """What is the same for all images."""

    masks: ArtefactFolder
    background_score: float
    crf_backend: str
    device: torch.device


def run(context: Context) -> dict[str, Any] | None:
    """Write the pseudo masks that are missing; None if there was none.

    Worker processes read and write, and do the CRF where that is on the CPU. Where network and CRF
    would share the threads of every core, all but the reading is done here.

    Raises:
        UserError: if masks of other settings are there, or an input is bad.
    """
    config, runtime, masks = context.config, context.runtime, context.pseudo_masks
    if masks.is_plugged_in(context.infer_ids):
        logger.info("make_sem_seg: using the masks found in %s", masks.folder)
        return None
    if not context.bes_weights.exists() and not masks.pending(context.infer_ids):
        logger.info("make_sem_seg: all masks are in %s", masks.folder)
        return None
    record = Record(
        config.subset(SETTINGS) | crf_setting(config.crf),
        {
            "CAMs": context.cam_digest(),
            "boundary weights": context.bes_weights.state_digest(),
        },
        usual=USUAL_CRF,
    )
    pending = runtime.on_main(
        lambda: masks.claim(record, context.infer_ids, overwrite=config.overwrite)
    )
    share = runtime.shard(pending)
    device = crf_device(config.crf, runtime.device)
    job = _Job(masks, config.sem_seg_bg_thres, config.crf, device)
    workers = runtime.workers_beside_network(has_threads=crf_has_threads(config.crf))
    with WorkerPool(workers) as pool:
        done = _masks_of(context, pool, job, share)
        for _ in progress(done, desc="make_sem_seg", total=len(share)):
            pass
    runtime.barrier()
    return {"images": len(pending)} if pending else None


def _masks_of(context: Context, pool: WorkerPool, job: _Job, ids: list[str]) -> Iterator[None]:
    """Writes the masks of `ids`; the CRF is the pool's where it runs on the CPU."""
    walked = walk_images(context, ids)
    if is_accelerator(job.device):
        return pool.map(_write_masks, ((job.masks, _label(job, each)) for each in walked))
    return pool.map(_label_and_write, ((job, _on_cpu(each)) for each in walked))


def walk_images(context: Context, ids: list[str]) -> Iterator[Walked]:
    """The CAMs of `ids` after the random walk, in their order; scores where the network is."""
    config = context.config
    inputs = _Inputs(context.dataset, context.cam_files(ids), config.cam_format)
    size = IMAGES_A_WALK if is_accelerator(context.runtime.device) else 1
    for group in _groups(with_boundaries(context, inputs), size):
        walked = random_walk_many(
            [(read["cam"].to(edge.device, non_blocking=True), edge) for read, edge in group],
            beta=config.beta,
            exp_times=config.exp_times,
            method=config.walk,
        )
        _demand_finite(walked, [read["image_id"] for read, _ in group], context)
        for (read, _), scores in zip(group, walked, strict=True):
            yield Walked(read["image_id"], read["image"], np.asarray(read["class_ids"]), scores)


def _demand_finite(walked: list[torch.Tensor], ids: list[str], context: Context) -> None:
    """Raise UserError if scores are NaN or infinite: CAMs never are, so the boundaries were."""
    # One answer for the group, since a GPU is waited for.
    are_finite = torch.stack([scores.isfinite().all() for scores in walked]).tolist()
    if not all(are_finite):
        raise UserError(
            f"make_sem_seg: the boundary network gives {ids[are_finite.index(False)]} a boundary "
            f"that is not finite. Either the weights in {context.bes_weights.path} are not: name "
            "others with --bes_weights_name, or train them anew; or --precision fp16 overflowed: "
            "use bf16 or fp32."
        )


def _groups(predicted: Iterable[Predicted], size: int) -> Iterator[list[Predicted]]:
    """Portions of `size` images; only as many are predicted ahead."""
    images = iter(predicted)
    while group := list(islice(images, size)):
        yield group


def _on_cpu(walked: Walked) -> Walked:
    # Arrays: torch hands tensors to other processes through file descriptors, one each.
    scores = torch.as_tensor(walked.scores).cpu().numpy()
    return replace(walked, image=np.asarray(walked.image), scores=scores)


def _label(job: _Job, walked: Walked) -> Labelled:
    """Label one image on the device of `job`."""
    size = (walked.image.shape[0], walked.image.shape[1])
    scores = torch.as_tensor(walked.scores).to(job.device)
    regions = scores_to_regions(scores, size, job.background_score)
    crf = DenseCrf(walked.image, MASK_CRF, backend=job.crf_backend, device=job.device)
    smoothed = crf.from_labels(regions, len(walked.class_ids) + 1)
    both = torch.stack([regions, smoothed.to(regions.device)]).cpu().numpy()
    return Labelled(walked.image_id, walked.class_ids, both[0], both[1])


def _label_and_write(task: tuple[_Job, Walked]) -> None:
    job, walked = task
    _write_masks((job.masks, _label(job, walked)))


def _write_masks(task: tuple[ArtefactFolder, Labelled]) -> None:
    masks, labelled = task
    results = {".png": labelled.regions, f"{CRF_SUFFIX}.png": labelled.smoothed}
    for suffix, regions in results.items():
        with atomic_write(masks.path(labelled.image_id, suffix)) as file:
            write_palette_png(file, regions_to_mask(regions, labelled.class_ids))
