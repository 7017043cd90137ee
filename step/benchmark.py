"""Compare sets of CAMs and saliency maps by WSSS-BED's masks, at all thresholds at once."""

import logging
from dataclasses import dataclass
from typing import Any

from misc.errors import UserError
from misc.grid_scores import GridScores
from misc.log import progress
from misc.threshold_grid import ThresholdGrid
from misc.workers import WorkerPool
from misc.workspace import atomic_write, digest, read_json, write_json
from step.benchmark_counts import PairJob, count_pair, score_saliency
from step.benchmark_report import report_text, write_report
from step.benchmark_rows import Results
from step.benchmark_sets import OWN, MapSet, Sets
from step.context import CamFile, Context
from step.preflight import map_problems, mask_problems, problems_of

logger = logging.getLogger(__name__)

FLAG_OF_CHOICE = "--benchmark_choose_images 0"


def preflight(context: Context) -> list[str]:
    """What stands in the way of this step."""
    sets, config = Sets(context), context.config
    problems = problems_of(
        lambda: ThresholdGrid(
            config.benchmark_act_thres,
            config.benchmark_sal_thres,
            context.dataset.num_classes + 1,
        )
    )
    problems += mask_problems(context.dataset, sets.evaluated)
    extra = [image_id for image_id in sets.ids if image_id not in set(sets.evaluated)]
    problems += mask_problems(context.dataset, extra, FLAG_OF_CHOICE)
    for cams in sets.cams:
        if cams.name != OWN or "make_cam" not in context.requested:
            problems += _cam_problems(sets, cams)
    for saliency in sets.saliency:
        dataset = sets.context_of(saliency=saliency).dataset
        if dataset.saliency_root is not None:
            paths = {image_id: dataset.saliency_path(image_id) for image_id in sets.ids}
            remedy = f"Put it there, or take {saliency.name} off --benchmark_sals."
            problems += map_problems(dataset, paths, f"Saliency map ({saliency.name})", remedy)
    return problems


def _cam_problems(sets: Sets, cams: MapSet) -> list[str]:
    """Images without CAMs; that the CAMs are sound shows as they are read."""
    try:
        missing = sets.context_of(cams=cams).cams_without_file(sets.ids)
    except UserError as error:
        return [error.message]
    if not missing:
        return []
    evaluated = set(sets.evaluated)
    remedy = "Put them there, or take the set off --benchmark_cams"
    if not evaluated & set(missing):
        remedy += f", or pass {FLAG_OF_CHOICE}"
    return [
        f"{cams.folder} lacks the CAMs of {len(missing)} images, {missing[0]} for one. {remedy}."
    ]


@dataclass(frozen=True)
class _CamInput:
    """What is looked up once for a set of CAMs."""

    files: dict[str, CamFile]
    made_from: str


def run(context: Context) -> dict[str, Any]:
    """Score every pair of sets at all thresholds; write tables, pictures and the rest.

    Counts are kept in `<out_dir>/benchmark/counts`; a run that was stopped goes on from there.

    Returns:
        images counted in this run, the number of pairs and of cells, and the best cell in words.
    """
    return context.runtime.on_main(lambda: _compare(Sets(context)))


def _compare(sets: Sets) -> dict[str, Any]:
    results = Results(sets)
    counted = 0
    if shared := sets.num_chosen_and_evaluated:
        logger.warning(
            "benchmark: %d of the %d images that thresholds are chosen on are evaluated too, so "
            "\"train part's lose\" flatters. Name other images by --train_list or "
            "--chainer_eval_set.",
            shared, len(sets.chosen),
        )  # fmt: skip
    with WorkerPool(sets.context.runtime.num_workers) as pool:
        for saliency in progress(sets.saliency[:-1], desc="saliency sets"):
            results.saliency[saliency.name] = _measures_of(pool, sets, saliency)
        for cams in sets.cams:
            inputs = _look_up(sets, cams)
            for saliency in sets.saliency:
                key = (cams.name, saliency.name)
                grids, images = _count(pool, sets, cams, inputs, saliency)
                results.evaluated[key] = GridScores.of(grids[0])
                if sets.chosen:
                    results.chosen[key] = GridScores.of(grids[1])
                counted += images
    text = report_text(results)
    write_report(results)
    with atomic_write(sets.folder / "benchmark.txt") as file:
        file.write(text.encode())
    logger.info("%s", text)
    return {
        "images": counted,
        "pairs": len(results.evaluated),
        "cells": sum(len(scores.cells) for scores in results.evaluated.values()),
        "summary": results.summary(),
    }


def _look_up(sets: Sets, cams: MapSet) -> _CamInput:
    context = sets.context_of(cams=cams)
    return _CamInput(context.cam_files(sets.ids), f"{cams.cam_format} {context.cam_digest()}")


def _count(
    pool: WorkerPool, sets: Sets, cams: MapSet, inputs: _CamInput, saliency: MapSet
) -> tuple[list[Any], int]:
    config = sets.context.config
    context = sets.context_of(cams=cams, saliency=saliency)
    sal_thresholds = None if saliency.folder is None else config.benchmark_sal_thres
    parts = [sets.evaluated, sets.chosen] if sets.chosen else [sets.evaluated]
    job = PairJob(
        context.dataset, cams.cam_format, config.benchmark_act_thres, sal_thresholds, len(parts)
    )
    made_from = digest([
        config.benchmark_act_thres, sal_thresholds, inputs.made_from, sets.truth_digest,
        context.saliency_digest(sets.ids),
    ])  # fmt: skip
    path = sets.folder / "counts" / cams.name / f"{saliency.name}.npz"
    if config.overwrite:
        path.unlink(missing_ok=True)
    desc = f"{cams.name} x {saliency.name}"
    return count_pair(pool, job, inputs.files, parts, path, made_from, desc=desc)


def _measures_of(pool: WorkerPool, sets: Sets, saliency: MapSet) -> dict[str, float]:
    """Scores of a saliency set by itself over the evaluated images, kept for the next run."""
    context = sets.context_of(saliency=saliency)
    ids = sets.evaluated
    made_from = digest([sets.truth_digest, context.saliency_digest(ids)])
    path = sets.folder / "saliency" / f"{saliency.name}.json"
    if path.exists() and not context.config.overwrite:
        kept = read_json(path)
        if kept["made_from"] == made_from:
            return kept["measures"]
    measures = score_saliency(pool, context.dataset, ids, desc=saliency.name)
    write_json(path, {"made_from": made_from, "measures": measures})
    return measures
