"""What is recorded of a training of the segmentation network."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misc.workspace import read_json, write_json


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
        """The notes at `path`; those of an unknown training if there are none."""
        return Notes(**read_json(path)) if path.exists() else Notes()

    def write(self, path: Path) -> None:
        """Write the notes as JSON."""
        write_json(path, vars(self))
