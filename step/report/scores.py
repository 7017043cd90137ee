"""The scores of a run as rows: one for each kind of masks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from step.common.scores import percent

Row = dict[str, Any]
SCORED = ("eval_cam", "eval_walk", "eval_sem_seg", "eval_refined", "eval_seg")
WORDS = {
    "bes": "BES",
    "cam": "CAM",
    "gt": "exact masks",
}  # of variants, where words do better than their names
OF_MASKS = ("miou", "miou_chosen", "miou_strict", "ignored", "fp_foreground", "fn_foreground")
CHECKPOINTS = {"last": "last weights", "best": "best weights on val"}


def score_rows(results: Mapping[str, Any], method: str) -> list[Row]:
    """What scores.json says of each kind of masks, in the order of the steps.

    Args:
        results: the content of scores.json.
        method: what the masks of the run itself are called.

    Returns:
        for each: `key` of the step, `name`, `note`, `images`, the scores of `OF_MASKS` and `iou` by
        class; after the CRF the same with the ending `_crf`; over seeds `miou_std`,
        `miou_crf_std` and `seeds`.
    """
    rows: list[Row] = []
    for step in SCORED:
        for key, result in results.items():
            ending = key.removeprefix(step)
            if key == step or ending.startswith("_"):
                rows += _rows(step, key, _words(ending), result, method)
    return rows


def _words(ending: str) -> str:
    return " ".join(WORDS.get(word, word) for word in ending.split("_") if word)


def _rows(
    step: str, key: str, variant: str, result: Mapping[str, Any], method: str
) -> Iterator[Row]:
    if step in ("eval_cam", "eval_walk"):
        name = "CAM" if step == "eval_cam" else "walked scores"
        yield _threshold_row(key, f"{name} {variant}".strip(), result)
    elif step == "eval_sem_seg":
        yield _mask_row(key, variant or method, result)
    elif step == "eval_refined":
        yield _mask_row(key, f"refined {variant}".strip(), result)
    else:
        yield from _seg_rows(key, variant, result)


def _threshold_row(key: str, name: str, result: Mapping[str, Any]) -> Row:
    best = result["best"]
    note = (
        f"at its best threshold, {result['best_threshold']:g}, chosen on these images; "
        f"{percent(result['miou'])} at {result['threshold']:g}"
    )
    return {"key": key, "name": name, "note": note, "images": result.get("images"), **_part(best)}


def _mask_row(key: str, name: str, result: Mapping[str, Any]) -> Row:
    return {
        "key": key, "name": name, "note": "", "images": result.get("images"), **_part(result),
        **_part(result, "_crf"),
    }  # fmt: skip


def _part(result: Mapping[str, Any], ending: str = "") -> Row:
    """Scores before or after the CRF; those that there are."""
    names = [f"{name}{ending}" for name in (*OF_MASKS, "iou")]
    return {name: result[name] for name in names if result.get(name) is not None}


def _seg_rows(key: str, variant: str, result: Mapping[str, Any]) -> Iterator[Row]:
    """DeepLab-v2's checkpoints, each over its seeds."""
    for checkpoint, words in CHECKPOINTS.items():
        if checkpoint not in result:
            continue
        runs = [run for run in result["runs"] if run["checkpoint"] == checkpoint]
        row: Row = {
            "key": key,
            "name": f"DeepLab-v2, {variant}" if variant else "DeepLab-v2",
            "note": f"on {result.get('split', 'val')}, {words}",
            "images": result.get("images"),
            "seeds": [run["seed"] for run in runs],
        }
        for name, score in result[checkpoint].items():
            row |= {name: score["mean"], f"{name}_std": score["std"]}
        for ending in ("", "_crf"):
            if all(f"iou{ending}" in run for run in runs):
                row[f"iou{ending}"] = _mean_by_class([run[f"iou{ending}"] for run in runs])
        yield row


def _mean_by_class(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    means = {}
    for name in scores[0]:
        values = [value for each in scores if (value := each[name]) is not None]
        means[name] = sum(values) / len(values) if values else None
    return means
