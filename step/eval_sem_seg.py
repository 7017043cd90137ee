"""Score the pseudo masks, before and after the CRF, against the exact masks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from misc.config import Config
from step.artefacts import CLASS_NAMES, PSEUDO_MASKS, SCORED_MASKS, FilesOf, has_exact_masks
from step.common.scores import describe_masks, score_both_masks
from step.graph import ScoringStep, Work

if TYPE_CHECKING:
    from step.run import Run


class EvalSemSeg(ScoringStep):
    """mIoU of both masks of every image."""

    help = "score the pseudo masks"
    reads = (SCORED_MASKS, CLASS_NAMES, FilesOf(PSEUDO_MASKS))

    def runs_unasked(self, config: Config) -> bool:
        return has_exact_masks(config)

    def images(self, run: "Run") -> list[str]:
        return run.eval_ids

    def make(self, work: Work, *, eval_classes: tuple[str, ...]) -> dict[str, Any]:
        """Scores of the masks of the evaluated split.

        Returns:
            what `score_both_masks` does.
        """
        folder = PSEUDO_MASKS.folder(work.run)
        return score_both_masks(work.run, folder, work.ids, eval_classes, desc=self.name)

    def describe(self, result: Mapping[str, Any]) -> str:
        return describe_masks(result)
