"""Scores as they stand in scores.json."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from misc.errors import UserError
from misc.images import read_mask
from misc.log import progress
from misc.metrics import ConfusionMatrix, Scores
from misc.runtime import WorkerPool
from misc.workspace import ImageFolder
from voc12.classes import class_indices

if TYPE_CHECKING:
    from step.run import Run

IMAGES_A_TASK = 16

T = TypeVar("T")
MaskPair = tuple[Path, Path]  # the exact mask, the one to be scored


def chunks(items: Sequence[T]) -> list[list[T]]:
    """`items`, one per image, in portions that are worth sending to a worker process."""
    return [list(items[i : i + IMAGES_A_TASK]) for i in range(0, len(items), IMAGES_A_TASK)]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a UserError about what `path` holds say so."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def score_masks(
    pool: WorkerPool,
    pairs: Sequence[MaskPair],
    class_names: Sequence[str],
    eval_classes: Sequence[str],
    *,
    desc: str,
) -> dict[str, Any]:
    """Scores of masks against the exact ones, as `scores_to_json` has them.

    Where masks ignore pixels (255), chainercv's protocol leaves these out, which flatters: then
    there is also their share, `ignored`, and `miou_strict`, in which they count as missed.

    Raises:
        UserError: if a mask cannot be read or does not fit.
    """
    num_classes = len(class_names) + 1
    total = ConfusionMatrix(num_classes)
    tasks = [(num_classes, part) for part in chunks(pairs)]
    for part in progress(
        pool.map(_confusion, tasks), desc=desc, total=len(pairs), each=IMAGES_A_TASK
    ):
        total.merge(part)
    content = scores_to_json(total.scores(), class_names, eval_classes)
    if ignored := int(total.unscored.sum()):
        strict = total.scores(count_unscored=True)
        share = ignored / (ignored + int(total.matrix.sum()))
        content |= {"ignored": share, "miou_strict": _null_if_nan(strict.miou)}
    return content


def score_both_masks(
    run: "Run", folder: ImageFolder, ids: Sequence[str], eval_classes: Sequence[str], *, desc: str
) -> dict[str, Any]:
    """Scores of the masks of `ids` in a folder, before and after the CRF.

    Returns:
        images, miou, iou, fp, fn and, with the ending `_crf`, the same after the CRF.

    Raises:
        UserError: if a mask cannot be read or does not fit.
    """
    dataset = run.dataset
    scores: dict[str, Any] = {"images": len(ids)}
    with WorkerPool(run.runtime.num_workers) as pool:
        for suffix in folder.suffixes:
            ending = suffix.removesuffix(".png")
            pairs = [(dataset.mask_path(i), folder.file(i, suffix)) for i in ids]
            of_suffix = score_masks(
                pool, pairs, dataset.class_names, eval_classes, desc=f"{desc}{ending}"
            )
            scores |= {f"{name}{ending}": value for name, value in of_suffix.items()}
    return scores


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


def scores_to_json(
    scores: Scores, class_names: Sequence[str], eval_classes: Sequence[str]
) -> dict[str, Any]:
    """Scores with class names; null stands for a class that does not occur."""
    names = ("background", *class_names)
    content = {
        "miou": scores.miou,
        "iou": by_name(names, scores.iou),
        "fp": by_name(names, scores.fp),
        "fn": by_name(names, scores.fn),
        "fp_foreground": scores.fp_foreground,
        "fn_foreground": scores.fn_foreground,
    }
    if eval_classes:
        content["miou_chosen"] = scores.miou_over([0, *class_indices(class_names, eval_classes)])
    return {key: _null_if_nan(value) for key, value in content.items()}


def describe_masks(result: Mapping[str, Any]) -> str:
    """Scores of masks before and after the CRF in one line."""
    chosen = result.get("miou_chosen"), result.get("miou_chosen_crf")
    extra = ""
    if chosen[0] is not None:
        extra = f" (chosen classes {percent(chosen[0])}, {percent(chosen[1])})"
    if "ignored" in result:
        share, strict = percent(result["ignored"]), percent(result["miou_strict"])
        extra += f"; {share} % of the pixels ignored, as missed: {strict}"
    return f"mIoU {percent(result['miou'])}, after CRF {percent(result['miou_crf'])}{extra}"


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Scores of several seeds: their mean and standard deviation, and how many they are.

    The deviation is that of a sample, None of a single score; the mean is None of none.
    """
    mean = float(np.mean(values)) if values else None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": mean, "std": deviation, "seeds": len(values)}


def spread_text(score: Mapping[str, Any]) -> str:
    """Mean and, over several seeds, standard deviation in percent; a dash where there is none."""
    deviation = score.get("std")
    spread = "" if deviation is None else f" +- {percent(deviation)}"
    return f"{percent(score.get('mean'))}{spread}"


def percent(score: float | None) -> str:
    """A score in percent with one decimal; a dash where there is none."""
    return "-" if score is None else f"{100 * score:.1f}"


def by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    """Values by names, None for NaN."""
    pairs = zip(names, values.tolist(), strict=True)
    return {name: None if math.isnan(value) else value for name, value in pairs}


def _null_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
