"""What the benchmark measured, as rows: cells, best cells, trained methods, published scores."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from misc.config import plain
from misc.wsss_bed import GridScores, loss_of, transfer_losses
from step.benchmark.sets import Sets, Trained, sbe_steps, trained_variants
from step.common.runfile import read_run
from step.common.scorefile import ScoreFile
from step.common.scores import percent, spread
from voc12.classes import class_indices
from voc12.published_sets import find_published, published

logger = logging.getLogger(__name__)

Key = tuple[str, str]  # activation set, saliency set

CELL, PUBLISHED = "wsss_bed_mask", "published_segmentation_network"
SBE_SCORES = ("miou", "miou_crf", "miou_chosen", "miou_chosen_crf")
# Which images there are, and what networks start from.
SHARED_INPUTS = ("backbone_weights", "train_aug_list", "infer_list", "chainer_eval_set")
# What tells the runs of pairs and seeds apart, or changes nothing of these scores.
NOT_SHARED = ("saliency", "cam_format", "seed", "eval_classes", "sem_seg_rule")


@dataclass
class Results:
    """Everything that was measured.

    Attributes:
        sets: what was compared.
        evaluated: pair -> scores on the evaluated images.
        chosen: pair -> scores on the part of the train list; empty without one.
        saliency: saliency set -> its measures.
    """

    sets: Sets
    evaluated: dict[Key, GridScores] = field(default_factory=dict)
    chosen: dict[Key, GridScores] = field(default_factory=dict)
    saliency: dict[str, dict[str, float]] = field(default_factory=dict)

    def best_pair(self) -> Key:
        """The pair with the highest mIoU of masks without ignored pixels."""
        return max(self.evaluated, key=lambda key: _best_miou(self.evaluated[key]))

    def summary(self) -> str:
        """The best cell in one line."""
        cam, saliency = self.best_pair()
        scores = self.evaluated[cam, saliency]
        place = scores.best(ignore=False)
        cell = scores.cells[place]
        at = "" if cell.sal_thres is None else f", saliency threshold {cell.sal_thres:g}"
        return (
            f"best mIoU {percent(scores.miou[place])}: {cam} x {saliency}, activation threshold "
            f"{cell.act_thres:g}{at}"
        )

    def chosen_classes(self) -> list[int]:
        """Class ids of `--eval_classes` with the background; empty without the flag."""
        wanted = self.sets.run.config.eval_classes
        names = self.sets.run.dataset.class_names
        return [0, *class_indices(names, wanted)] if wanted else []


def _best_miou(scores: GridScores) -> float:
    value = float(scores.miou[scores.best(ignore=False)])
    return -1.0 if math.isnan(value) else value


def cell_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row for each pair and cell."""
    classes = results.chosen_classes()
    for (cam, saliency), scores in results.evaluated.items():
        of_classes = scores.miou_over(classes) if classes else None
        for place, cell in enumerate(scores.cells):
            yield {
                "method": CELL,
                "cam": cam,
                "saliency": saliency,
                **cell._asdict(),
                "miou": scores.miou[place],
                "miou_strict": scores.miou_strict[place],
                "ignored": scores.ignored[place],
                "miou_chosen": None if of_classes is None else of_classes[place],
            }


def sbe_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row for each pair, seed and method that a network was trained for with these settings."""
    for trained in trained_variants(results.sets.run):
        config = trained.run.config
        scores = ScoreFile.of(config).step(f"eval_sem_seg{trained.ending}")
        if not scores:
            continue
        other = _other_settings(trained, read_run(config.out_dir).get("settings", {}))
        if other:
            logger.warning(
                "%s is left out: made with a different %s", config.out_dir, ", ".join(other)
            )
            continue
        yield {
            "method": trained.method,
            "cam": trained.cams.name,
            "saliency": trained.saliency.name,
            "seed": trained.run.config.seed,
            **{name: scores.get(name) for name in SBE_SCORES},
        }


def _other_settings(trained: Trained, earlier: dict[str, Any]) -> list[str]:
    """Settings that an earlier run had differently."""
    run = trained.run
    steps = (*sbe_steps(), *trained.steps)  # the salient walk has its walk from SBE
    of_steps = [name for step in steps for name in step.setting_names(run)]
    names = [n for n in (*of_steps, *SHARED_INPUTS) if n not in NOT_SHARED]
    now = {name: plain(getattr(run.config, name)) for name in dict.fromkeys(names)}
    return [name for name, value in now.items() if earlier.get(name) != value]


def published_rows(results: Results) -> Iterator[dict[str, Any]]:
    """The published scores that pairs of these names have: of segmentation networks."""
    scores = published(results.sets.run.dataset.class_names)
    for cam, saliency in results.evaluated:
        found = find_published(cam, saliency, scores)
        if found is not None:
            yield {
                "method": PUBLISHED, "cam": cam, "saliency": saliency, "miou": found.miou,
                "std": found.std,
            }  # fmt: skip


def seed_averages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds of trained rows, one row per pair and method."""
    found = []
    for key in dict.fromkeys((row["method"], row["cam"], row["saliency"]) for row in rows):
        of_pair = [row for row in rows if (row["method"], row["cam"], row["saliency"]) == key]
        entry: dict[str, Any] = dict(zip(("method", "cam", "saliency"), key, strict=True))
        entry["seeds"] = [row["seed"] for row in of_pair]
        for name in SBE_SCORES:
            over_seeds = spread([row[name] for row in of_pair if row[name] is not None])
            entry |= {name: over_seeds["mean"], f"{name}_std": over_seeds["std"]}
        found.append(entry)
    return found


def best_rows(results: Results) -> list[dict[str, Any]]:
    """The best cell of each pair, with and without ignored pixels, and what other choices lose."""
    names = ("background", *results.sets.run.dataset.class_names)
    classes = results.chosen_classes()
    rows = []
    for ignore in (False, True):
        losses = transfer_losses(results.evaluated, ignore)
        for key, scores in results.evaluated.items():
            if not len(scores.indices(ignore)):
                continue
            place = scores.best(ignore)
            row = {
                "cam": key[0],
                "saliency": key[1],
                **scores.cells[place]._asdict(),
                "miou": scores.miou[place],
                "miou_strict": scores.miou_strict[place],
                "ignored": scores.ignored[place],
                "miou_chosen": scores.miou_over(classes)[place] if classes else None,
                "iou": dict(zip(names, scores.iou[place].tolist(), strict=True)),
                "loss_by_thresholds_of": [
                    {"cam": source[0], "saliency": source[1], "loss": loss}
                    for (target, source), loss in losses.items()
                    if target == key
                ],
            }
            if key in results.chosen:
                of_part = results.chosen[key].best(ignore)
                row["chosen_on_train_part"] = {
                    **scores.cells[of_part]._asdict(),
                    "images": len(results.sets.chosen),
                    "of_these_evaluated_too": results.sets.num_chosen_and_evaluated,
                    "loss": loss_of(scores, of_part, ignore),
                }
            rows.append(row)
    return rows
