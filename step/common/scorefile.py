"""scores.json: the result of each step; beside it, what each score was made from."""

from pathlib import Path
from typing import Any

from misc.config import Config
from misc.errors import UserError
from misc.workspace import Record, digest, read_json, write_json

OF = "of"  # in a record: the fingerprint of the result that it speaks of


class ScoreFile:
    """The result of each step, kept over runs: one object for each step name.

    `scores.settings.json` holds the records of what scores were made from. A record counts only
    with the result that it was written for.
    """

    def __init__(self, path: Path) -> None:
        """Open the file at `path`; it need not exist yet."""
        self.path = path
        self.content = _objects_in(path)

    @staticmethod
    def of(config: Config) -> "ScoreFile":
        """The scores of the runs with this output folder."""
        return ScoreFile(config.out_dir / "scores.json")

    @property
    def records_path(self) -> Path:
        """Where the records lie."""
        return self.path.with_name(f"{self.path.stem}.settings.json")

    def step(self, name: str) -> dict[str, Any]:
        """The result of the step when it last ran; empty if it never did."""
        return self.content.get(name, {})

    def record(self, name: str) -> Record | None:
        """What the result of a step was made from; None where that is unknown."""
        entry = dict(_objects_in(self.records_path).get(name, {}))
        if name not in self.content or entry.pop(OF, None) != digest(self.content[name]):
            return None
        return Record.of_json(entry)

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
            write_json(self.records_path, _objects_in(self.records_path) | {name: entry})


def _objects_in(path: Path) -> dict[str, Any]:
    content = read_json(path) if path.exists() else {}
    if not (isinstance(content, dict) and all(isinstance(each, dict) for each in content.values())):
        raise UserError(f"{path} does not hold an object for each step. Delete it and run again.")
    return content
