"""Fingerprints of files by their content, looked up where a file has not changed since."""

import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from misc.log import progress
from misc.workspace.whole_files import content_digest, stamp_of

logger = logging.getLogger(__name__)

NO_FILE = "missing"  # or no regular file
MAX_BYTES = 1 << 32
_TABLES = (
    "CREATE TABLE IF NOT EXISTS contents (path TEXT PRIMARY KEY, stamp TEXT, digest TEXT) "
    "WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS checked (key TEXT PRIMARY KEY, note TEXT) WITHOUT ROWID",
)
_AT_ONCE = 900  # values a query; SQLite takes 999
_A_THREAD = 32  # files that a thread reads at once
_THREADS = min(8, os.cpu_count() or 1)


class FileFingerprints:
    """Content digests of files, remembered under path, size, times and inode.

    A file that was copied, fetched again or mounted elsewhere has the digest that it had; a file
    that nobody touched is not read a second time. What is new goes into a temporary file, and with
    `save` into the lasting one.
    """

    def __init__(self, memory: Path | None = None) -> None:
        """Use the database at `memory`; it need not exist. None: remember for this process only."""
        self.memory = memory
        folder = tempfile.mkdtemp(prefix="sbe_")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._new = Path(folder) / "new.sqlite"

    def of(self, path: Path) -> str:
        """Digest of one file's content; `NO_FILE` without the file."""
        return self.of_all([path])[0]

    def of_all(self, paths: Sequence[Path | str], desc: str = "fingerprints") -> list[str]:
        """Digests of the contents of `paths`, in their order; `NO_FILE` where there is no file.

        Args:
            paths: the files.
            desc: what the progress bar says where many have to be read.
        """
        stamps = [stamp_of(path) for path in paths]
        here = os.getcwd()
        names = [os.path.join(here, path) for path in paths]
        digests: list[str | None] = []
        with self._to_read() as databases:
            for start in range(0, len(paths), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                query = "SELECT path, stamp, digest FROM contents WHERE path IN"
                rows = self._rows(databases, query, names[part])
                known = {name: (stamp, digest) for name, stamp, digest in rows}
                for name, stamp in zip(names[part], stamps[part], strict=True):
                    was, digest = known.get(name, (None, None))
                    digests.append(digest if was == stamp else None)
        unread = [i for i, digest in enumerate(digests) if digest is None and stamps[i]]
        learnt = []
        for i, digest in zip(unread, _read([paths[i] for i in unread], desc), strict=True):
            digests[i], stamp = digest, stamps[i]
            # A file that is being written may have another stamp by now: then it is read again.
            if stamp is not None and stamp_of(paths[i]) == stamp:
                learnt.append((names[i], stamp, digest))
        if learnt:
            self._learn("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", learnt)
        return [digest or NO_FILE for digest in digests]

    def remember(self, notes: Mapping[str, str]) -> None:
        """Remember that what has these keys was checked and is sound, and a note of each."""
        self._learn("INSERT OR REPLACE INTO checked VALUES (?, ?)", notes.items())

    def remembered(self, keys: Sequence[str]) -> dict[str, str]:
        """Notes of those of `keys` that this process, or an earlier one, has remembered."""
        known: dict[str, str] = {}
        with self._to_read() as databases:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                query = "SELECT key, note FROM checked WHERE key IN"
                for key, note in self._rows(databases, query, part):
                    known[key] = note
        return known

    def save(self) -> None:
        """Write what was learnt since the last call into the lasting database.

        Where that cannot be written, it costs time and nothing else.
        """
        if self.memory is None or not self._new.exists():
            return
        try:
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            with self._to_write(self.memory) as database:
                database.execute("ATTACH ? AS new", (str(self._new),))
                for table in ("contents", "checked"):
                    database.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM new.{table}")
        except (OSError, sqlite3.DatabaseError) as error:
            logger.warning(
                "%s cannot be written (%s): files will be read again.", self.memory, error
            )
            self.memory = None
            return
        self._new.unlink()

    def _learn(self, statement: str, rows: Iterable[tuple[str, ...]]) -> None:
        """Keep what was learnt; where the temporary folder is full, it costs time and no more."""
        try:
            with self._to_write(self._new) as database:
                database.executemany(statement, rows)
        except (OSError, sqlite3.DatabaseError) as error:
            logger.warning(
                "%s cannot be written (%s): files will be read again. Free some space there, or "
                "name another folder by TMPDIR.",
                self._new, error,
            )  # fmt: skip

    def _rows(
        self, databases: dict[Path, sqlite3.Connection], query: str, values: Sequence[str]
    ) -> Iterator[tuple[str, ...]]:
        """What the databases say to `query` of these values; a damaged one says nothing more."""
        for path, database in list(databases.items()):
            try:
                found = database.execute(f"{query} ({','.join('?' * len(values))})", values)
                yield from (row for row in found if all(isinstance(each, str) for each in row))
            except sqlite3.DatabaseError as error:
                del databases[path]
                self._give_up(path, error)

    @contextlib.contextmanager
    def _to_read(self) -> Iterator[dict[Path, sqlite3.Connection]]:
        """Connections to what is there, later knowledge last."""
        with contextlib.ExitStack() as stack:
            opened = {}
            for path in (self.memory, self._new):
                if path is None or not path.exists():
                    continue
                try:
                    database = stack.enter_context(contextlib.closing(sqlite3.connect(path)))
                    for table in _TABLES:
                        database.execute(table)
                except sqlite3.DatabaseError as error:
                    self._give_up(path, error)
                else:
                    opened[path] = database
            yield opened

    @contextlib.contextmanager
    def _to_write(self, path: Path) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(path, timeout=5)) as database:
            for table in _TABLES:
                database.execute(table)
            yield database
            database.commit()

    def _give_up(self, path: Path, error: sqlite3.DatabaseError) -> None:
        if isinstance(error, sqlite3.OperationalError):
            logger.warning("%s cannot be read (%s): files are read again.", path, error)
            self.memory = None
        else:
            logger.warning("%s is damaged (%s) and is made again.", path, error)
            try:
                path.unlink(missing_ok=True)
            except OSError:
                self.memory = None


def _read(paths: Sequence[Path | str], desc: str) -> Iterator[str]:
    """Digests of contents, read by a few threads where there are many."""
    if len(paths) < _A_THREAD:
        yield from map(_digest, paths)
        return
    parts = [paths[i : i + _A_THREAD] for i in range(0, len(paths), _A_THREAD)]
    with ThreadPoolExecutor(_THREADS) as threads:
        done = threads.map(lambda part: [_digest(path) for path in part], parts)
        yield from progress(chain.from_iterable(done), desc=desc, total=len(paths))


def _digest(path: Path | str) -> str:
    try:
        size = os.stat(path).st_size
        # Nothing that belongs here is as large: it is not read, and later refused.
        return f"{size} bytes" if size > MAX_BYTES else content_digest(Path(path))
    except OSError:
        return NO_FILE
