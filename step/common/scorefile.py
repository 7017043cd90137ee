"""scores.json: the result of each step, with the settings, seed and versions that made it."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from misc.config import Config
from misc.errors import UserError
from misc.workspace import read_json, write_json

SCORES_NAME = "scores.json"
PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "pillow", "imageio", "accelerate", "pydensecrf2",
    "onnxruntime",
)  # fmt: skip


class ScoreFile:
    """The result of each step, kept over runs: one object for each step name."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`; it need not exist yet."""
        self.path = path
        self.content: dict[str, Any] = read_json(path) if path.exists() else {}
        if not _are_scores(self.content):
            raise UserError(
                f"{path} does not hold scores of steps. Move it away, or choose another --out_dir."
            )

    @staticmethod
    def of(config: Config) -> "ScoreFile":
        """The scores of the runs with this output folder."""
        return ScoreFile(config.out_dir / SCORES_NAME)

    def step(self, name: str) -> dict[str, Any]:
        """The result of the step when it last ran; empty if it never did."""
        return self.content.get(name, {})

    def drop(self, name: str) -> None:
        """Forget a step's result."""
        if self.content.pop(name, None) is not None:
            write_json(self.path, self.content)

    def put(self, name: str, result: dict[str, Any], config: Config) -> None:
        """Keep a step's result, with this run's settings, seed and package versions."""
        self.content[name] = result
        self.content |= {
            "settings": config.to_dict(),
            "seed": config.seed,
            "versions": {"python": platform.python_version(), **package_versions()},
        }
        write_json(self.path, self.content)


def _are_scores(content: object) -> bool:
    """True for what `put` writes, as far as the outline tells."""
    return isinstance(content, dict) and (
        not content
        or (
            "settings" in content
            and all(isinstance(value, dict) for name, value in content.items() if name != "seed")
        )
    )


def package_versions() -> dict[str, str | None]:
    """Versions of the packages that results may depend on; None for what is not installed."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
