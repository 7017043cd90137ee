"""How much memory a piece of code takes at its highest, whatever the process held before."""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLEAR_REFS = Path("/proc/self/clear_refs")
MIB = 1 << 20


def _resident(entry: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) << 10
    raise LookupError(entry)


@contextmanager
def bounded_memory(num_bytes: int) -> Iterator[None]:
    """Fail if this process, its threads included, takes `num_bytes` more than at the start.

    Where the system has no mark to set back (other than Linux), nothing is measured.
    """
    if not CLEAR_REFS.exists():
        yield
        return
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        # Freed memory that the allocator keeps would be taken again without a trace.
        ctypes.CDLL(None).malloc_trim(0)
    CLEAR_REFS.write_text("5")  # sets the highest so far back to what is held now
    before = _resident("VmRSS:")
    yield
    growth = _resident("VmHWM:") - before
    assert growth < num_bytes, f"{growth / MIB:.0f} MiB more than before"
