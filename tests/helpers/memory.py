"""How much memory a piece of code takes at its highest, whatever the process held before."""

import ctypes
import gc
import math
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLEAR_REFS = Path("/proc/self/clear_refs")
MIB = 1 << 20


@dataclass
class Growth:
    """Bytes that were taken at the highest over what was held before; NaN until it is known."""

    num_bytes: float = math.nan


def _resident(entry: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) << 10
    raise LookupError(entry)


@contextmanager
def measured_memory() -> Iterator[Growth]:
    """Growth of this process, its threads included, within the block; known at its end.

    Where the system has no mark to set back (other than Linux), nothing is measured.
    """
    growth = Growth()
    if not CLEAR_REFS.exists():
        yield growth
        return
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        # Freed memory that the allocator keeps would be taken again without a trace.
        ctypes.CDLL(None).malloc_trim(0)
    CLEAR_REFS.write_text("5")  # sets the highest so far back to what is held now
    before = _resident("VmRSS:")
    yield growth
    growth.num_bytes = _resident("VmHWM:") - before


@contextmanager
def bounded_memory(num_bytes: int) -> Iterator[None]:
    """Fail if this process takes `num_bytes` more than at the start, where that is measured."""
    with measured_memory() as growth:
        yield
    taken = growth.num_bytes
    assert math.isnan(taken) or taken < num_bytes, f"{taken / MIB:.0f} MiB more than before"
