"""Where artefacts live: whole files only, what is pending, and which settings made them."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from misc.errors import UserError

RECORD_NAME = "settings.json"
PARTIAL_SUFFIX = ".partial"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` when the block ends well, else not at all.

    Args:
        path: where the file goes; an existing one is replaced. Its folder is made.

    Yields:
        The open temporary file in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Content of a JSON file that this project wrote.

    Raises:
        UserError: if it is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}). Delete it and run again.") from None


def digest(content: Any) -> str:
    """Short fingerprint of anything JSON can hold."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stat_digest(paths: Iterable[Path]) -> str:
    """Fingerprint of files by name, size and time of change; a missing file counts as such."""
    sha = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
            sha.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except FileNotFoundError:
            sha.update(f"{path.name}\0missing\n".encode())
    return sha.hexdigest()[:16]


def content_digest(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 22):
            sha.update(block)
    return sha.hexdigest()[:16]


def remove_partial_files(folder: Path) -> None:
    """Delete what an interrupted run left half-written in `folder`."""
    for path in folder.glob(f".*{PARTIAL_SUFFIX}"):
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Record:
    """What made an artefact: the settings of its step and fingerprints of its inputs."""

    settings: dict[str, Any]
    inputs: dict[str, str]
    # What a setting is where the settings lack it: it came later, and this changes nothing.
    usual: dict[str, Any] = field(default_factory=dict, compare=False)

    def digest(self) -> str:
        """Fingerprint of the record, as input of later steps."""
        return digest([self.settings, self.inputs])

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        write_json(path, {"settings": self.settings, "inputs": self.inputs})

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
        return Record(content["settings"], content["inputs"])

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
            if self.inputs.get(name) != earlier.inputs.get(name)
        ]
        if changes:
            raise UserError(
                f"{what} was made otherwise than this run would make it:\n  "
                + "\n  ".join(changes)
                + f"\nPass --overwrite to redo it, {remedy}, or set the settings back."
            )


def claim_record(path: Path, record: Record, what: str, remedy: str) -> None:
    """Compare `record` with the one at `path`, or write it there if there is none.

    Raises:
        UserError: if what the earlier record describes was made by other settings or inputs.
    """
    earlier = Record.read(path)
    if earlier is None:
        record.write(path)
    else:
        record.demand_equal(earlier, what, remedy)


class WeightsFile:
    """A network's weights with the record of what made them and the state of their training.

    Weights without a record were made by somebody else and are taken as they are.
    """

    def __init__(self, path: Path, flag: str) -> None:
        """Describe the file; nothing is read or made. `flag` names another, for messages."""
        self.path = path
        self.flag = flag

    @property
    def record_path(self) -> Path:
        """Where the record of settings lies."""
        return self.path.with_name(self.path.name + ".json")

    @property
    def checkpoint_path(self) -> Path:
        """Where the state of an unfinished training lies."""
        return self.path.with_name(self.path.name + ".checkpoint")

    def exists(self) -> bool:
        """True if there are finished weights."""
        return self.path.is_file()

    def is_foreign(self) -> bool:
        """True for weights without a record of ours."""
        return self.exists() and not self.record_path.exists()

    def claim(self, record: Record, *, overwrite: bool = False) -> bool:
        """Make the file ours: compare with its record, or write one.

        With `overwrite`, weights and training state are deleted first.

        Returns:
            True if there are no finished weights: they are to be trained.

        Raises:
            UserError: if the weights there were trained by other settings.
        """
        if overwrite:
            # The record goes last: whatever is left of a broken deletion is still known as ours.
            for path in (self.path, self.checkpoint_path, self.record_path):
                path.unlink(missing_ok=True)
        remedy = f"name another {self.flag}"
        claim_record(self.record_path, record, f"{self.path}", remedy)
        remove_partial_files(self.path.parent)
        return not self.exists()

    def state_digest(self) -> str:
        """Fingerprint of the weights."""
        return content_digest(self.path) if self.exists() else "missing"


class ArtefactFolder:
    """One file an image for each suffix, in one folder, with the record of what made them.

    A folder without a record was filled by somebody else: its files are taken as they are.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str], flag: str) -> None:
        """Describe the folder: `suffixes` follow the image id in each file's name.

        Nothing is read or made. `flag` names another folder; messages say so.
        """
        self.folder = folder
        self.suffixes = tuple(suffixes)
        self.flag = flag

    @property
    def record_path(self) -> Path:
        """Where the record of settings lies."""
        return self.folder / RECORD_NAME

    def path(self, image_id: str, suffix: str | None = None) -> Path:
        """File of one image; the first suffix unless another is named."""
        return self.folder / f"{image_id}{self.suffixes[0] if suffix is None else suffix}"

    def pending(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` for which at least one file is missing."""
        there = self._names()
        return [i for i in ids if not all(i + suffix in there for suffix in self.suffixes)]

    def _names(self) -> set[str]:
        if not self.folder.is_dir():
            return set()
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries}

    def is_foreign(self) -> bool:
        """True if the folder holds such files but no record of ours."""
        return not self.record_path.exists() and any(
            name.endswith(self.suffixes) for name in self._names()
        )

    def is_plugged_in(self, ids: Sequence[str]) -> bool:
        """True if somebody else put the files of all `ids` here: they are used as they are."""
        return self.is_foreign() and not self.pending(ids)

    def mixture(self, missing: Sequence[str]) -> str:
        """What to say of a folder with files of somebody else that lacks those of `missing`."""
        return (
            f"{self.folder} holds files that were put there, but none of {len(missing)} images, "
            f"{missing[0]} for one. Add them, shorten the lists, or name another {self.flag} to "
            "have all made here."
        )

    def claim(self, record: Record, ids: Sequence[str], *, overwrite: bool = False) -> list[str]:
        """Make the folder ours: compare with its record, or write one into a new folder.

        Args:
            record: what this run would make its files from.
            ids: images whose files are wanted.
            overwrite: delete their files first, and all others that were made otherwise too.

        Returns:
            those of `ids` whose files are to be made.

        Raises:
            UserError: if the files there were made by other settings or by somebody else.
        """
        if self.is_foreign():
            raise UserError(self.mixture(self.pending(ids) or ids))
        if overwrite:
            self._clear(record, ids)
        remedy = f"name another {self.flag}"
        claim_record(self.record_path, record, f"What {self.folder} holds", remedy)
        remove_partial_files(self.folder)
        return self.pending(ids)

    def _clear(self, record: Record, ids: Sequence[str]) -> None:
        if Record.read(self.record_path) == record:
            names = [i + suffix for i in ids for suffix in self.suffixes]
        else:
            # The record goes last: what is left of a broken deletion is still known as ours.
            names = [n for n in self._names() if n.endswith(self.suffixes)] + [RECORD_NAME]
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def state_digest(self, ids: Sequence[str]) -> str:
        """Fingerprint of what is here: the record's, or the files' where they are foreign."""
        record = Record.read(self.record_path)
        if record is not None:
            return record.digest()
        return stat_digest(self.path(i, suffix) for i in ids for suffix in self.suffixes)
