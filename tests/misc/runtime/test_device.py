import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from misc.errors import UserError, failure_in_words
from misc.runtime import Runtime, make_runtime

VARIABLES = ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "CUBLAS_WORKSPACE_CONFIG")


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


def test_a_process_can_run_again_in_another_precision() -> None:
    for precision, kept in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        runtime = make_runtime("cpu", precision, 0)
        assert runtime.accelerator.mixed_precision == kept
        with runtime.accelerator.autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


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
    monkeypatch.setattr("misc.runtime.device.available_cpus", lambda: 8)
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


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that says it has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("LOCAL_WORLD_SIZE", *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.undo()
    for name in VARIABLES:  # what make_runtime has set
        os.environ.pop(name, None)
    make_runtime("cpu", "fp32", 0)


@pytest.fixture
def gpu_runs(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as accelerate says, the first of them is in use."""
    accelerator = SimpleNamespace(device=torch.device("cuda", 0))
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: accelerator)


@pytest.mark.usefixtures("two_gpus")
def test_another_device_than_was_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    make_runtime("cpu", "fp32", 0)
    monkeypatch.setattr("misc.runtime.device._forget_other_runtime", lambda *_, **__: None)
    with pytest.raises(UserError, match="--device cuda: this process is bound to cpu"):
        make_runtime("cuda", "fp32", 0)


@pytest.mark.usefixtures("gpu_runs")
def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert make_runtime("cuda", "fp32", 8).num_workers == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    message = "3 processes were started on this machine, which has 2 GPUs.*--nproc_per_node=2"
    with pytest.raises(UserError, match=message):
        make_runtime("cuda", "fp32", 8)
    monkeypatch.undo()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert make_runtime("cpu", "fp32", 9).num_workers == 3


@pytest.mark.usefixtures("gpu_runs")
def test_a_broken_connection_between_gpus_is_left_to_our_heartbeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_runtime("cuda", "fp32", 0)
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "0"
    monkeypatch.setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # somebody's choice
    make_runtime("cuda", "fp32", 0)
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "1"


@pytest.mark.usefixtures("gpu_runs")
def test_kernels_that_repeat_are_chosen_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(device: str, *, deterministic: bool) -> tuple[bool, bool, str | None]:
        make_runtime(device, "fp32", 0, deterministic=deterministic)
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.deterministic,
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        )

    assert chosen("cuda", deterministic=False) == (False, False, None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")  # with which cuBLAS does not repeat
    assert chosen("cuda", deterministic=True) == (True, True, ":4096:8")
    with pytest.raises(RuntimeError, match="put_ does not have") as caught:
        torch.zeros(2).put_(torch.tensor([0]), torch.tensor([1.0]))
    assert failure_in_words(caught.value) == (
        "--deterministic yes: torch has no kernel of put_ that gives the same bits each time on "
        "this device. Finished work is kept: run the same command again with --deterministic no, "
        "or on the CPU."
    )
    assert chosen("cuda", deterministic=False)[:2] == (False, False)


class MovedNowhere(torch.nn.Conv2d):
    """A convolution that can be sent to a device which is not there."""

    sent_to: object = None

    def to(self, *args: Any, **kwargs: Any) -> "MovedNowhere":
        if args:
            (self.sent_to,) = args
        return super().to(**kwargs)


@pytest.mark.parametrize(
    ("device", "precision", "is_channels_last"),
    [("cuda", "no", False), ("cuda", "bf16", True), ("cpu", "no", True), ("cpu", "bf16", True)],
)
def test_a_gpu_gets_the_usual_layout_in_fp32(
    device: str, precision: str, is_channels_last: bool
) -> None:
    state = SimpleNamespace(device=torch.device(device), mixed_precision=precision)
    network = MovedNowhere(8, 4, 3).to(memory_format=torch.channels_last)
    placed = Runtime(cast(Any, state), 0).place(network)
    assert placed.sent_to == torch.device(device)
    assert placed.weight.is_contiguous(memory_format=torch.channels_last) == is_channels_last
    assert placed.weight.is_contiguous() != is_channels_last
