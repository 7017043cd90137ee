"""One run for each place of results: locks that the system releases when their holder dies."""

import json
import os
import socket
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from misc.errors import UserError


class RunLocks:
    """The places that this process holds; a file beside each lock says who does."""

    def __init__(self) -> None:
        self._held: dict[Path, FileLock] = {}

    def acquire(self, folder: Path, place: Path, flag: str) -> None:
        """Take a place for this process, unless it has it already.

        Args:
            folder: where the lock's files go; it is made if it is not there.
            place: what is locked, for the message.
            flag: the flag that names another place, for the message.

        Raises:
            UserError: if another process has it, naming that.
        """
        folder = folder.resolve()
        if folder in self._held:
            return
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"{place} is in use by {_holder(folder)}. Wait until it ends, or choose another "
                f"{flag}."
            ) from None
        self._held[folder] = lock
        holder = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": " ".join(sys.argv),
        }
        _holder_path(folder).write_text(json.dumps(holder), encoding="utf-8")

    def release(self) -> None:
        """Let others have all places."""
        for folder, lock in self._held.items():
            _holder_path(folder).unlink(missing_ok=True)
            lock.release()
        self._held.clear()


def _holder_path(folder: Path) -> Path:
    return folder / "lock.json"


def _holder(folder: Path) -> str:
    try:
        holder = json.loads(_holder_path(folder).read_text(encoding="utf-8"))
        return (
            f"process {holder['process']} on {holder['host']} (since {holder['since']}: "
            f"{holder['command']})"
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another run"  # which has not yet said who it is
