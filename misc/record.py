"""Which settings and inputs made an artefact, written beside it and compared before it is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.whole_files import digest, read_json, write_json


@dataclass(frozen=True)
class Record:
    """What made an artefact: the settings of its step and fingerprints of its inputs."""

    settings: dict[str, Any]
    inputs: dict[str, str]
    # What a setting is where the settings lack it: it came later, and this changes nothing.
    usual: dict[str, Any] = field(default_factory=dict, compare=False)
    # The settings that trained the weights behind it, for the time when those are gone.
    trained_with: dict[str, Any] | None = field(default=None, compare=False)
    # Second fingerprints of inputs, each taken otherwise: one of the two that is equal is enough.
    also: dict[str, str] = field(default_factory=dict, compare=False)

    def digest(self) -> str:
        """Fingerprint of the record, as input of later steps."""
        return digest([self.settings, self.inputs])

    def write(self, path: Path, more: Mapping[str, Any] | None = None) -> None:
        """Write the record as JSON, and `more` beside it."""
        content = {"settings": self.settings, "inputs": self.inputs, **(more or {})}
        if self.also:
            content["also"] = self.also
        if self.trained_with is not None:
            content["trained_with"] = self.trained_with
        write_json(path, content)

    @staticmethod
    def read(path: Path) -> "Record | None":
        """The record at `path`; None if there is none.

        Raises:
            UserError: if the file is not a record.
        """
        if not path.exists():
            return None
        content = read_json(path)
        if not isinstance(content, dict) or not {"settings", "inputs"} <= content.keys():
            raise UserError(f"{path} is not a record of settings. Delete it and run again.")
        also, trained_with = content.get("also", {}), content.get("trained_with")
        return Record(content["settings"], content["inputs"], also=also, trained_with=trained_with)

    def demand_equal(self, earlier: "Record", what: str, remedy: str) -> None:
        """Refuse to run on with other settings or inputs than `earlier`.

        Raises:
            UserError: naming each setting and input that differs.
        """
        was, now = ({**self.usual, **each.settings} for each in (earlier, self))
        names = [n for n in sorted(was.keys() | now.keys()) if was.get(n) != now.get(n)]
        changes = [f"--{name} was {was.get(name)}, is {now.get(name)}" for name in names]
        changes += [
            f"its input changed: {name}"
            for name in sorted(self.inputs.keys() | earlier.inputs.keys())
            if not self._fingerprints(name) & earlier._fingerprints(name)
        ]
        if changes:
            raise UserError(
                f"{what} was made otherwise than this run would make it:\n  "
                + "\n  ".join(changes)
                + f"\nPass --overwrite to redo it, {remedy}, or set the settings back."
            )

    def _fingerprints(self, name: str) -> set[str]:
        return {each[name] for each in (self.inputs, self.also) if name in each}


def claim_record(
    path: Path, record: Record, what: str, remedy: str, more: Mapping[str, Any] | None = None
) -> None:
    """Compare `record` with the one at `path`, or write it there with `more` if there is none.

    Raises:
        UserError: if what the earlier record describes was made by other settings or inputs.
    """
    earlier = Record.read(path)
    if earlier is None:
        record.write(path, more)
    else:
        record.demand_equal(earlier, what, remedy)
