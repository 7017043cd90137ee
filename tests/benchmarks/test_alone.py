"""Memory of other processes; imports little, so that these hold little else."""

import multiprocessing
import time

import pytest

from tests.benchmarks.alone import PROC, call_alone, call_here


def hold(mebibytes: int) -> int:
    """Fill so much memory for a second."""
    filled = b"1" * (mebibytes << 20)
    time.sleep(1)
    return len(filled) >> 20


def hold_with_a_worker(mebibytes: int) -> int:
    """Fill it here while a worker process holds twice as much."""
    filled = b"1" * (mebibytes << 20)
    worker = multiprocessing.get_context("spawn").Process(target=hold, args=(2 * mebibytes,))
    worker.start()
    worker.join()
    return len(filled) >> 20


@pytest.mark.skipif(not PROC.exists(), reason="needs Linux")
def test_a_call_alone_tells_its_memory_and_that_of_its_workers() -> None:
    alone = call_alone(hold_with_a_worker, 100)
    assert alone.result == 100
    assert 300 < alone.peak_mib < 400


def test_what_a_call_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="negative"):
        call_alone(time.sleep, -1)


def test_here_nothing_is_measured() -> None:
    assert str(call_here(hold, 1)) == "Alone(result=1, peak_mib=nan)"
