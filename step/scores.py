"""Scores as they stand in scores.json."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from misc.errors import UserError
from misc.log import progress
from misc.metrics import ConfusionMatrix, Scores
from misc.workers import WorkerPool
from step.context import Context
from voc12.classes import class_indices
from voc12.files import read_mask

IMAGES_A_TASK = 16

T = TypeVar("T")
MaskPair = tuple[Path, Path]  # the exact mask, the one to be scored


def chunks(items: Sequence[T]) -> list[list[T]]:
    """`items`, one an image, in portions that are worth sending to a worker process."""
    return [list(items[i : i + IMAGES_A_TASK]) for i in range(0, len(items), IMAGES_A_TASK)]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a UserError about what `path` holds say so."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def score_masks(
    pool: WorkerPool, pairs: Sequence[MaskPair], context: Context, *, desc: str
) -> dict[str, Any]:
    """Scores of masks against the exact ones, as `scores_to_json` has them.

    Raises:
        UserError: if a mask cannot be read or does not fit.
    """
    num_classes = context.dataset.num_classes + 1
    total = ConfusionMatrix(num_classes)
    tasks = [(num_classes, part) for part in chunks(pairs)]
    for part in progress(pool.map(_confusion, tasks), desc=desc, total=len(tasks)):
        total.merge(part)
    return scores_to_json(total.scores(), context)


def _confusion(task: tuple[int, list[MaskPair]]) -> ConfusionMatrix:
    num_classes, pairs = task
    confusion = ConfusionMatrix(num_classes)
    for truth_path, path in pairs:
        truth, mask = read_mask(truth_path), read_mask(path)
        if truth.shape != mask.shape:
            raise UserError(f"{path} and {truth_path} differ in size. Replace one of them.")
        with naming(truth_path):
            confusion.add(truth, mask)
    return confusion


def scores_to_json(scores: Scores, context: Context) -> dict[str, Any]:
    """Scores with class names; null stands for a class that does not occur."""
    names = ("background", *context.dataset.class_names)
    found = {
        "miou": scores.miou,
        "iou": _by_name(names, scores.iou),
        "fp": _by_name(names, scores.fp),
        "fn": _by_name(names, scores.fn),
        "fp_foreground": scores.fp_foreground,
        "fn_foreground": scores.fn_foreground,
    }
    if context.config.eval_classes:
        chosen = class_indices(context.dataset.class_names, context.config.eval_classes)
        found["miou_chosen"] = scores.miou_over([0, *chosen])
    return {key: _null_if_nan(value) for key, value in found.items()}


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Scores of several seeds: their mean and standard deviation, and how many they are.

    The deviation is that of a sample, None of a single score; the mean is None of none.
    """
    mean = float(np.mean(values)) if values else None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": mean, "std": deviation, "seeds": len(values)}


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    pairs = zip(names, values.tolist(), strict=True)
    return {name: None if math.isnan(value) else value for name, value in pairs}


def _null_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
