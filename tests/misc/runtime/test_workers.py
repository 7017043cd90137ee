import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from misc.errors import UserError
from misc.runtime import WorkerPool
from misc.runtime.workers import _report_unless_parent_left
from misc.workspace import read_json
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


def test_every_item_is_worked_on_once(pool: WorkerPool) -> None:
    assert sorted(pool.map(abs, range(-30, 0))) == list(range(1, 31))
    assert list(pool.map(abs, [])) == []


def test_without_workers_items_are_worked_on_in_order_and_in_this_process() -> None:
    with WorkerPool(0) as inline:
        assert list(inline.map(lambda i: (i, os.getpid()), range(3))) == [
            (i, os.getpid()) for i in range(3)
        ]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_generator_is_read_only_a_little_ahead(pool: WorkerPool, num_workers: int) -> None:
    items = itertools.count()
    results = (pool if num_workers else WorkerPool(0)).map(abs, items)
    for _ in range(20):
        next(results)
    assert next(items) <= 20 + 4 * num_workers


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_exception_of_the_work_arrives(
    pool: WorkerPool, num_workers: int, tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_text("{")
    used = pool if num_workers else WorkerPool(0)
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(used.map(math.sqrt, [1.0, -1.0]))
    with pytest.raises(UserError, match=r"broken\.json is not valid JSON"):
        list(used.map(read_json, [tmp_path / "broken.json"]))


def settings_of_a_worker(_: int) -> tuple[int, Any]:
    return torch.get_num_threads(), signal.getsignal(signal.SIGINT)


def test_a_worker_uses_one_thread_and_leaves_ctrl_c_to_its_parent(pool: WorkerPool) -> None:
    assert list(pool.map(settings_of_a_worker, [0])) == [(1, signal.SIG_IGN)]


def hook_of_a_worker(_: int) -> Any:
    return sys.excepthook.__name__


def test_a_worker_reports_all_but_a_connection_that_its_parent_dropped(
    pool: WorkerPool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(pool.map(hook_of_a_worker, [0])) == [_report_unless_parent_left.__name__]
    for dropped in (ConnectionResetError("by peer"), BrokenPipeError(), EOFError()):
        _report_unless_parent_left(type(dropped), dropped, None)
    assert capsys.readouterr().err == ""
    for error in (RuntimeError("of the work"), OSError("no space")):
        _report_unless_parent_left(type(error), error, None)
        assert str(error) in capsys.readouterr().err


def test_a_worker_that_was_killed_is_named_with_a_remedy() -> None:
    with (
        WorkerPool(1) as pool,
        pytest.raises(UserError, match=r"worker process died.*--num_workers"),
    ):
        list(pool.map(os._exit, [9]))


SCRIPT = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from misc.runtime import WorkerPool

def process_id(_):
    return os.getpid()

if __name__ == "__main__":
    with WorkerPool(1) as pool:
        print(*pool.map(process_id, [0]), flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess:
    """A process that printed its worker's id and died, in a folder with a `misc` of its own."""
    folder = tmp_path_factory.mktemp("another project")
    (folder / "misc").mkdir()
    (folder / "misc" / "__init__.py").touch()
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_workers_start_in_the_folder_of_another_project(killed: Any) -> None:
    assert killed.stdout.strip().isdigit(), killed.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_leave_when_their_parent_is_killed(killed: Any) -> None:
    assert killed.returncode == -signal.SIGKILL
    process = Path("/proc") / killed.stdout.strip()
    deadline = time.monotonic() + 20
    while _is_running(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(process)


def _is_running(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
