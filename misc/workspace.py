"""Where artefacts live, what is pending, and which settings made them.

Whole files and records come from here too: a step needs no other module to keep what it makes.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from misc.errors import UserError
from misc.record import Record, claim_record
from misc.whole_files import (
    PARTIAL_SUFFIX,
    atomic_write,
    content_digest,
    digest,
    read_json,
    remove_partial_files,
    stat_digest,
    write_json,
)

__all__ = [
    "PARTIAL_SUFFIX",
    "ArtefactFolder",
    "Record",
    "WeightsFile",
    "atomic_write",
    "claim_record",
    "content_digest",
    "digest",
    "read_json",
    "remove_partial_files",
    "stat_digest",
    "write_json",
]

RECORD_NAME = "settings.json"
SEAL = "weights"  # in the record of weights: their fingerprint; null while they are trained


class WeightsFile:
    """A network's weights with the record of what made them and the state of their training.

    Weights that the record does not speak of were made by somebody else and are taken as they are.
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
        """True for weights without a record of ours, or other ones than it speaks of."""
        if not self.exists() or not self.record_path.exists():
            return self.exists()
        content = self._record()
        return SEAL in content and content[SEAL] != self.state_digest()

    def is_begun(self) -> bool:
        """True if a training of ours was stopped before it had finished."""
        if self.exists() or not self.record_path.exists():
            return False
        return self.checkpoint_path.exists() or self._record().get(SEAL, "") is None

    def _record(self) -> dict[str, Any]:
        Record.read(self.record_path)  # which refuses what is no record
        return read_json(self.record_path)

    def claim(self, record: Record, *, overwrite: bool = False, sealed: bool = False) -> bool:
        """Make the file ours: compare with its record, or write one.

        Args:
            record: what this run would train the weights from.
            overwrite: delete weights and training state of ours first.
            sealed: until `keep` ends the training, weights that appear here are somebody else's.

        Returns:
            True if there are no finished weights: they are to be trained.

        Raises:
            UserError: if the weights there were trained by other settings.
        """
        if overwrite and not self.is_foreign():
            # The record goes last: whatever is left of a broken deletion is still known as ours.
            for path in (self.path, self.checkpoint_path, self.record_path):
                path.unlink(missing_ok=True)
        remedy = f"name another {self.flag}"
        more = {SEAL: None} if sealed else None
        claim_record(self.record_path, record, f"{self.path}", remedy, more)
        remove_partial_files(self.path.parent)
        if not self.exists():
            return True
        self.checkpoint_path.unlink(missing_ok=True)  # where a run was stopped just before this
        return False

    def keep(self, save: Callable[[Path], None]) -> None:
        """End a training that was claimed: the weights, their seal, and no more training state.

        Args:
            save: writes the weights to the path that it is given.
        """
        new = self.path.with_name(f".{self.path.name}{PARTIAL_SUFFIX}")
        save(new)
        # The seal comes first: stopped in between, the weights are still to be trained.
        write_json(self.record_path, self._record() | {SEAL: content_digest(new)})
        os.replace(new, self.path)
        self.checkpoint_path.unlink(missing_ok=True)

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

    def file_sizes(self, ids: Sequence[str]) -> list[int]:
        """Bytes of those files of `ids` that are there."""
        if not self.folder.is_dir():
            return []
        wanted = {image_id + suffix for image_id in ids for suffix in self.suffixes}
        with os.scandir(self.folder) as entries:
            return [entry.stat().st_size for entry in entries if entry.name in wanted]

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
