"""Counts and scores of all pairs of sets."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misc.log import progress
from misc.runtime import WorkerPool
from misc.workspace import atomic_write, digest, read_memory, write_json
from misc.wsss_bed import GridScores
from step.artefacts import CAMS, SALIENCY_MAPS
from step.benchmark.counts import PairJob, count_pair, score_saliency
from step.benchmark.report import report_text, write_report
from step.benchmark.rows import Results
from step.benchmark.sets import MapSet, Sets
from step.common.results import CamFile, CamReader
from step.run import Run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _CamInput:
    """What is looked up once for a set of CAMs."""

    files: dict[str, CamFile]
    reader: CamReader
    made_from: str


def compare(
    sets: Sets, act_thresholds: tuple[float, ...], sal_thresholds: tuple[float, ...]
) -> dict[str, Any]:
    """Score every pair at all thresholds; write tables, pictures and the rest.

    Returns:
        images counted in this run, the number of pairs and of cells, and the best cell in words.
    """
    results = Results(sets)
    counted = 0
    if shared := sets.num_chosen_and_evaluated:
        logger.warning(
            "benchmark: %d of the %d images that thresholds are chosen on are evaluated too, so "
            "\"loss, train part's\" is too low. Choose other images with --train_list or "
            "--chainer_eval_set.",
            shared, len(sets.chosen),
        )  # fmt: skip
    with WorkerPool(sets.run.runtime.num_workers) as pool:
        for saliency in progress(sets.saliency[:-1], desc="saliency sets"):
            results.saliency[saliency.name] = _measures_of(pool, sets, saliency)
        for cams in sets.cams:
            inputs = _look_up(sets, cams)
            for saliency in sets.saliency:
                key = (cams.name, saliency.name)
                levels = None if saliency.folder is None else sal_thresholds
                grids, images = _count(pool, sets, cams, inputs, saliency, act_thresholds, levels)
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
    made = CAMS.made(sets.run_of(cams=cams))
    files, reader = made.files(sets.ids), made.reader
    as_lists = ([each] if isinstance(each, Path) else each for each in files.values())
    paths = [path for each in as_lists for path in each]
    contents = sets.run.fingerprints.of_all(paths, desc=f"fingerprints of {cams.name}")
    return _CamInput(files, reader, digest([reader.cam_format, reader.cam_ids, contents]))


def _count(
    pool: WorkerPool,
    sets: Sets,
    cams: MapSet,
    inputs: _CamInput,
    saliency: MapSet,
    act_thresholds: tuple[float, ...],
    sal_thresholds: tuple[float, ...] | None,
) -> tuple[list[Any], int]:
    run = sets.run_of(cams=cams, saliency=saliency)
    parts = [sets.evaluated, sets.chosen] if sets.chosen else [sets.evaluated]
    job = PairJob(run.dataset, inputs.reader, act_thresholds, sal_thresholds, len(parts))
    made_from = digest([
        act_thresholds, sal_thresholds, inputs.made_from, sets.truth_digest,
        _saliency_digest(run, sets.ids),
    ])  # fmt: skip
    path = sets.folder / "counts" / cams.name / f"{saliency.name}.npz"
    desc = f"{cams.name} x {saliency.name}"
    return count_pair(
        pool, job, inputs.files, parts, path, made_from, is_redone=sets.is_redone, desc=desc
    )


def _measures_of(pool: WorkerPool, sets: Sets, saliency: MapSet) -> dict[str, float]:
    """Scores of a saliency set by itself over the evaluated images, kept for the next run."""
    run = sets.run_of(saliency=saliency)
    ids = sets.evaluated
    made_from = digest([sets.truth_digest, _saliency_digest(run, ids)])
    path = sets.folder / "saliency" / f"{saliency.name}.json"
    kept = {} if sets.is_redone else read_memory(path)
    if kept.get("made_from") == made_from and _are_measures(kept.get("measures")):
        return kept["measures"]
    measures = score_saliency(pool, run.dataset, ids, desc=saliency.name)
    write_json(path, {"made_from": made_from, "measures": measures})
    return measures


def _are_measures(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, float) for each in value.values())


def _saliency_digest(run: Run, ids: Sequence[str]) -> str:
    """Tells saliency maps from changed ones, for counts that are kept."""
    return digest([SALIENCY_MAPS.contents(run, ids).get(image_id) for image_id in ids])
