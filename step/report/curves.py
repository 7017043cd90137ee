"""The curves of a run: of its trainings, as they stand beside the weights, and over thresholds."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misc.errors import UserError
from misc.images import open_regular
from step.graph import CURVE, Weights, all_artefacts

if TYPE_CHECKING:
    from step.run import Run

VALIDATION = ".val.csv"
KEPT_POINTS = 300  # of a curve: more cannot be seen
Columns = dict[str, list[float | None]]
IfSound = Callable[[Callable[[], Columns]], Columns | None]
"""What calls a function, and gives None where it raises a UserError."""


def training_curves(run: "Run", if_sound: IfSound) -> list[dict[str, Any]]:
    """Loss and learning rate of each network over its updates, thinned.

    Files for which `if_sound` gives None, since they hold something else, are left out.
    """
    return _curves(run, CURVE, ("update", "loss", "learning_rate"), if_sound)


def validation_curves(run: "Run", if_sound: IfSound) -> list[dict[str, Any]]:
    """MIoU on val of each network that was validated as it learnt; else as `training_curves`."""
    return _curves(run, VALIDATION, ("update", "miou"), if_sound)


def _curves(
    run: "Run", suffix: str, names: tuple[str, ...], if_sound: IfSound
) -> list[dict[str, Any]]:
    read = [
        (name, if_sound(partial(read_columns, path, names))) for name, path in _files(run, suffix)
    ]
    return [{"name": name, **columns} for name, columns in read if columns is not None]


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


def read_columns(path: Path, names: tuple[str, ...]) -> Columns:
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
