"""Pseudo masks by WSSS-BED's rule: one set of CAMs, one of saliency maps, two thresholds."""

import logging
from dataclasses import dataclass
from typing import Any

from misc.cam_files import read_cams
from misc.log import progress
from misc.saliency import read_saliency
from misc.visualize import write_palette_png
from misc.workers import WorkerPool
from misc.workspace import ArtefactFolder, atomic_write
from misc.wsss_bed import make_wsss_bed_mask
from step.context import CamFile, Context
from step.preflight import cam_problems, foreign_problems, image_problems, saliency_problems
from voc12.files import VocDataset, image_size

logger = logging.getLogger(__name__)

SETTINGS = (
    "wsss_bed_act_thres", "wsss_bed_sal_thres", "wsss_bed_ignore", "saliency", "cam_format",
)  # fmt: skip


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    wanted = context.to_make(context.wsss_bed_masks, context.infer_ids)
    problems = foreign_problems(context.wsss_bed_masks, context.infer_ids)
    problems += image_problems(context.dataset, wanted)
    problems += saliency_problems(context.dataset, wanted)
    if "make_cam" not in context.requested or context.cams_are_plugged_in():
        problems += cam_problems(context, wanted)
    return problems


@dataclass(frozen=True)
class _Job:
    """All that a worker process needs to make one image's mask."""

    dataset: VocDataset
    cam_format: str
    masks: ArtefactFolder
    act_thres: float
    sal_thres: float
    ignore: bool


def run(context: Context) -> dict[str, Any] | None:
    """Write the masks that are missing; None if there was none.

    With `--saliency none` the background scores `--wsss_bed_act_thres` and nothing is ignored.

    Raises:
        UserError: if masks of other settings are there, or an input is bad.
    """
    config, runtime = context.config, context.runtime
    masks, ids = context.wsss_bed_masks, context.infer_ids
    record = context.saliency_record(config.subset(SETTINGS), ids)
    pending = runtime.on_main(lambda: masks.claim(record, ids, overwrite=config.overwrite))
    share = runtime.shard(pending)
    job = _Job(
        context.dataset,
        config.cam_format,
        masks,
        config.wsss_bed_act_thres,
        config.wsss_bed_sal_thres,
        config.wsss_bed_ignore,
    )
    cam_files = context.cam_files(share)
    with WorkerPool(runtime.num_workers) as pool:
        done = pool.map(_make_one, ((job, i, cam_files[i]) for i in share))
        for _ in progress(done, desc="make_wsss_bed_masks", total=len(share)):
            pass
    runtime.barrier()
    return {"images": len(pending)} if pending else None


def _make_one(task: tuple[_Job, str, CamFile]) -> None:
    job, image_id, cam_file = task
    dataset = job.dataset
    cams = read_cams(
        cam_file,
        image_size(dataset.image_path(image_id)),
        num_classes=dataset.num_classes,
        cam_format=job.cam_format,
        parts=["high_res"],
    )
    saliency = None
    if dataset.saliency_root is not None:
        saliency = read_saliency(dataset.saliency_path(image_id))
    mask = make_wsss_bed_mask(
        cams.high_res,
        cams.class_ids,
        saliency,
        act_thres=job.act_thres,
        sal_thres=job.sal_thres,
        ignore=job.ignore,
    )
    with atomic_write(job.masks.path(image_id)) as file:
        write_palette_png(file, mask)
