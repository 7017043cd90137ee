"""Files that are whole or not there at all, and fingerprints of what they hold."""

import contextlib
import glob
import hashlib
import io
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from misc.errors import UserError

logger = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"
# Bytes of the longest name that `atomic_write` takes: file systems take 255, Linux has process ids
# of up to seven digits.
LONGEST_NAME = 255 - len(f"..4194304{PARTIAL_SUFFIX}")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` when the block ends well, else not at all.

    Args:
        path: where the file goes; an existing one is replaced. Its folder is made.

    Yields:
        The open temporary file in the same folder.

    Raises:
        OSError: if the system refuses to write it, naming `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL_SUFFIX}")
    raw = _Partial(partial, "wb")
    try:
        with io.BufferedWriter(raw) as file:
            yield file
        os.replace(partial, path)
    except Exception as error:
        if raw.refusal is not None:
            raise OSError(raw.refusal.errno, raw.refusal.strerror, str(path)) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


class _Partial(io.FileIO):
    """A file that remembers why it was not written: torch.save raises an error of its own.

    Attributes:
        refusal: what the system said, if it refused to write.
    """

    refusal: OSError | None = None

    def write(self, data) -> int | None:  # type: ignore[no-untyped-def, override] # any buffer
        """Write as a file does."""
        try:
            return super().write(data)
        except OSError as error:
            self.refusal = error
            raise


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, remedy: str = "Delete it and run again.") -> Any:
    """Content of a JSON file that this project wrote.

    Args:
        path: the file.
        remedy: what to do if it is damaged.

    Raises:
        UserError: if it is not valid JSON, or no regular file.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path} is not a regular file. {remedy}")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if "\\ud" in text.lower():  # it may name half a character, which no file can hold
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except (json.JSONDecodeError, UnicodeError) as error:
        reason = str(error)
    except (ValueError, RecursionError):
        reason = "a number is too long, or it is nested too deeply"
    raise UserError(f"{path} is not valid JSON ({reason}). {remedy}")


def read_memory(path: Path) -> dict[str, Any]:
    """Content of a JSON file that only saves time; empty without it, or where it is damaged.

    The values are of any kind: whoever uses them looks at them first.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path)
    except (UserError, OSError) as error:
        logger.warning("%s cannot be read and is made again: %s", path, error)
        return {}
    return content if isinstance(content, dict) else {}


def is_file_name(text: object) -> bool:
    """True for a name of a file in one folder, or a part of one: nothing that leads elsewhere."""
    return isinstance(text, str) and text not in ("", ".", "..") and not set("/\\\0") & set(text)


def digest(content: Any) -> str:
    """Short fingerprint of anything JSON can hold."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stamp_of(path: Path | str) -> str | None:
    """What changes when a file does; None if there is no regular file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None  # a pipe would be waited for
    # Times of modification can be set, as `cp -p` does; those of change cannot.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def stat_digest(paths: Iterable[Path]) -> str:
    """Fingerprint of files by name and stamp; a missing file counts as such."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(f"{path.name}\0{stamp_of(path) or 'missing'}\n".encode())
    return sha.hexdigest()[:16]


def content_digest(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    with open(path, "rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 22):
            sha.update(block)
    return sha.hexdigest()[:16]


def partial_files(path: Path) -> list[Path]:
    """What interrupted runs left half-written of the file `path`, whatever their process was."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*{PARTIAL_SUFFIX}"))


def remove_partial_files(folder: Path) -> None:
    """Delete what an interrupted run left half-written in `folder` and the folders in it."""
    for pattern in (f".*.*[0-9]{PARTIAL_SUFFIX}", f"*/.*.*[0-9]{PARTIAL_SUFFIX}"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
