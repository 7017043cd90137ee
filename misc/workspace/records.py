"""Which settings and inputs made a result: written beside it, compared before it is used."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.workspace.whole_files import digest, is_file_name, read_json, write_json

# Without its record, a result of ours would count as somebody else's.
REMEDY = "Delete it together with the results it describes, or move them away, and run again."


@dataclass(frozen=True)
class Identity:
    """What an input is, in two fingerprints.

    Attributes:
        recipe: of what it is made from; known before it is made.
        content: of what it holds, "" while that is unknown.
        settings: those that it was made with, to tell what changed; None if nobody here made it.
    """

    recipe: str
    content: str = ""
    settings: Mapping[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def of_content(cls, content: str) -> "Identity":
        """The identity of what nobody here made: its content alone."""
        return cls(content, content)

    def equals(self, other: "Identity") -> bool:
        """True if contents, or recipes where a content is unknown, are the same."""
        if self.content and other.content:
            return self.content == other.content
        return self.recipe == other.recipe


@dataclass(frozen=True)
class Record:
    """What made a result.

    Attributes:
        settings: of its step, as JSON can hold them.
        inputs: name -> identity of what all of it was made from.
        images: image id -> fingerprint of what that image's part was made from besides; of a
            result that is one file for all images, empty.
    """

    settings: dict[str, Any]
    inputs: dict[str, Identity] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> Identity:
        """What the result is as an input of others, whatever images it holds."""
        contents = [each.content for each in self.inputs.values()]
        recipe = [self.settings, {name: each.recipe for name, each in self.inputs.items()}]
        if not all(contents):
            return Identity(digest(recipe), settings=self.settings)
        content = [self.settings, {name: each.content for name, each in self.inputs.items()}]
        return Identity(digest(recipe), digest(content), self.settings)

    def changes_since(self, earlier: "Record") -> tuple[list[str], list[str]]:
        """What differs: settings as `--beta was 5.0, is 10.0`, and the names of inputs."""
        settings = changed_settings(earlier.settings, self.settings)
        inputs = [
            name
            for name in sorted(self.inputs.keys() | earlier.inputs.keys())
            if name not in self.inputs
            or name not in earlier.inputs
            or not self.inputs[name].equals(earlier.inputs[name])
        ]
        return settings, inputs

    def is_made_like(self, earlier: "Record") -> bool:
        """True if settings and inputs are the same, whatever the images."""
        return self.changes_since(earlier) == ([], [])

    def write(self, path: Path, more: Mapping[str, Any] | None = None) -> None:
        """Write the record as JSON, and `more` beside it."""
        write_json(path, {**self.to_json(), **(more or {})})

    @staticmethod
    def read(path: Path) -> "Record | None":
        """The record at `path`; None if there is none.

        Raises:
            UserError: if the file is not a record.
        """
        return Record.read_with_more(path)[0]

    @staticmethod
    def read_with_more(path: Path) -> tuple["Record | None", dict[str, Any]]:
        """The record at `path`, and what was written beside it.

        Raises:
            UserError: if the file is not a record.
        """
        if not path.exists():
            return None, {}
        content = read_json(path, REMEDY)
        try:
            return Record.of_json(content), content
        except ValueError:
            raise UserError(f"{path} is not a record of settings. {REMEDY}") from None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON can hold it."""
        content: dict[str, Any] = {
            "settings": self.settings,
            "inputs": {name: dataclasses.asdict(each) for name, each in self.inputs.items()},
        }
        return content | ({"images": dict(self.images)} if self.images else {})

    @staticmethod
    def of_json(content: dict[str, Any]) -> "Record":
        """The record that `to_json` wrote, taken out of `content`.

        Raises:
            ValueError: if there is none, or its values are of other kinds.
        """
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        settings, inputs = content.pop("settings", None), content.pop("inputs", None)
        images = content.pop("images", {})
        kinds = (settings, inputs, images)
        if not (all(isinstance(each, dict) for each in kinds) and _are_images(images)):
            raise ValueError("it is of other kinds")
        return Record(settings, {name: _identity(each) for name, each in inputs.items()}, images)


def _identity(content: Any) -> Identity:
    """What `dataclasses.asdict` made of one."""
    names = {field.name for field in dataclasses.fields(Identity)}
    if not isinstance(content, dict) or content.keys() != names:
        raise ValueError("an input is of another kind")
    texts, settings = (content["recipe"], content["content"]), content["settings"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(settings, dict | None):
        raise ValueError("an input is of another kind")
    return Identity(**content)


def _are_images(images: Mapping[Any, Any]) -> bool:
    """True for ids, which name files, with a fingerprint each."""
    return all(is_file_name(name) and isinstance(images[name], str) for name in images)


def changed_settings(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ, as `--beta was 5, is 10`."""
    return [
        f"--{name} was {_shown(was.get(name))}, is {_shown(now.get(name))}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]


def _shown(value: Any) -> str:
    """A setting's value in a message, as it is typed after its flag."""
    if value is None or value == []:
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def demand_own(path: Path, others: Iterable[Path], elsewhere: str) -> None:
    """Refuse to work among files of somebody else: without a record yet, there are to be none.

    Args:
        path: where the record lies, or will lie.
        others: files that would be replaced, or taken for ours.
        elsewhere: what to choose instead.

    Raises:
        UserError: naming the first of the files.
    """
    if path.exists():
        return
    if (first := next(iter(others), None)) is not None:
        raise UserError(f"{first} is there, and was not made here. Choose {elsewhere}.")


def claim_record(path: Path, record: Record, what: str, remedy: str) -> None:
    """Compare `record` with the one at `path`, or write it there if there is none.

    Args:
        path: where the record lies.
        record: what would be made now.
        what: what the record speaks of, for the message.
        remedy: what helps besides `--overwrite`.

    Raises:
        UserError: if what the earlier record describes was made with different settings or inputs.
    """
    earlier = Record.read(path)
    if earlier is None:
        record.write(path)
        return
    settings, inputs = record.changes_since(earlier)
    if settings or inputs:
        changes = [*settings, *(f"{name} changed" for name in inputs)]
        raise UserError(
            f"{what} was made with different settings:\n  "
            + "\n  ".join(changes)
            + f"\nPass --overwrite to redo it, {remedy}, or restore the earlier settings."
        )
