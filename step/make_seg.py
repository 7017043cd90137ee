"""Segment whole images with the trained DeepLab-v2, before and after a CRF."""

import logging
from typing import Any

import numpy as np
import torch

from misc.crf import DEEPLAB_CRF, USUAL_CRF, DenseCrf, crf_has_threads, crf_setting
from misc.log import progress
from misc.visualize import write_palette_png
from misc.workers import WorkerPool
from misc.workspace import ArtefactFolder, Record, atomic_write
from net.deeplab_v2 import stretch
from step.context import Context
from step.networks import build_segmentation_network
from step.predict import predict_classes
from step.preflight import foreign_problems, image_problems, problems_of, weights_problems
from step.segmentation import LAST, Variant, segmented_ids, variants
from voc12.files import image_size
from voc12.lists import CRF_SUFFIX
from voc12.submission import submission_suffix, write_submission

logger = logging.getLogger(__name__)

SETTINGS = ("seg_backbone", "seg_test_scales", "seg_test_flip", "precision")

MaskTask = tuple[ArtefactFolder, str, np.ndarray, np.ndarray, str]


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    config, ids = context.config, segmented_ids(context)
    problems: list[str] = []
    if (archive := config.voc_submission) is not None:
        problems += problems_of(lambda: submission_suffix(archive))
    for variant in variants(context):
        wanted = context.to_make(variant.masks, ids)
        if wanted and not variant.masks.is_plugged_in(ids):
            problems += foreign_problems(variant.masks, ids)
            problems += image_problems(context.dataset, wanted)
            if "train_seg" not in context.requested:
                problems += weights_problems(variant.weights, "train_seg")
    return problems


def run(context: Context) -> dict[str, Any] | None:
    """Write the masks that are missing, for every checkpoint; None if there was none.

    Raises:
        UserError: if masks of other weights or settings are there, or the archive cannot be made.
    """
    made = sum(_make(context, variant) for variant in variants(context))
    if context.config.voc_submission is not None:
        context.runtime.on_main(lambda: _submit(context))
    return {"images": made} if made else None


def _make(context: Context, variant: Variant) -> int:
    """Write what is missing of one checkpoint's masks, and return how many it was."""
    config, runtime, masks = context.config, context.runtime, variant.masks
    ids = segmented_ids(context)
    if masks.is_plugged_in(ids) or (not variant.weights.exists() and not masks.pending(ids)):
        logger.info("make_seg: using the masks found in %s", masks.folder)
        return 0
    settings = config.subset(SETTINGS) | (crf_setting(config.crf) if config.seg_crf else {})
    record = Record(settings, {"weights": variant.weights.state_digest()}, usual=USUAL_CRF)
    pending = runtime.on_main(lambda: masks.claim(record, ids, overwrite=config.overwrite))
    share = runtime.shard(pending)
    if share:
        network = build_segmentation_network(context, variant.weights.path)
        # Enlarging has torch's threads; a CRF takes so much longer that it alone decides.
        has_threads = not config.seg_crf or crf_has_threads(config.crf)
        with WorkerPool(runtime.workers_beside_network(has_threads=has_threads)) as pool:
            tasks = (
                (masks, image_id, image, logits.cpu().numpy(), config.crf)
                for image_id, image, logits in predict_classes(context, network, share)
            )
            done = pool.map(_write_masks, tasks)
            for _ in progress(done, desc=f"make_seg {variant.name}", total=len(share)):
                pass
    runtime.barrier()
    return len(pending)


def _write_masks(task: MaskTask) -> None:
    masks, image_id, image, logits, crf_backend = task
    stretched = stretch(torch.from_numpy(logits)[None], image.shape[:2])[0]
    results = {".png": stretched}
    if f"{CRF_SUFFIX}.png" in masks.suffixes:
        crf = DenseCrf(image, DEEPLAB_CRF, backend=crf_backend)
        results[f"{CRF_SUFFIX}.png"] = crf.from_probabilities(torch.softmax(stretched, dim=0))
    for suffix, scores in results.items():
        with atomic_write(masks.path(image_id, suffix)) as file:
            write_palette_png(file, scores.argmax(0).to(torch.uint8).numpy())


def _submit(context: Context) -> None:
    """Write an archive for PASCAL's server of each checkpoint's final masks."""
    path = context.config.voc_submission
    assert path is not None
    kind = submission_suffix(path)
    if context.config.make_seg_split != "test":
        logger.warning("%s is of %s, not of test", path, context.config.make_seg_split)
    for variant in variants(context):
        ending = variant.name.removeprefix(LAST)
        separator = "_" if ending and not ending.startswith("_") else ""
        target = path.with_name(f"{path.name.removesuffix(kind)}{separator}{ending}{kind}")
        masks = {
            i: variant.masks.path(i, variant.masks.suffixes[-1]) for i in segmented_ids(context)
        }
        write_submission(
            target,
            masks,
            lambda image_id: image_size(context.dataset.image_path(image_id)),
            context.dataset.num_classes,
        )
        logger.info("make_seg: %s holds %d masks", target, len(masks))
