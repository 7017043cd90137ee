"""scores.json and the table on the terminal."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from misc.config import Config
from misc.workspace import read_json, write_json

PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "pillow", "imageio", "accelerate", "pydensecrf2",
)  # fmt: skip


class ScoreFile:
    """What each step said, kept over runs: one object a step name."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`; it need not exist yet."""
        self.path = path
        self.content: dict[str, Any] = read_json(path) if path.exists() else {}

    def step(self, name: str) -> dict[str, Any]:
        """What the step said when it last ran; empty if it never did."""
        return self.content.get(name, {})

    def put(self, name: str, result: dict[str, Any]) -> None:
        """Keep a step's result."""
        self.content[name] = result

    def write(self, config: Config) -> None:
        """Write everything, with this run's settings, seed and package versions."""
        self.content |= {
            "settings": config.to_dict(),
            "seed": config.seed,
            "versions": {"python": platform.python_version(), **package_versions()},
        }
        write_json(self.path, self.content)


def package_versions() -> dict[str, str | None]:
    """Versions of the packages that results may depend on; None for what is not installed."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def describe(result: dict[str, Any]) -> str:
    """A step's result in one line."""
    if "summary" in result:
        return result["summary"]
    if "miou_crf" in result:
        chosen = result.get("miou_chosen"), result.get("miou_chosen_crf")
        extra = ""
        if chosen[0] is not None:
            extra = f" (chosen classes {percent(chosen[0])}, {percent(chosen[1])})"
        return f"mIoU {percent(result['miou'])}, after CRF {percent(result['miou_crf'])}{extra}"
    if "best_threshold" in result:
        best = result["best"]
        extra = ""
        if "miou_chosen" in best:
            extra = f" (chosen classes {percent(best['miou_chosen'])})"
        return (
            f"mIoU {percent(result['miou'])} at threshold {result['threshold']:g}, "
            f"best {percent(best['miou'])} at {result['best_threshold']:g}{extra}"
        )
    if "runs" in result:
        return "; ".join(
            f"{name} {_describe_checkpoint(result[checkpoint])}"
            for checkpoint, name in (("last", "last"), ("best", "best on val"))
            if checkpoint in result
        )
    start = f", started from: {result['initialisation']}" if "initialisation" in result else ""
    return f"loss {result['loss']:.4f}{start}" if "loss" in result else ""


def _describe_checkpoint(scores: dict[str, Any]) -> str:
    text = f"mIoU {spread_text(scores['miou'])}"
    if "miou_crf" in scores:
        text += f", after CRF {spread_text(scores['miou_crf'])}"
    if "miou_chosen" in scores:
        chosen = [scores[n] for n in ("miou_chosen", "miou_chosen_crf") if n in scores]
        text += f" (chosen classes {', '.join(spread_text(each) for each in chosen)})"
    return text


def spread_text(score: dict[str, Any]) -> str:
    """Mean and, over several seeds, standard deviation in percent; a dash where there is none."""
    deviation = score.get("std")
    spread = "" if deviation is None else f" +- {percent(deviation)}"
    return f"{percent(score.get('mean'))}{spread}"


def percent(score: float | None) -> str:
    """A score in percent with one decimal; a dash where there is none."""
    return "-" if score is None else f"{100 * score:.1f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as an aligned table."""
    lines = [header, ["-" * len(name) for name in header], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
