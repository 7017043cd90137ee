"""Score the CAMs against the exact masks, at the given background threshold and at the best."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from misc.config import setting
from misc.images import read_mask
from misc.log import progress
from misc.metrics import ThresholdSweep
from misc.runtime import WorkerPool
from step.artefacts import CAMS, SCORED_MASKS
from step.common.results import CamFile, CamReader
from step.common.scores import chunks, naming, percent, scores_to_json
from step.graph import ScoringStep, Work

if TYPE_CHECKING:
    from step.run import Run

SWEEP = tuple(np.round(np.arange(0.01, 1.0, 0.01), 2).tolist())


@dataclass(frozen=True)
class Settings:
    """What the CAMs are scored at."""

    heading: ClassVar[str] = "scores of the CAMs (eval_cam)"

    cam_eval_thres: float = setting(
        0.21, "background threshold; the best one is reported too", at_least=0, at_most=1
    )


class EvalCam(ScoringStep):
    """mIoU of argmax([threshold, CAM])."""

    help = "score the CAMs over all thresholds"
    reads = (SCORED_MASKS, CAMS)
    flags = Settings

    def images(self, run: "Run") -> list[str]:
        return run.eval_ids

    def make(
        self, work: Work, *, cam_eval_thres: float, eval_classes: tuple[str, ...]
    ) -> dict[str, Any]:
        """Scores of every image of the evaluated split.

        Returns:
            miou, iou and the rest at `cam_eval_thres`; the best threshold of 0.01 to 0.99 with its
            miou, which was chosen on these very images and is therefore too high.
        """
        run, dataset = work.run, work.run.dataset
        thresholds = tuple(sorted({*SWEEP, cam_eval_thres}))
        cams = CAMS.made(run)
        items = [(dataset.mask_path(i), file) for i, file in cams.files(work.ids).items()]
        tasks = [(cams.reader, thresholds, part) for part in chunks(items)]
        total = ThresholdSweep(thresholds, dataset.num_classes + 1)
        with WorkerPool(run.runtime.num_workers) as pool:
            for part in progress(pool.map(_sweep, tasks), desc="eval_cam", total=len(tasks)):
                total.merge(part)
        best = total.best()
        at_given = total.confusion(thresholds.index(cam_eval_thres)).scores()
        at_best = total.confusion(best).scores()
        return {
            "images": len(work.ids),
            "threshold": cam_eval_thres,
            **scores_to_json(at_given, dataset.class_names, eval_classes),
            "best_threshold": thresholds[best],
            "best": scores_to_json(at_best, dataset.class_names, eval_classes),
        }

    def describe(self, result: Mapping[str, Any]) -> str:
        best = result["best"]
        extra = ""
        if "miou_chosen" in best:
            extra = f" (chosen classes {percent(best['miou_chosen'])})"
        return (
            f"mIoU {percent(result['miou'])} at threshold {result['threshold']:g}, "
            f"best {percent(best['miou'])} at {result['best_threshold']:g}{extra}"
        )


def _sweep(task: tuple[CamReader, tuple[float, ...], list[tuple[Path, CamFile]]]) -> ThresholdSweep:
    read, thresholds, items = task
    sweep = ThresholdSweep(thresholds, read.num_classes + 1)
    for mask_path, cam_file in items:
        mask = read_mask(mask_path)
        cams = read(cam_file, (mask.shape[0], mask.shape[1]), "high_res")
        with naming(mask_path):
            sweep.add(mask, cams.high_res, cams.class_ids)
    return sweep
