"""Boundary labels from CAMs and saliency maps: what the boundary network learns."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from misc.boundary_label import (
    make_boundary_label,
    make_confident_regions,
    mask_to_regions,
    regions_to_mask,
)
from misc.cam_files import read_cams
from misc.crf import SEED_CRF, USUAL_CRF, DenseCrf, crf_device, crf_setting
from misc.log import progress
from misc.runtime import Runtime, is_accelerator
from misc.saliency import read_saliency
from misc.training import loader_options
from misc.visualize import write_palette_png
from misc.workers import WorkerPool
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
    """What is the same for all images."""

    dataset: VocDataset
    cam_format: str
    confident_regions: ArtefactFolder
    boundary_labels: ArtefactFolder
    conf_fg_thres: float
    conf_bg_thres: float
    crf_backend: str
    device: torch.device
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
    region_record = Record(
        config.subset(REGION_SETTINGS) | crf_setting(config.crf),
        {"CAMs": context.cam_digest()},
        usual=USUAL_CRF,
    )
    label_record = context.saliency_record(config.subset(SETTINGS), ids)

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
        crf_device(config.crf, runtime.device),
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
        done = _labels_of(runtime, pool, job, [(i, cam_files[i]) for i in share])
        for _ in progress(done, desc="make_boundary_label", total=len(share)):
            pass
    runtime.barrier()
    return {"images": len(pending)} if pending else None


Item = tuple[str, CamFile]
"""An image's id and its CAMs."""


@dataclass(frozen=True)
class _Regions:
    """Confident regions uint8 (H,W) of one image, indices into `class_ids` + 1."""

    image_id: str
    class_ids: np.ndarray
    regions: np.ndarray
    are_new: bool


def _labels_of(runtime: Runtime, pool: WorkerPool, job: _Job, items: list[Item]) -> Iterator[None]:
    """Writes the labels of `items`. The workers do all of it where the CRF runs on the CPU.

    On a GPU, worker processes read ahead, this one does the CRFs, and others label and write.
    """
    if not is_accelerator(job.device):
        return pool.map(_make_one, ((job, item) for item in items))
    loader = DataLoader(_Inputs(job, items), batch_size=None, **loader_options(runtime))
    return pool.map(_write_one, ((job, _find_regions(job, inputs)) for inputs in loader))


def _make_one(task: tuple[_Job, Item]) -> None:
    job, item = task
    _write_one((job, _find_regions(job, _read_inputs(job, item))))


class _Inputs(Dataset[dict[str, Any]]):
    """What the confident regions of each item are made of."""

    def __init__(self, job: _Job, items: list[Item]) -> None:
        self.job = job
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # The loader makes tensors of the arrays, and pins them for a GPU.
        return _read_inputs(self.job, self.items[index])


def _read_inputs(job: _Job, item: Item) -> dict[str, Any]:
    """Image, classes and CAMs of one image; instead of CAMs its regions, where they are there."""
    image_id, cam_file = item
    image = read_image(job.dataset.image_path(image_id))
    path = job.confident_regions.path(image_id)
    is_there = path.exists()
    cams = read_cams(
        cam_file,
        image.shape[:2],
        num_classes=job.dataset.num_classes,
        cam_format=job.cam_format,
        parts=[] if is_there else ["high_res"],
    )
    return {
        "image_id": image_id,
        "image": image,
        "class_ids": cams.class_ids,
        # A copy, since torch warns of sharing memory that numpy holds read-only.
        "cam": None if is_there else torch.tensor(cams.high_res),
        "regions": mask_to_regions(read_mask(path), cams.class_ids) if is_there else None,
    }


def _find_regions(job: _Job, inputs: dict[str, Any]) -> _Regions:
    regions, cam = inputs["regions"], inputs["cam"]
    if cam is not None:
        crf = DenseCrf(inputs["image"], SEED_CRF, backend=job.crf_backend, device=job.device)
        regions = make_confident_regions(
            inputs["image"],
            cam.to(job.device, non_blocking=True),
            job.conf_fg_thres,
            job.conf_bg_thres,
            crf=crf,
        )
    return _Regions(
        inputs["image_id"],
        np.asarray(inputs["class_ids"]),
        torch.as_tensor(regions).cpu().numpy(),
        cam is not None,
    )


def _write_one(task: tuple[_Job, _Regions]) -> None:
    job, found = task
    if found.are_new:
        with atomic_write(job.confident_regions.path(found.image_id)) as file:
            write_palette_png(file, regions_to_mask(found.regions, found.class_ids))
    saliency = None
    if job.dataset.saliency_root is not None:
        saliency = read_saliency(job.dataset.saliency_path(found.image_id))
    codes = make_boundary_label(found.regions, len(found.class_ids), saliency, **job.thresholds)
    with atomic_write(job.boundary_labels.path(found.image_id)) as file:
        Image.fromarray(codes).save(file, "PNG")
