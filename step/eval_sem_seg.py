"""Score the pseudo masks, before and after the CRF, against the exact masks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from misc.config import Config
from misc.runtime import WorkerPool
from step.artefacts import PSEUDO_MASKS, SCORED_MASKS, FilesOf, has_exact_masks
from step.common.scores import describe_masks, score_masks
from step.graph import ScoringStep, Work

if TYPE_CHECKING:
    from step.run import Run


class EvalSemSeg(ScoringStep):
    """mIoU of both masks of every image."""

    help = "score the pseudo masks"
    reads = (SCORED_MASKS, FilesOf(PSEUDO_MASKS))

    def runs_unasked(self, config: Config) -> bool:
        return has_exact_masks(config)

    def images(self, run: "Run") -> list[str]:
        return run.eval_ids

    def make(self, work: Work, *, eval_classes: tuple[str, ...]) -> dict[str, Any]:
        """Scores of the masks of the evaluated split.

        Returns:
            miou, iou, fp, fn and, with the ending `_crf`, the same after the CRF.
        """
        run, dataset = work.run, work.run.dataset
        folder = PSEUDO_MASKS.folder(run)
        scores: dict[str, Any] = {"images": len(work.ids)}
        with WorkerPool(run.runtime.num_workers) as pool:
            for suffix in folder.suffixes:
                ending = suffix.removesuffix(".png")
                pairs = [(dataset.mask_path(i), folder.file(i, suffix)) for i in work.ids]
                of_suffix = score_masks(
                    pool, pairs, dataset.class_names, eval_classes, desc=f"eval_sem_seg{ending}"
                )
                scores |= {f"{name}{ending}": value for name, value in of_suffix.items()}
        return scores

    def describe(self, result: Mapping[str, Any]) -> str:
        return describe_masks(result)
