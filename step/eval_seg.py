"""Score the segmentation network: the last checkpoint and the best one, over all seeds."""

from collections.abc import Sequence
from typing import Any

from misc.workers import WorkerPool
from misc.workspace import stat_digest
from step.context import Context
from step.preflight import artefact_problems, map_problems
from step.scores import score_masks, spread
from step.segmentation import (
    BEST,
    LAST,
    Variant,
    scored_mask_path,
    segmented_ids,
    trainings,
    variants,
)
from voc12.lists import CRF_SUFFIX

SETTINGS = ("make_seg_split", "eval_classes", "seg_crf", "seg_seeds")
REMEDY = "Put it there, name another --make_seg_split, or pass --eval_seg_pass no."
SUMMARISED = ("miou", "miou_crf", "miou_chosen", "miou_chosen_crf")


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    ids = segmented_ids(context)
    truth = {i: scored_mask_path(context.dataset, i) for i in ids}
    problems = map_problems(context.dataset, truth, "Mask", REMEDY)
    if "make_seg" not in context.requested:
        for variant in variants(context):
            problems += artefact_problems(context, variant.masks, ids, "make_seg")
    return problems


def inputs_digest(context: Context) -> str:
    """Fingerprint of what is scored and what it is scored against."""
    ids = segmented_ids(context)
    predicted = [
        path for each in variants(context) for i in ids for path in _files(each, i).values()
    ]
    notes = [each.notes_path for each in trainings(context)]
    truth = [scored_mask_path(context.dataset, i) for i in ids]
    return " ".join(stat_digest(paths) for paths in (predicted, notes, truth))


def _files(variant: Variant, image_id: str) -> dict[str, Any]:
    """The mask files of an image, each under the ending that its scores get."""
    masks = variant.masks
    return {suffix.removesuffix(".png"): masks.path(image_id, suffix) for suffix in masks.suffixes}


def run(context: Context) -> dict[str, Any]:
    """Score the masks of every seed's last checkpoint and, where one was kept, of its best.

    Returns:
        `runs`, the scores of each by itself; `last` and `best`, mean and spread over the seeds;
        and how the network was trained. The best was chosen on val, so where that is what is
        scored here, it flatters; it never stands without the last.
    """
    ids = segmented_ids(context)
    runs = []
    with WorkerPool(context.runtime.num_workers) as pool:
        for variant in variants(context):
            notes = variant.training.notes()
            best = notes.best if variant.checkpoint == BEST else None
            scores: dict[str, Any] = {
                "seed": variant.training.seed,
                "checkpoint": variant.checkpoint,
                "updates": notes.updates if best is None else best["updates"],
                "initialisation": notes.initialisation,
                "labels": notes.labels,
            }
            for suffix in ("", CRF_SUFFIX)[: len(variant.masks.suffixes)]:
                pairs = [
                    (scored_mask_path(context.dataset, i), _files(variant, i)[suffix]) for i in ids
                ]
                desc = f"eval_seg {variant.name}{suffix}"
                found = score_masks(pool, pairs, context, desc=desc)
                scores |= {f"{name}{suffix}": value for name, value in found.items()}
            runs.append(scores)
    return {"images": len(ids), "split": context.config.make_seg_split, **summary(runs)}


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
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
