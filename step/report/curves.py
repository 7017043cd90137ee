"""The curves of a run: of its trainings, as they stand beside the weights, and over thresholds."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misc.errors import UserError
from misc.images import open_regular
from step.graph import CURVE, Weights, all_artefacts

if TYPE_CHECKING:
    from step.run import Run

VALIDATION = ".val.csv"
KEPT_POINTS = 300  # of a curve: more cannot be seen


def training_curves(run: "Run", problems: list[str]) -> list[dict[str, Any]]:
    """Loss and learning rate of each network over its updates, thinned.

    Files that hold something else are left out, and `problems` gets a sentence about each.
    """
    return _curves(run, CURVE, ("update", "loss", "learning_rate"), problems)


def validation_curves(run: "Run", problems: list[str]) -> list[dict[str, Any]]:
    """MIoU on val of each network that was validated as it learnt; else as `training_curves`."""
    return _curves(run, VALIDATION, ("update", "miou"), problems)


def _curves(
    run: "Run", suffix: str, columns: tuple[str, ...], problems: list[str]
) -> list[dict[str, Any]]:
    curves = []
    for name, path in _files(run, suffix):
        try:
            curves.append({"name": name, **read_columns(path, columns)})
        except UserError as error:
            problems.append(error.message)
    return curves


def threshold_curves(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """MIoU over thresholds of whatever was scored at all of them; the chosen and the best one."""
    names = {"eval_cam": "CAM", "eval_walk": "walked scores"}
    return [
        {
            "key": key,
            "name": f"{name}{key.removeprefix(step).replace('_', ' ')}",
            **result["curve"],
            "chosen": {"threshold": result["threshold"], "miou": result["miou"]},
            "best": {"threshold": result["best_threshold"], "miou": result["best"]["miou"]},
        }
        for step, name in names.items()
        for key, result in results.items()
        if (key == step or key.startswith(f"{step}_")) and "curve" in result
    ]


def _files(run: "Run", suffix: str) -> Iterator[tuple[str, Path]]:
    """The curves beside any weights of this run, and what they are called."""
    out_dir = run.config.out_dir
    weights = [each.path(run) for each in all_artefacts() if isinstance(each, Weights)]
    folders = [*(path.parent for path in weights), *sorted(out_dir.glob("*/"))]
    paths = [path.with_name(f"{path.stem}{suffix}") for path in weights]
    paths += [path for folder in folders for path in sorted(folder.glob(f"*{suffix}"))]
    for path in dict.fromkeys(paths):
        if path.is_file():
            place = path.relative_to(out_dir) if path.is_relative_to(out_dir) else path
            name = str(place).removesuffix(suffix).removeprefix("weights/")
            yield name.replace("/", " "), path


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, list[float | None]]:
    """Columns of a CSV of numbers, thinned; None for what is not finite.

    A last line that is being written is left out.

    Raises:
        UserError: if it is something else.
    """
    try:
        with open_regular(path) as file:
            lines = file.read().decode().splitlines()
        rows = [row for row in csv.DictReader(lines) if None not in row.values()]
        step = max(1, math.ceil(len(rows) / KEPT_POINTS))
        kept = rows[(len(rows) - 1) % step :: step]  # the last one is among them
        return {name: [_number(row[name]) for row in kept] for name in names}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path} holds no curve of a training: {error!r}. Move it away.") from None


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None
