"""Score the walked scores against the exact masks, at SBE's background threshold and at the best.

These are SBE's masks before the CRF, at every threshold in one pass.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from misc.config import Config
from step.artefacts import CLASS_NAMES, PSEUDO_MASKS, SCORED_MASKS, WALKS, has_exact_masks, has_walk
from step.common.results import CamFile, CamReader
from step.common.threshold_scores import Maps, describe_thresholds, score_at_thresholds
from step.graph import ScoringStep, Work

if TYPE_CHECKING:
    from step.run import Run


class EvalWalk(ScoringStep):
    """mIoU of argmax([threshold, walked scores])."""

    help = "score the walked scores over all thresholds"
    reads = (SCORED_MASKS, CLASS_NAMES, WALKS)

    def runs_unasked(self, config: Config) -> bool:
        return has_walk(config) and has_exact_masks(config)

    def images(self, run: "Run") -> list[str]:
        return run.eval_ids

    def why_off(self, run: "Run") -> str:
        """No walk is made for masks that are there."""
        if PSEUDO_MASKS.made(run).is_foreign and not WALKS.folder(run).path.exists():
            return "you put the pseudo masks there, and there are no walked scores"
        return ""

    def make(
        self, work: Work, *, sem_seg_bg_thres: float, eval_classes: tuple[str, ...]
    ) -> dict[str, Any]:
        """Scores of every image of the evaluated split, as `score_at_thresholds` has them."""
        walks = WALKS.made(work.run)
        load = partial(_load, read=walks.reader)
        files = walks.files(work.ids)
        return score_at_thresholds(
            work, files, load, sem_seg_bg_thres, eval_classes, desc=self.name
        )

    def describe(self, result: Mapping[str, Any]) -> str:
        return describe_thresholds(result)


def _load(file: CamFile, size: tuple[int, int], *, read: CamReader) -> Maps:
    from misc.pseudo_mask import enlarge_scores

    walked = read(file, size, "cam")
    return enlarge_scores(walked.cam, size), walked.class_ids
