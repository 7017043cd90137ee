"""Score the refined masks, before and after the CRF, against the exact masks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from misc.config import Config
from step.artefacts import CLASS_NAMES, REFINED_MASKS, ExactMasks, FilesOf, has_exact_masks
from step.common.scores import describe_masks, score_both_masks
from step.graph import ScoringStep, Work

if TYPE_CHECKING:
    from step.run import Run

EXACT_MASKS = ExactMasks(
    "Put masks of the images' sizes there, or score another split with --chainer_eval_set. Without "
    "exact masks pass --eval_refined_pass no."
)


class EvalRefined(ScoringStep):
    """mIoU of both masks of every image; `eval_sem_seg` has that of the masks before."""

    help = "score the refined masks"
    reads = (EXACT_MASKS, CLASS_NAMES, FilesOf(REFINED_MASKS))
    is_default = False
    comes_with = "--sam_root DIR"
    in_demo = False

    def runs_unasked(self, config: Config) -> bool:
        is_refined = config.sam_root is not None  # type: ignore[attr-defined]
        return is_refined and has_exact_masks(config)

    def images(self, run: "Run") -> list[str]:
        return run.eval_ids

    def make(self, work: Work, *, eval_classes: tuple[str, ...]) -> dict[str, Any]:
        """Scores of the masks of the evaluated split.

        Returns:
            what `score_both_masks` does.
        """
        folder = REFINED_MASKS.folder(work.run)
        return score_both_masks(work.run, folder, work.ids, eval_classes, desc=self.name)

    def describe(self, result: Mapping[str, Any]) -> str:
        return describe_masks(result)
