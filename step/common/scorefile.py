"""scores.json: the result of each step; beside it, what each score was made from."""

from pathlib import Path
from typing import Any

from misc.config import Config
from misc.errors import UserError
from misc.workspace import Record, digest, read_json, read_memory, write_json
from step import STEPS

SCORES_NAME = "scores.json"
OF = "of"  # in a record: the fingerprint of the result that it speaks of


class ScoreFile:
    """The result of each step, kept over runs: one object for each step name.

    `scores.settings.json` holds the records of what scores were made from. A record counts only
    with the result that it was written for.
    """

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

    @property
    def records_path(self) -> Path:
        """Where the records lie."""
        return self.path.with_name(f"{self.path.stem}.settings.json")

    def step(self, name: str) -> dict[str, Any]:
        """The result of the step when it last ran; empty if it never did."""
        return self.content.get(name, {})

    def record(self, name: str) -> Record | None:
        """What the result of a step was made from; None where that is unknown."""
        entry = read_memory(self.records_path).get(name)
        if name not in self.content or not isinstance(entry, dict):
            return None
        if entry.pop(OF, None) != digest(self.content[name]):
            return None
        try:
            return Record.of_json(entry)
        except ValueError:
            return None

    def drop(self, name: str) -> None:
        """Forget a step's result."""
        if self.content.pop(name, None) is not None:
            write_json(self.path, self.content)

    def put(self, name: str, result: dict[str, Any], record: Record | None = None) -> None:
        """Keep a step's result and, of a score, what it was made from."""
        self.content[name] = result
        write_json(self.path, self.content)
        if record is not None:
            entry = {OF: digest(result), **record.to_json()}
            write_json(self.records_path, read_memory(self.records_path) | {name: entry})


def _are_scores(content: object) -> bool:
    """True for an object of each step, as `put` writes it."""
    return isinstance(content, dict) and all(
        name.startswith(STEPS) and isinstance(content[name], dict) for name in content
    )
