import logging
import os
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from misc.runtime import Runtime, loading, read_ahead
from misc.runtime.loading import Ahead, num_bytes, within
from tests.helpers.memory import MIB

Usage = namedtuple("Usage", "total used free")


class Items:
    """Twelve tensors of a MiB, each with the process that made it."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"values": torch.full((MIB // 4,), index, dtype=torch.float32), "by": os.getpid()}


def read(workers: int, **options: Any) -> tuple[list[float], set[int]]:
    """The first value of each item, in order, and the processes that read."""
    state = SimpleNamespace(device=torch.device("cpu"))
    items = list(read_ahead(Runtime(cast(Any, state), workers), Items(), **options))
    values = torch.cat([item["values"].reshape(-1, MIB // 4)[:, 0] for item in items])
    return values.tolist(), {int(pid) for item in items for pid in np.ravel(item["by"])}


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many bytes of shared memory are free."""
    loading._tell_once.cache_clear()

    def set_free(num_bytes: int) -> None:
        usage = Usage(num_bytes, 0, num_bytes)
        monkeypatch.setattr("misc.runtime.loading.shutil.disk_usage", lambda _: usage)

    return set_free


@pytest.mark.parametrize(
    ("room", "item", "workers", "ahead"),
    [
        (100, 5, 8, Ahead(8, 2)),
        (79, 5, 8, Ahead(8, 1)),
        (40, 5, 8, Ahead(8, 1)),
        (39, 5, 8, Ahead(7, 1)),
        (4, 5, 8, Ahead(0, 1)),
        (100, 0, 8, Ahead(8, 2)),
        (2**30, 34 * MIB, 64, Ahead(30, 1)),  # CAMs of 64 cores
        (2**30, 34 * MIB, 8, Ahead(8, 2)),
    ],
)
def test_what_is_read_ahead_stays_within_the_room(
    room: int, item: int, workers: int, ahead: Ahead
) -> None:
    assert within(room, item, workers) == ahead
    assert ahead.workers * ahead.items * item <= room


def test_a_small_first_item_does_not_hide_large_ones(free: Any) -> None:
    free(64 * MIB)
    items = [np.zeros(1, np.uint8), *[np.zeros(20 * MIB, np.uint8)] * 7]
    assert loading._ahead_for(4, items, None) == Ahead(1, 1)
    assert loading._ahead_for(4, items[:1], None) == Ahead(4, 2)
    assert loading._ahead_for(4, [], None) == Ahead(4, 2)


def test_bytes_of_nested_arrays() -> None:
    pair = (np.zeros((2, 3), np.float32), [torch.zeros(5, dtype=torch.uint8)])
    assert num_bytes({"a": pair, "name": "x", "size": 3}) == 24 + 5


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
@pytest.mark.parametrize(
    ("mib", "readers", "said"),
    [
        (64, 2, []),
        (5, 2, []),
        (
            3,
            1,
            [
                "1 worker processes read instead of 2: one reads 1 MiB at once, and there are 2 "
                "MiB for all (half of what is free in /dev/shm, at most 1024)."
            ],
        ),
    ],
)
def test_fewer_processes_read_where_shared_memory_is_small(
    free: Any, mib: int, readers: int, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    free(mib * MIB)
    values, processes = read(2, batch_size=None)
    assert values == list(range(12))
    assert os.getpid() not in processes
    assert len(processes) == readers
    assert caplog.messages == said


def test_this_process_reads_where_there_is_no_shared_memory(
    free: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    free(7 * MIB)
    batches = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    for _ in range(2):  # told once
        assert read(2, batch_sampler=batches) == (list(range(12)), {os.getpid()})
    (message,) = caplog.messages
    assert message.startswith("No worker processes read instead of 2: one reads 4 MiB at once")


def test_the_processes_of_a_machine_share_its_memory(
    free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(16 * MIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loading.room_to_read_ahead() == 2 * MIB
    free(2**40)
    assert loading.room_to_read_ahead() == 2**30
    monkeypatch.setattr(loading, "SHARED_MEMORY", Path("/nowhere"))
    assert loading.room_to_read_ahead() == 2**30
