"""run.json: what the last run in a folder was asked for, where it ran, and how its steps stand."""

import shlex
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misc.config import Config
from misc.errors import UserError
from misc.provenance import cpu_name, package_versions, source_version
from misc.runtime import Runtime, available_cpus
from misc.workspace import read_json, write_json
from step.common.plan import CURRENT, Row

if TYPE_CHECKING:
    from step.graph import Node

PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "pillow", "imageio", "accelerate", "pydensecrf2",
    "onnxruntime",
)  # fmt: skip
DONE, KEPT, SKIPPED, NOT_ASKED = "done", "kept", "skipped", "not asked for"
STATE, SECONDS = "state", "seconds"


def read_run(out_dir: Path) -> dict[str, Any]:
    """What run.json of an output folder says; empty without one.

    Raises:
        UserError: if it cannot be read, or is of somebody else.
    """
    path = path_of(out_dir)
    content = read_json(path) if path.exists() else {"steps": {}, "settings": {}}
    if not _is_of_a_run(content):
        raise UserError(
            f"{path} does not say how steps were run. Move it away, or choose another --out_dir."
        )
    return content


def _is_of_a_run(content: object) -> bool:
    """True for what `RunFiles` writes, as far as the outline tells."""
    if not isinstance(content, dict):
        return False
    steps = content.get("steps")
    return (
        isinstance(content.get("settings"), dict)
        and isinstance(steps, dict)
        and all(isinstance(each, dict) for each in steps.values())
    )


def path_of(out_dir: Path) -> Path:
    """Where run.json of an output folder lies."""
    return out_dir / "run.json"


def command_line(words: Sequence[str], processes: int = 1) -> str:
    """What to type for a run with these flags."""
    start = ["python"] if processes == 1 else ["torchrun", f"--nproc_per_node={processes}"]
    return shlex.join([*start, "run_sample.py", *words])


class RunFiles:
    """Keeps run.json, in each output folder of the run and its variants, as the run goes on."""

    def __init__(self, command: str, runtime: Runtime) -> None:
        """Note when the run started, and what it runs on."""
        self._start = time.monotonic()
        self._about = {
            "command": command,
            "commit": source_version(),
            "versions": package_versions(PACKAGES),
            "machine": {
                "cpu": cpu_name(), "cores": available_cpus(), "device": runtime.device_name,
                "processes": runtime.world_size,
            },
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }  # fmt: skip
        self._files: dict[Path, dict[str, Any]] = {}
        self._made: dict[str, dict[str, Mapping[str, Any]]] = {}  # by step, then by key

    def begin(self, config: Config, rows: Sequence[Row]) -> None:
        """Write down how the steps stand before the run.

        Args:
            config: the settings of the run itself.
            rows: the plan.
        """
        configs = {config.out_dir: config}
        for row in rows:
            configs.setdefault(row.node.run.config.out_dir, row.node.run.config)
        for folder, own in configs.items():
            steps: dict[str, dict[str, Any]] = read_run(folder).get("steps", {})
            for entry in steps.values():
                entry[STATE] = NOT_ASKED
            settings = {"settings": own.to_dict()}
            self._files[folder] = {**self._about, **settings, SECONDS: 0.0, "steps": steps}
        for row in rows:
            state = row.status.state
            self._enter(row.node, KEPT if state == CURRENT else state)
        for folder in self._files:
            self._write(folder)

    def note(self, node: "Node", state: str, made: Mapping[str, Any] | None = None) -> None:
        """Write down how a step stands now.

        Args:
            node: the step.
            state: DONE, KEPT, or a word of the plan.
            made: how it was made, if it was in this run.
        """
        self._enter(node, state, made)
        self._write(node.run.config.out_dir)

    def measured(self, node: "Node") -> Mapping[str, Any] | None:
        """How a step, or else a variant of it, was made when it last ran here; None if never."""
        entries = self._made.get(node.step.name, {})
        return entries.get(node.key) or next(reversed(entries.values()), None)

    def end(self) -> None:
        """Write down how long the run took."""
        for folder in self._files:
            self._write(folder)

    def _enter(self, node: "Node", state: str, made: Mapping[str, Any] | None = None) -> None:
        steps = self._files[node.run.config.out_dir]["steps"]
        how = steps.get(node.key, {}) if made is None else made
        steps[node.key] = {**how, STATE: state}
        if SECONDS in how:
            self._made.setdefault(node.step.name, {})[node.key] = how

    def _write(self, folder: Path) -> None:
        content = self._files[folder]
        content[SECONDS] = round(time.monotonic() - self._start, 3)
        write_json(path_of(folder), content)
