"""What is recorded of a training of the segmentation network."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.workspace import read_json, write_json

REMEDY = "Delete it, which loses only what it says of the training, and run again."


@dataclass
class Notes:
    """How a training started, and mIoU on val after so many updates.

    Attributes:
        initialisation: what the network started from, in words.
        labels: the masks that it learnt from, in words.
        updates: how many there were so far.
        validation: `updates` and `miou` of each validation, in order.
        best: that of the weights kept as the best: the earliest with the highest mIoU.
    """

    initialisation: str = "unknown"
    labels: str = "unknown"
    updates: int = 0
    validation: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None

    @staticmethod
    def read(path: Path) -> "Notes":
        """The notes at `path`; those of an unknown training if there are none.

        Raises:
            UserError: if the file holds something else.
        """
        if not path.exists():
            return Notes()
        content = read_json(path, REMEDY)
        fields = {field.name for field in dataclasses.fields(Notes)}
        if not isinstance(content, dict) or not content.keys() <= fields:
            raise UserError(f"{path} does not hold notes of a training. {REMEDY}")
        notes = Notes(**content)
        entries = [*notes.validation] if isinstance(notes.validation, list) else [None]
        entries += [] if notes.best is None else [notes.best]
        if type(notes.updates) is not int or not all(map(_is_entry, entries)):
            raise UserError(f"{path} does not hold notes of a training. {REMEDY}")
        return notes

    def write(self, path: Path) -> None:
        """Write the notes as JSON."""
        write_json(path, vars(self))


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("updates")) is int
        and isinstance(entry.get("miou"), float)
    )
