"""Pseudo masks: CAMs spread by a random walk that boundaries stop, before and after a CRF."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from misc.boundary_label import regions_to_mask
from misc.cam_files import read_cams
from misc.crf import MASK_CRF, DenseCrf
from misc.log import progress
from misc.pseudo_mask import scores_to_regions
from misc.random_walk import random_walk
from misc.runtime import WorkerPool
from misc.visualize import write_palette_png
from misc.workspace import ArtefactFolder, Record, atomic_write
from step.context import Context
from step.predict import predict_boundaries
from step.preflight import cam_problems, foreign_problems, image_problems, weights_problems
from voc12.lists import CRF_SUFFIX

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Walked:
    """One image after the random walk."""

    image_id: str
    image: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray


def run(context: Context) -> dict[str, Any] | None:
    """Write the pseudo masks that are missing; None if there was none.

    The network and the walk run here; CRF and writing follow in worker processes meanwhile.

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
        config.subset(SETTINGS),
        {
            "CAMs": context.cam_digest(),
            "boundary weights": context.bes_weights.state_digest(),
        },
    )
    pending = runtime.on_main(
        lambda: masks.claim(record, context.infer_ids, overwrite=config.overwrite)
    )
    share = runtime.shard(pending)
    settings = (config.sem_seg_bg_thres, config.crf)
    with WorkerPool(runtime.num_workers) as pool:
        tasks = ((masks, walked, *settings) for walked in walk_images(context, share))
        done = pool.map(_write_masks, tasks)
        for _ in progress(done, desc="make_sem_seg", total=len(share)):
            pass
    runtime.barrier()
    return {"images": len(pending)} if pending else None


def walk_images(context: Context, ids: list[str]) -> Iterator[Walked]:
    """The CAMs of `ids` after the random walk, in their order."""
    config = context.config
    cam_files = context.cam_files(ids)
    for image_id, image, boundary in predict_boundaries(context, ids):
        cams = read_cams(
            cam_files[image_id],
            image.shape[:2],
            num_classes=context.dataset.num_classes,
            cam_format=config.cam_format,
            parts=["cam"],
        )
        cam = torch.from_numpy(cams.cam).to(boundary.device)
        scores = random_walk(
            cam, boundary, beta=config.beta, exp_times=config.exp_times, method=config.walk
        )
        yield Walked(image_id, image, cams.class_ids, scores.cpu().numpy())


def _write_masks(task: tuple[ArtefactFolder, Walked, float, str]) -> str:
    masks, walked, background_score, crf_backend = task
    regions = scores_to_regions(walked.scores, walked.image.shape[:2], background_score)
    crf = DenseCrf(walked.image, MASK_CRF, backend=crf_backend)
    smoothed = crf.from_labels(regions, len(walked.class_ids) + 1)
    for suffix, result in ((".png", regions), (f"{CRF_SUFFIX}.png", smoothed)):
        with atomic_write(masks.path(walked.image_id, suffix)) as file:
            mask = regions_to_mask(result.astype(np.uint8), walked.class_ids)
            write_palette_png(file, mask)
    return walked.image_id
