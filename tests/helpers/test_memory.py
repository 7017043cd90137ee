import numpy as np
import pytest

from misc.runtime import keep_freed_memory
from tests.helpers.memory import CLEAR_REFS, MIB, bounded_memory

needs_mark = pytest.mark.skipif(not CLEAR_REFS.exists(), reason="no mark to set back")


def take(num_bytes: int) -> None:
    np.ones(num_bytes, np.uint8)


@needs_mark
def test_a_higher_peak_of_before_hides_nothing() -> None:
    keep_freed_memory()  # as steps on the CPU do
    take(200 * MIB)
    with pytest.raises(AssertionError, match="MiB more than before"), bounded_memory(50 * MIB):
        take(100 * MIB)
    with bounded_memory(150 * MIB):
        take(100 * MIB)
