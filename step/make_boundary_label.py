"""Boundary labels from CAMs and saliency maps: what the boundary network learns."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from misc.boundary_label import (
    make_boundary_label,
    make_confident_regions,
    mask_to_regions,
    regions_to_mask,
)
from misc.cam_files import read_cams
from misc.crf import SEED_CRF, DenseCrf
from misc.log import progress
from misc.runtime import WorkerPool
from misc.saliency import read_saliency
from misc.visualize import write_palette_png
from misc.workspace import ArtefactFolder, Record, atomic_write
from step.context import CamFile, Context
from step.preflight import (
    cam_problems,
    foreign_problems,
    image_problems,
    saliency_problems,
)
from voc12.files import VocDataset, read_image, read_mask

logger = logging.getLogger(__name__)

REGION_SETTINGS = ("conf_fg_thres", "conf_bg_thres", "cam_format")
SETTINGS = (
    *REGION_SETTINGS, "window_size", "theta_scale", "theta_diff", "salbound_thres", "sal_bg_thres",
    "saliency",
)  # fmt: skip


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    labels, ids = context.boundary_labels, context.train_ids
    if labels.is_plugged_in(ids):
        return []
    wanted = context.to_make(labels, ids)
    problems = foreign_problems(context.confident_regions, ids) + foreign_problems(labels, ids)
    problems += image_problems(context.dataset, wanted)
    problems += saliency_problems(context.dataset, wanted)
    if "make_cam" not in context.requested or context.cams_are_plugged_in():
        problems += cam_problems(context, wanted)
    return problems


@dataclass(frozen=True)
class _Job:
    """All that a worker process needs to make one image's boundary label."""

    dataset: VocDataset
    cam_format: str
    confident_regions: ArtefactFolder
    boundary_labels: ArtefactFolder
    conf_fg_thres: float
    conf_bg_thres: float
    crf_backend: str
    thresholds: dict[str, Any]


def run(context: Context) -> dict[str, Any] | None:
    """Write the boundary labels that are missing; None if there was none.

    Confident regions do not depend on saliency: those that are there and current are read again
    instead of being computed.

    Raises:
        UserError: if labels of other settings are there, or an input is bad.
    """
    config, runtime = context.config, context.runtime
    regions, labels, ids = context.confident_regions, context.boundary_labels, context.train_ids
    if labels.is_plugged_in(ids):
        logger.info("make_boundary_label: using the labels found in %s", labels.folder)
        return None
    inputs = {"CAMs": context.cam_digest()}
    region_record = Record(config.subset(REGION_SETTINGS), inputs)
    saliency = {"saliency maps": context.saliency_digest(ids)}
    label_record = Record(config.subset(SETTINGS), inputs | saliency)

    def claim() -> list[str]:
        regions.claim(region_record, ids, overwrite=config.overwrite)
        return labels.claim(label_record, ids, overwrite=config.overwrite)

    pending = runtime.on_main(claim)
    share = runtime.shard(pending)
    job = _Job(
        context.dataset,
        config.cam_format,
        regions,
        labels,
        config.conf_fg_thres,
        config.conf_bg_thres,
        config.crf,
        {
            "window_size": config.window_size,
            "theta_scale": config.theta_scale,
            "theta_diff": config.theta_diff,
            "salbound_thres": config.salbound_thres,
            "sal_bg_thres": config.sal_bg_thres,
        },
    )
    cam_files = context.cam_files(share)
    with WorkerPool(runtime.num_workers) as pool:
        done = pool.map(_make_one, ((job, i, cam_files[i]) for i in share))
        for _ in progress(done, desc="make_boundary_label", total=len(share)):
            pass
    runtime.barrier()
    return {"images": len(pending)} if pending else None


def _make_one(task: tuple[_Job, str, CamFile]) -> None:
    job, image_id, cam_file = task
    image = read_image(job.dataset.image_path(image_id))
    regions, num_classes = _confident_regions(job, image_id, cam_file, image)
    saliency = None
    if job.dataset.saliency_root is not None:
        saliency = read_saliency(job.dataset.saliency_path(image_id))
    codes = make_boundary_label(regions, num_classes, saliency, **job.thresholds)
    with atomic_write(job.boundary_labels.path(image_id)) as file:
        Image.fromarray(codes).save(file, "PNG")


def _confident_regions(
    job: _Job, image_id: str, cam_file: CamFile, image: np.ndarray
) -> tuple[np.ndarray, int]:
    """Confident regions of one image and its number of classes; read where they are there."""
    path = job.confident_regions.path(image_id)
    cams = read_cams(
        cam_file,
        image.shape[:2],
        num_classes=job.dataset.num_classes,
        cam_format=job.cam_format,
        parts=["high_res"] if not path.exists() else [],
    )
    if path.exists():
        return mask_to_regions(read_mask(path), cams.class_ids), len(cams.class_ids)
    crf = DenseCrf(image, SEED_CRF, backend=job.crf_backend)
    regions = make_confident_regions(
        image, cams.high_res, job.conf_fg_thres, job.conf_bg_thres, crf=crf
    )
    with atomic_write(path) as file:
        write_palette_png(file, regions_to_mask(regions, cams.class_ids))
    return regions, len(cams.class_ids)
