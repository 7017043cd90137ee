"""A tiny drawn dataset and one finished run of the pipeline on it, shared by all tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from misc.runtime import available_cpus
from misc.signals import STOP_SIGNALS
from tests.helpers.paths import SHARED
from tests.helpers.tiny import TINY, Run, run
from voc12.drawn import draw_dataset

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # they share the cores
    torch.set_num_threads(max(1, available_cpus() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
    os.environ["OMP_WAIT_POLICY"] = "passive"


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn dataset of eight training and three validation images."""
    root = tmp_path_factory.mktemp("drawn") / "voc"
    draw_dataset(root, **TINY, seed=3)
    return root


@pytest.fixture(scope="session")
def finished_run(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All steps on the tiny dataset; look at it, or work on a `copy_run` of it."""
    return run(tiny_dataset, tmp_path_factory.mktemp("finished") / "out", "--panels=2")


@pytest.fixture
def stop_signals_heeded() -> Iterator[None]:
    """Ctrl-C and the like reach this process and what it starts, also under nohup and `&`."""
    heed: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, heed.get(number, signal.SIG_DFL))
              for number in STOP_SIGNALS}  # fmt: skip
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and sealed records, or a skip."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there: set SBE_SHARED to the shared folder")
    return SHARED
