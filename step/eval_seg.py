"""Score the segmentation network: the last checkpoint and the best one, over all seeds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from misc.runtime import WorkerPool
from step.artefacts import CLASS_NAMES, ExactMasks
from step.common.scores import score_masks, spread, spread_text
from step.graph import ScoringStep, Source, Work
from step.seg.inputs import images_to_segment
from step.seg.results import BEST, LAST, VariantMasks, notes_of, variants_of

if TYPE_CHECKING:
    from step.run import Run

MASKS_OF_SPLIT = ExactMasks(
    "Put masks of the images' sizes there, choose another --make_seg_split, or pass "
    "--eval_seg_pass no.",
    with_augmented=True,
)
SUMMARISED = ("miou", "miou_crf", "miou_chosen", "miou_chosen_crf")


class EvalSeg(ScoringStep):
    """mIoU of every checkpoint and seed, their means and spreads."""

    help = "score the last and the best checkpoint of DeepLab-v2"
    is_default = False

    def images(self, run: "Run") -> list[str]:
        return images_to_segment(run)

    def sources(self, run: "Run") -> tuple[Source, ...]:
        """Exact masks, class names, and the masks of every variant."""
        return MASKS_OF_SPLIT, CLASS_NAMES, *(VariantMasks(variant) for variant in variants_of(run))

    def make(self, work: Work, *, eval_classes: tuple[str, ...]) -> dict[str, Any]:
        """Scores of every seed's last checkpoint and, where one was kept, of its best.

        Returns:
            `runs`, the scores of each by itself; `last` and `best`, mean and spread over the seeds;
            and how the network was trained. The best was chosen on val, so its
            score there is too high; it is never reported without the last.
        """
        run, names = work.run, work.run.dataset.class_names
        truth = {image_id: MASKS_OF_SPLIT.mask_path(run, image_id) for image_id in work.ids}
        runs = []
        with WorkerPool(run.runtime.num_workers) as pool:
            for variant in variants_of(run):
                notes = notes_of(variant.run)
                best = notes.best if variant.checkpoint == BEST else None
                scores: dict[str, Any] = {
                    "seed": variant.run.config.seed,
                    "checkpoint": variant.checkpoint,
                    "updates": notes.updates if best is None else best["updates"],
                    "initialisation": notes.initialisation,
                    "labels": notes.labels,
                }
                folder = variant.folder
                for suffix in folder.suffixes:
                    ending = suffix.removesuffix(".png")
                    pairs = [(truth[i], folder.file(i, suffix)) for i in work.ids]
                    desc = f"eval_seg {variant.name}{ending}"
                    of_suffix = score_masks(pool, pairs, names, eval_classes, desc=desc)
                    scores |= {f"{name}{ending}": value for name, value in of_suffix.items()}
                runs.append(scores)
        split = run.setting("make_seg_split")
        return {"images": len(work.ids), "split": split, **summary(runs)}

    def describe(self, result: Mapping[str, Any]) -> str:
        return "; ".join(
            f"{name} {_describe_checkpoint(result[checkpoint])}"
            for checkpoint, name in ((LAST, "last"), (BEST, "best on val"))
            if checkpoint in result
        )


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread of the checkpoints' scores over the seeds, and the scores themselves."""
    result: dict[str, Any] = {name: runs[0][name] for name in ("initialisation", "labels")}
    for checkpoint in (LAST, BEST):
        chosen = [run for run in runs if run["checkpoint"] == checkpoint]
        if chosen:
            result[checkpoint] = {
                name: spread([run[name] for run in chosen])
                for name in SUMMARISED
                if all(run.get(name) is not None for run in chosen)
            }
    return {**result, "runs": list(runs)}


def _describe_checkpoint(scores: Mapping[str, Any]) -> str:
    text = f"mIoU {spread_text(scores['miou'])}"
    if "miou_crf" in scores:
        text += f", after CRF {spread_text(scores['miou_crf'])}"
    if "miou_chosen" in scores:
        chosen = [scores[n] for n in ("miou_chosen", "miou_chosen_crf") if n in scores]
        text += f" (chosen classes {', '.join(spread_text(each) for each in chosen)})"
    return text
