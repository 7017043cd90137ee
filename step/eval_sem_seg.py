"""Score the pseudo masks, before and after the CRF, against the exact masks."""

from typing import Any

from misc.workers import WorkerPool
from misc.workspace import stat_digest
from step.context import Context
from step.preflight import artefact_problems, mask_problems
from step.scores import score_masks
from voc12.lists import CRF_SUFFIX

SETTINGS = ("chainer_eval_set", "eval_classes")


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    problems = mask_problems(context.dataset, context.eval_ids)
    are_made = "make_sem_seg" in context.requested
    if are_made and not context.pseudo_masks.is_plugged_in(context.infer_ids):
        made = set(context.infer_ids)
    else:
        made = set()
    ids = [image_id for image_id in context.eval_ids if image_id not in made]
    return problems + artefact_problems(context, context.pseudo_masks, ids, "make_sem_seg")


def inputs_digest(context: Context) -> str:
    """Fingerprint of what is scored and what it is scored against."""
    ids = context.eval_ids
    folder = context.pseudo_masks
    predicted = stat_digest(folder.path(i, suffix) for i in ids for suffix in folder.suffixes)
    return f"{predicted} {stat_digest(context.dataset.mask_path(i) for i in ids)}"


def run(context: Context) -> dict[str, Any]:
    """Score the masks of the evaluated split.

    Returns:
        miou, iou, fp, fn and, with the ending `_crf`, the same after the CRF.
    """
    ids, dataset, folder = context.eval_ids, context.dataset, context.pseudo_masks
    scores: dict[str, Any] = {"images": len(ids)}
    with WorkerPool(context.runtime.num_workers) as pool:
        for suffix, ending in ((".png", ""), (f"{CRF_SUFFIX}.png", "_crf")):
            pairs = [(dataset.mask_path(i), folder.path(i, suffix)) for i in ids]
            found = score_masks(pool, pairs, context, desc=f"eval_sem_seg{ending}")
            scores |= {f"{name}{ending}": value for name, value in found.items()}
    return scores
