"""Results on disk: what is there, what made it, and how a successor grows beside it.

A result that is to be replaced stays whole until its successor is complete. That grows in a folder
of its own, says `complete` in its record, and only then takes the place; a run that is stopped in
the middle of this is finished by the next one (`recover`).
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.workspace.records import REMEDY, Identity, Record
from misc.workspace.whole_files import (
    content_digest,
    digest,
    is_file_name,
    partial_files,
    remove_partial_files,
)  # fmt: skip

RECORD_NAME = "settings.json"
STAGING_NAME = ".new"
COMPLETE, WHOLE, SEAL, FILES = "complete", "whole", "weights", "files"
SUFFIXES, FURTHER = "suffixes", "further"

Digest = Callable[[Path], str]


def _read(path: Path) -> tuple[Record | None, dict[str, Any]]:
    """The record at `path`, and what stands beside it, all of the kinds that are written here.

    Files are deleted and moved by these names: a record may come from a stranger.

    Raises:
        UserError: if it is anything else.
    """
    record, more = Record.read_with_more(path)
    kinds = {
        SEAL: lambda value: isinstance(value, str),
        WHOLE: lambda value: isinstance(value, bool),
        COMPLETE: lambda value: value is True or _are_names(value),
        **dict.fromkeys((FILES, SUFFIXES, FURTHER), _are_names),
    }
    is_sound = all(kinds[name](more[name]) for name in kinds.keys() & more.keys())
    needed = (FILES,) if isinstance(more.get(COMPLETE), list) else (WHOLE, SUFFIXES, FURTHER)
    if not is_sound or (COMPLETE in more and not more.keys() >= {*needed}):
        raise UserError(f"{path} is not a record of settings. {REMEDY}")
    return record, more


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(is_file_name, value))


class ImageFolder:
    """One file per image for each suffix, in one folder, with the record of what made them.

    Files in a folder without a record were put there by somebody else and are taken as they are.
    """

    def __init__(
        self, path: Path, suffixes: Sequence[str], flag: str, further: Sequence[str] = ()
    ) -> None:
        """Describe the folder; nothing is read or made.

        Args:
            path: the folder.
            suffixes: what follows the image id in the files' names.
            flag: the flag that names another folder, for messages.
            further: suffixes of files that earlier runs may have made of the same images; they go
                when those of `suffixes` are replaced.
        """
        self.path = path
        self.suffixes = tuple(suffixes)
        self.flag = flag
        self.further = tuple(further)

    @property
    def record_path(self) -> Path:
        """Where the record lies."""
        return self.path / RECORD_NAME

    @property
    def staging(self) -> "ImageFolder":
        """Where files that are to replace those here grow."""
        return ImageFolder(self.path / STAGING_NAME, self.suffixes, self.flag)

    def file(self, image_id: str, suffix: str | None = None) -> Path:
        """File of one image; the first suffix unless another is named."""
        return self.path / f"{image_id}{self.suffixes[0] if suffix is None else suffix}"

    def record(self) -> Record | None:
        """The record of what made the files; None without one.

        Raises:
            UserError: if it cannot be read.
        """
        return Record.read(self.record_path)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` for which at least one file is missing."""
        names = self._names()
        return [i for i in ids if not all(i + suffix in names for suffix in self.suffixes)]

    def _names(self) -> set[str]:
        if not self.path.is_dir():
            return set()
        with os.scandir(self.path) as entries:
            return {entry.name for entry in entries}

    def is_empty(self) -> bool:
        """True if the folder holds no such file."""
        return not any(name.endswith(self.suffixes) for name in self._names())

    def is_foreign(self) -> bool:
        """True if the folder holds such files but no record of ours."""
        return not self.record_path.exists() and not self.is_empty()

    def begin(self, record: Record, todo: Sequence[str], *, anew: bool) -> "ImageFolder":
        """Prepare for the files of `todo`: the folder to write them into.

        Args:
            record: what they are made from; it names every image of `todo`.
            todo: the images.
            anew: they replace what is there; else they are missing here and go right to their
                place.
        """
        if not anew:
            earlier = self.record()
            if earlier is None or not record.is_made_like(earlier):  # of files that are all gone
                earlier = Record({})
            images = {**earlier.images, **{i: record.images[i] for i in todo}}
            dataclasses.replace(record, images=images).write(self.record_path)
            remove_partial_files(self.path)
            return self
        staging = self.staging
        grown = self.grown(record, todo)
        if not grown:
            shutil.rmtree(staging.path, ignore_errors=True)
        # From here on the record says that files lying here are made from what is there now.
        keep = {i + suffix for i in grown for suffix in self.suffixes}
        for name in staging._names() - keep - {RECORD_NAME}:
            (staging.path / name).unlink()
        images = {image_id: record.images[image_id] for image_id in todo}
        dataclasses.replace(record, images=images).write(staging.record_path)
        return staging

    def grown(self, record: Record, todo: Sequence[str]) -> set[str]:
        """Those of `todo` whose successors an earlier run has made already."""
        begun = self.staging.record()
        if begun is None or not record.is_made_like(begun):
            return set()
        left = set(self.staging.missing(todo))
        return {i for i in todo if i not in left and begun.images.get(i) == record.images[i]}

    def complete(self, *, whole: bool) -> None:
        """Let the successors take their place.

        Args:
            whole: all files here of other images were made differently and go with the old ones.
        """
        record = self.staging.record()
        assert record is not None
        # The run that finishes this may have been asked for other suffixes.
        more = {COMPLETE: True, WHOLE: whole, SUFFIXES: self.suffixes, FURTHER: self.further}
        record.write(self.staging.record_path, more)
        self.recover()

    def is_half_replaced(self) -> bool:
        """True if a run was stopped while successors took their place."""
        return COMPLETE in _read(self.staging.record_path)[1]

    def recover(self) -> None:
        """Finish what `complete` began, if a run was stopped meanwhile."""
        staging = self.staging
        record, more = _read(staging.record_path)
        if record is None or COMPLETE not in more:
            return
        suffixes = tuple(more[SUFFIXES])
        successors = {i + suffix for i in record.images for suffix in suffixes}
        for name in sorted(staging._names() & successors):
            os.replace(staging.path / name, self.path / name)
        earlier = self.record()
        if more[WHOLE]:
            # Others of the folder's files are the user's.
            ours = {i + suffix for i in (earlier.images if earlier else ()) for suffix in suffixes}
            for name in ours - successors:
                (self.path / name).unlink(missing_ok=True)
            earlier = None
        for name in (i + suffix for i in record.images for suffix in more[FURTHER]):
            (self.path / name).unlink(missing_ok=True)
        if earlier is not None:
            record = dataclasses.replace(record, images={**earlier.images, **record.images})
        record.write(self.record_path)
        remove_partial_files(self.path)
        shutil.rmtree(staging.path)


class WeightsFile:
    """A network's weights, with the record of what made them.

    Weights that the record does not speak of were put there by somebody else and are taken as
    they are. A training keeps its state in a folder beside the file (`training`), so that older
    weights stay until it ends.
    """

    def __init__(self, path: Path, flag: str, digest_of: Digest = content_digest) -> None:
        """Describe the file; nothing is read or made.

        Args:
            path: the weights.
            flag: the flag that names others, for messages.
            digest_of: fingerprint of a file, such as one that is looked up.
        """
        self.path = path
        self.flag = flag
        self._digest_of = digest_of

    @property
    def record_path(self) -> Path:
        """Where the record lies."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def training(self) -> Path:
        """Folder of a training that has not ended."""
        return self.path.with_name(f"{self.path.name}{STAGING_NAME}")

    def beside(self, ending: str) -> Path:
        """What a training keeps beside the weights: their name without its suffix, and `ending`."""
        return self.path.with_name(f"{self.path.stem}{ending}")

    @property
    def checkpoint(self) -> Path:
        """State of a training that has not ended."""
        return self.training / "checkpoint"

    def exists(self) -> bool:
        """True if there are finished weights."""
        return self.path.is_file()

    def seal(self) -> str:
        """Fingerprint of the weights; "" without any."""
        return self._digest_of(self.path) if self.exists() else ""

    def is_foreign(self) -> bool:
        """True for weights without a record of ours, or other ones than it speaks of."""
        if not self.exists() or not self.record_path.exists():
            return self.exists()
        return _read(self.record_path)[1].get(SEAL) != self.seal()

    def record(self) -> Record | None:
        """The record of what trained them, also when the weights are gone; None without one."""
        return Record.read(self.record_path)

    def identity(self) -> Identity | None:
        """What the weights are as an input of others; None if nothing is known of any."""
        if self.is_foreign():
            return Identity.of_content(self.seal())
        record = self.record()
        if record is None:
            return None
        return dataclasses.replace(record.identity(), content=self.seal())

    def begun(self) -> Record | None:
        """What the weights are being trained from by a training that was stopped; else None."""
        return Record.read(self.training / RECORD_NAME) if self.checkpoint.exists() else None

    def companions(self) -> list[str]:
        """Names of the files beside the weights that the same training made."""
        return _read(self.record_path)[1].get(FILES, [])

    def begin(self, record: Record) -> None:
        """Prepare the folder of a training, or go on with the one that was stopped there."""
        begun = Record.read(self.training / RECORD_NAME)
        if begun is not None and not record.is_made_like(begun):
            shutil.rmtree(self.training)
        record.write(self.training / RECORD_NAME)
        remove_partial_files(self.training)

    def complete(self) -> None:
        """Let the finished weights in the folder of the training take their place."""
        record = Record.read(self.training / RECORD_NAME)
        assert record is not None
        names = {path.name for path in self.training.iterdir()}
        companions = sorted(names - {RECORD_NAME, self.checkpoint.name, self.path.name})
        # From here on the record says what has to be there, and `recover` sees to it.
        seal = content_digest(self.training / self.path.name)
        content = {SEAL: seal, FILES: companions, COMPLETE: self.companions()}
        record.write(self.training / RECORD_NAME, content)
        self.recover()

    def is_half_replaced(self) -> bool:
        """True if a run was stopped while the weights took their place."""
        return COMPLETE in _read(self.training / RECORD_NAME)[1]

    def recover(self) -> None:
        """Finish what `complete` began, if a run was stopped meanwhile."""
        record, more = _read(self.training / RECORD_NAME)
        if record is None or COMPLETE not in more:
            return
        for name in more.pop(COMPLETE):
            if name not in more[FILES]:
                self.path.with_name(name).unlink(missing_ok=True)
        for name in (*more[FILES], self.path.name):
            if (self.training / name).exists():
                os.replace(self.training / name, self.path.with_name(name))
        record.write(self.record_path, more)
        for partial in partial_files(self.record_path):
            partial.unlink(missing_ok=True)
        shutil.rmtree(self.training)


def identity_of_images(shared: Identity, own: Mapping[str, str]) -> Identity:
    """What files of images are together: what all of them share, and what is each one's own."""
    together = digest(list(own.items()))
    content = digest([shared.content, together]) if shared.content else ""
    return Identity(digest([shared.recipe, together]), content, shared.settings)
