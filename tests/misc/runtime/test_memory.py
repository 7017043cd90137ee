import platform
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

COUNT_FAULTS = """
import resource, sys
import numpy as np
from misc.runtime import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.ones(2**24, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**24, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Page faults of twenty arrays of 16 MiB, one after the other."""
    command = [sys.executable, "-c", COUNT_FAULTS, how]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_used_again_without_new_pages() -> None:
    assert page_faults("keep") * 4 < page_faults("return")
