"""Class activation maps of every image, over several scales and their mirror images."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from misc.cam_files import Cams, write_irn
from misc.errors import UserError
from misc.log import progress
from misc.training import loader_options
from misc.workspace import Record, atomic_write
from net.cam import combine_scales
from step.context import Context
from step.networks import build_classifier
from step.preflight import image_problems, problems_of, tag_problems, weights_problems
from voc12.dataloader import ImagePyramids

logger = logging.getLogger(__name__)

SETTINGS = ("backbone", "cam_scales", "tags_from", "precision")
USUAL = {"cam_dtype": "float32", "cam_high_res": True}


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    if context.cams_are_plugged_in():
        missing = context.cams_without_file(context.cam_ids)
        hint = context.hint_of_empty_images()
        return [context.cams.mixture(missing) + hint] if missing else []
    wanted = context.cams_to_make()
    if not wanted:
        return problems_of(lambda: _demand_settings(context))
    problems = image_problems(context.dataset, wanted) + tag_problems(context)
    if "train_cam" not in context.requested:
        problems += weights_problems(context.cam_weights, "train_cam")
    return problems


def _demand_settings(context: Context) -> None:
    """Refuse CAMs of other settings where the weights are gone; with weights, `claim` does.

    Raises:
        UserError: naming each setting that differs.
    """
    cams = context.cams
    earlier = Record.read(cams.record_path)
    if earlier is not None and not context.cam_weights.exists():
        record = replace(_record(context), inputs=earlier.inputs)
        record.demand_equal(earlier, f"What {cams.folder} holds", context.remedy_of_cams)


def _record(context: Context) -> Record:
    """What makes the CAMs; settings that came later are in it only where they are not the usual."""
    config = context.config
    settings = config.subset(SETTINGS) | {"tags_from": context.tags_source}
    settings |= {k: v for k, v in config.subset(tuple(USUAL)).items() if v != USUAL[k]}
    weights = context.cam_weights
    trained = None if weights.is_foreign() else Record.read(weights.record_path)
    trained_with = None if trained is None else trained.settings
    return Record(settings, {"cam weights": weights.state_digest()}, USUAL, trained_with)


def run(context: Context) -> dict[str, Any] | None:
    """Write the CAMs that are missing; None if there was none.

    Raises:
        UserError: if CAMs of other settings, or some but not all of a stranger's, are there.
    """
    cams, config = context.cams, context.config
    if context.cams_are_plugged_in():
        missing = context.cams_without_file(context.cam_ids)
        if missing:
            raise UserError(cams.mixture(missing))
        logger.info("make_cam: using the CAMs found in %s", cams.folder)
        return None
    if not context.cam_weights.exists() and not cams.pending(context.cam_ids):
        logger.info("make_cam: all CAMs are in %s", cams.folder)
        return None
    record = _record(context)
    pending = context.runtime.on_main(
        lambda: cams.claim(record, context.cam_ids, overwrite=config.overwrite)
    )
    share = context.runtime.shard(pending)
    for image_id, result in progress(_make(context, share), desc="make_cam", total=len(share)):
        with atomic_write(cams.path(image_id)) as file:
            write_irn(file, result, config.cam_dtype, high_res=config.cam_high_res)
    context.runtime.barrier()
    return {"images": len(pending)} if pending else None


@torch.no_grad()
def _make(context: Context, ids: list[str]) -> Iterator[tuple[str, Cams]]:
    if not ids:
        return
    runtime = context.runtime
    classifier = build_classifier(context, load=True).to(runtime.device).eval()
    images = ImagePyramids(context.dataset, ids, context.config.cam_scales)
    loader = DataLoader(images, batch_size=None, **loader_options(runtime))
    for sample in loader:
        class_ids = context.class_ids(sample["image_id"])
        with runtime.accelerator.autocast():
            maps = [
                classifier.cams_of_pair(level.to(runtime.device, non_blocking=True))
                for level in sample["levels"]
            ]
        height, width = sample["image"].shape[:2]
        cam, high_res = combine_scales(maps, (height, width), class_ids.tolist())
        yield sample["image_id"], Cams(class_ids, cam.cpu().numpy(), high_res.cpu().numpy())
