"""A call in a process of its own, so that its memory is nobody else's."""

import itertools
import math
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tests.helpers.memory import MIB

T = TypeVar("T")
SECONDS_BETWEEN_LOOKS = 0.1
PROC = Path("/proc")


@dataclass(frozen=True)
class Alone(Generic[T]):
    """What a call returned, and the memory of its process and that one's workers at its highest.

    `peak_mib` is NaN where the system does not tell (other than Linux). Mapped files, such as
    libraries, do not count; memory that processes share counts once.
    """

    result: T
    peak_mib: float


def call_alone(function: Callable[..., T], *arguments: object) -> Alone[T]:
    """Call a picklable function in a new process, and look at its memory ten times a second."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result()
        with _watched(pid) as looks:
            result = pool.submit(function, *arguments).result()
    return Alone(result, max(looks, default=math.nan) / MIB)


def call_here(function: Callable[..., T], *arguments: object) -> Alone[T]:
    """Call it in this process, which is quicker; its memory is not measured."""
    return Alone(function(*arguments), math.nan)


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """The bytes that a process and its descendants held at each look so far."""
    looks: list[int] = []
    is_done = threading.Event()

    def watch() -> None:
        while True:
            looks.append(sum(_bytes_of(each) for each in _family(pid)))
            if is_done.wait(SECONDS_BETWEEN_LOOKS):
                return

    thread = threading.Thread(target=watch)
    if PROC.exists():
        thread.start()
    try:
        yield looks
    finally:
        is_done.set()
        if thread.ident is not None:
            thread.join()


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    lists = (PROC / f"{pid}" / "task").glob("*/children")
    return [
        pid,
        *(each for file in lists for child in _words(file) for each in _family(int(child))),
    ]


def _bytes_of(pid: int) -> int:
    """A process's memory that no file stands behind, its share of what is shared; 0 if it ended."""
    words = _words(PROC / f"{pid}" / "smaps_rollup")
    return sum(
        int(size) << 10
        for name, size in itertools.pairwise(words)
        if name in ("Pss_Anon:", "Pss_Shmem:")
    )


def _words(file: Path) -> list[str]:
    """Of a file of a process that may have ended."""
    try:
        return file.read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
