import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from misc.errors import UserError
from misc.runtime import Runtime, WorkerPool, _report_unless_parent_left, make_runtime
from misc.workspace import read_json

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


def rank_of(rank: int, world_size: int) -> Runtime:
    state = SimpleNamespace(process_index=rank, num_processes=world_size, is_main_process=rank == 0)
    return Runtime(cast(Any, state), 0)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("num_items", [0, 1, 7])
def test_the_shards_of_all_processes_make_the_whole(world_size: int, num_items: int) -> None:
    items = [f"image {i}" for i in range(num_items)]
    shards = [rank_of(rank, world_size).shard(items) for rank in range(world_size)]
    assert sorted(item for shard in shards for item in shard) == items
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_only_one_process_is_the_main_one() -> None:
    assert [rank_of(rank, 3).is_main for rank in range(3)] == [True, False, False]


def test_one_process_works_alone_on_the_device_asked_for() -> None:
    runtime = make_runtime("cpu", "fp32", 3)
    assert (runtime.rank, runtime.world_size, runtime.num_workers) == (0, 1, 3)
    assert runtime.is_main
    assert runtime.device == torch.device("cpu")
    assert runtime.on_main(lambda: "done") == "done"
    assert runtime.sum_over_processes(torch.tensor([1.0, 2.0])).tolist() == [1, 2]


def test_fp32_does_not_mean_tf32() -> None:
    switches: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = True
        make_runtime("cpu", "fp32", 0)
        assert [switch.allow_tf32 for switch in switches] == [False, False]
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_convolutions_of_fp32_are_those_of_the_cpu() -> None:
    device = make_runtime("cuda", "fp32", 0).device
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 256, 32, 32, generator=generator)
    weight = torch.randn(64, 256, 3, 3, generator=generator)
    expected = torch.nn.functional.conv2d(x.double(), weight.double())
    found = torch.nn.functional.conv2d(x.to(device), weight.to(device)).cpu()
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize(("asked", "ranks", "given"), [(8, 2, 4), (1, 4, 1), (0, 4, 0), (5, 1, 5)])
def test_the_processes_of_a_machine_share_its_workers(
    monkeypatch: pytest.MonkeyPatch, asked: int, ranks: int, given: int
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert make_runtime("cpu", "fp32", asked).num_workers == given


@pytest.mark.parametrize(
    ("device", "threads", "ranks", "has_threads", "beside"),
    [
        ("cpu", 8, 1, True, 0),
        ("cpu", 8, 1, False, 3),  # the work would keep one core busy
        ("cpu", 1, 1, True, 3),  # seven cores are free
        ("cpu", 1, 8, True, 0),
        ("cuda", 8, 1, True, 3),
    ],
)
def test_no_workers_beside_a_network_that_takes_every_core(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    threads: int,
    ranks: int,
    has_threads: bool,
    beside: int,
) -> None:
    monkeypatch.setattr("misc.runtime.available_cpus", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    state = SimpleNamespace(device=torch.device(device))
    runtime = Runtime(cast(Any, state), 3)
    assert runtime.workers_beside_network(has_threads=has_threads) == beside


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [("cuda", "fp32", "--device cuda: no CUDA device"), ("auto", "fp16", "fp16 needs a GPU")],
)
def test_what_the_machine_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, device: str, precision: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        make_runtime(device, precision, 0)


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
