"""Scores of maps of classes, such as CAMs, at every background threshold in one pass."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from misc.images import read_mask
from misc.log import progress
from misc.metrics import ThresholdSweep
from misc.runtime import WorkerPool
from step.common.results import CamFile
from step.common.scores import IMAGES_A_TASK, chunks, naming, percent, scores_to_json
from step.graph import Work

SWEEP = tuple(np.round(np.arange(0.01, 1.0, 0.01), 2).tolist())

Maps = tuple[np.ndarray, np.ndarray]
"""Full-size maps float32 (K,H,W), and the class ids (K,) that they belong to."""

Load = Callable[[CamFile, tuple[int, int]], Maps]
"""The maps in the files of an image of size (H,W); picklable."""


def score_at_thresholds(
    work: Work,
    files: Mapping[str, CamFile],
    load: Load,
    threshold: float,
    eval_classes: Sequence[str],
    *,
    desc: str,
) -> dict[str, Any]:
    """Scores of argmax([threshold, maps]) over `work.ids`.

    Returns:
        miou, iou and the rest at `threshold`; the best of that and 0.01 to 0.99 with its miou,
        which was chosen on these very images and is therefore too high; the curve.
    """
    run, dataset = work.run, work.run.dataset
    thresholds = tuple(sorted({*SWEEP, threshold}))
    items = [(dataset.mask_path(i), files[i]) for i in work.ids]
    tasks = [(load, dataset.num_classes + 1, thresholds, part) for part in chunks(items)]
    total = ThresholdSweep(thresholds, dataset.num_classes + 1)
    with WorkerPool(run.runtime.num_workers) as pool:
        swept = pool.map(_sweep, tasks)
        for part in progress(swept, desc=desc, total=len(items), each=IMAGES_A_TASK):
            total.merge(part)
    scores = [total.confusion(i).scores() for i in range(len(thresholds))]
    best = total.best()
    return {
        "images": len(work.ids),
        "threshold": threshold,
        **scores_to_json(scores[thresholds.index(threshold)], dataset.class_names, eval_classes),
        "best_threshold": thresholds[best],
        "best": scores_to_json(scores[best], dataset.class_names, eval_classes),
        "curve": {
            "threshold": list(thresholds),
            "miou": [None if np.isnan(each.miou) else each.miou for each in scores],
        },
    }


def _sweep(task: tuple[Load, int, tuple[float, ...], list[tuple[Path, CamFile]]]) -> ThresholdSweep:
    load, num_classes, thresholds, items = task
    sweep = ThresholdSweep(thresholds, num_classes)
    for mask_path, file in items:
        mask = read_mask(mask_path)
        maps, class_ids = load(file, (mask.shape[0], mask.shape[1]))
        with naming(mask_path):
            sweep.add(mask, maps, class_ids)
    return sweep


def describe_thresholds(result: Mapping[str, Any]) -> str:
    """Such scores in one line."""
    best = result["best"]
    extra = ""
    if "miou_chosen" in best:
        extra = f" (chosen classes {percent(best['miou_chosen'])})"
    return (
        f"mIoU {percent(result['miou'])} at threshold {result['threshold']:g}, "
        f"best {percent(best['miou'])} at {result['best_threshold']:g}{extra}"
    )
