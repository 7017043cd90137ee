"""Score the CAMs against the exact masks, at the given background threshold and at the best."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from misc.config import Config, setting
from step.artefacts import CAMS, CLASS_NAMES, SCORED_MASKS, has_exact_masks
from step.common.results import CamFile, CamReader
from step.common.threshold_scores import Maps, describe_thresholds, score_at_thresholds
from step.graph import ScoringStep, Work

if TYPE_CHECKING:
    from step.run import Run


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
    reads = (SCORED_MASKS, CLASS_NAMES, CAMS)
    flags = Settings

    def runs_unasked(self, config: Config) -> bool:
        return has_exact_masks(config)

    def images(self, run: "Run") -> list[str]:
        return run.eval_ids

    def make(
        self, work: Work, *, cam_eval_thres: float, eval_classes: tuple[str, ...]
    ) -> dict[str, Any]:
        """Scores of every image of the evaluated split, as `score_at_thresholds` has them."""
        cams = CAMS.made(work.run)
        load = partial(_load, read=cams.reader)
        files = cams.files(work.ids)
        return score_at_thresholds(work, files, load, cam_eval_thres, eval_classes, desc=self.name)

    def describe(self, result: Mapping[str, Any]) -> str:
        return describe_thresholds(result)


def _load(file: CamFile, size: tuple[int, int], *, read: CamReader) -> Maps:
    cams = read(file, size, "high_res")
    return cams.high_res, cams.class_ids
