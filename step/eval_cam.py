"""Score the CAMs against the exact masks, at the given background threshold and at the best."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from misc.cam_files import read_cams
from misc.log import progress
from misc.metrics import Scores, ThresholdSweep
from misc.workers import WorkerPool
from misc.workspace import stat_digest
from step.context import CamFile, Context
from step.preflight import cam_problems, mask_problems
from step.scores import chunks, naming, scores_to_json
from voc12.files import VocDataset, read_mask

SETTINGS = ("cam_eval_thres", "cam_format", "chainer_eval_set", "eval_classes")
SWEEP = tuple(np.round(np.arange(0.01, 1.0, 0.01), 2).tolist())


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    problems = mask_problems(context.dataset, context.eval_ids)
    if "make_cam" not in context.requested or context.cams_are_plugged_in():
        problems += cam_problems(context, context.eval_ids)
    return problems


def inputs_digest(context: Context) -> str:
    """Fingerprint of what is scored and what it is scored against."""
    ids = context.eval_ids
    masks = stat_digest(context.dataset.mask_path(i) for i in ids)
    return f"{context.cam_digest()} {masks}"


def run(context: Context) -> dict[str, Any]:
    """Score `argmax([threshold, CAM])` of every image of the evaluated split.

    Returns:
        miou, iou and the rest at `--cam_eval_thres`; the best threshold of 0.01 to 0.99 with its
        miou, which was chosen on these very images and is to be read so.
    """
    config = context.config
    thresholds = tuple(sorted({*SWEEP, config.cam_eval_thres}))
    num_classes = context.dataset.num_classes + 1
    files = context.cam_files(context.eval_ids)
    tasks = [
        _Task(context.dataset, {i: files[i] for i in part}, config.cam_format, thresholds)
        for part in chunks(context.eval_ids)
    ]
    total = ThresholdSweep(thresholds, num_classes)
    with WorkerPool(context.runtime.num_workers) as pool:
        for part in progress(pool.map(_sweep, tasks), desc="eval_cam", total=len(tasks)):
            total.merge(part)
    at_given = total.confusion(thresholds.index(config.cam_eval_thres)).scores()
    best = total.best()
    best_scores: Scores = total.confusion(best).scores()
    return {
        "images": len(context.eval_ids),
        "threshold": config.cam_eval_thres,
        **scores_to_json(at_given, context),
        "best_threshold": thresholds[best],
        "best": scores_to_json(best_scores, context),
    }


@dataclass(frozen=True)
class _Task:
    """Some images for a worker process."""

    dataset: VocDataset
    cam_files: dict[str, CamFile]
    cam_format: str
    thresholds: tuple[float, ...]


def _sweep(task: _Task) -> ThresholdSweep:
    num_classes = task.dataset.num_classes
    sweep = ThresholdSweep(task.thresholds, num_classes + 1)
    for image_id, cam_file in task.cam_files.items():
        mask_path = task.dataset.mask_path(image_id)
        mask = read_mask(mask_path)
        cams = read_cams(
            cam_file,
            mask.shape,
            num_classes=num_classes,
            cam_format=task.cam_format,
            parts=["high_res"],
        )
        with naming(mask_path):
            sweep.add(mask, cams.high_res, cams.class_ids)
    return sweep
