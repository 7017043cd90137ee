import dataclasses
import logging
import multiprocessing
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.utils.data import Dataset

from misc.command_line import end_process
from misc.errors import UserError
from misc.runtime import ReportedByMain, Runtime, make_runtime
from misc.signals import Terminated
from misc.training import Batch, BatchPlan, Checkpoints, Draw, Learning, PolySgd, train
from misc.training.loop import Trained


class Points(Dataset[Batch]):
    """Points whose coordinates depend on epoch and index alone."""

    def __getitem__(self, draw: Draw) -> Batch:
        if draw[1] == 99:
            raise UserError("No image 99.")
        generator = torch.Generator().manual_seed(1000 * draw[0] + draw[1])
        return {"x": torch.rand(3, generator=generator), "index": torch.tensor(draw[1])}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def square_loss(module: nn.Module, batch: Batch) -> Tensor:
    return (module(batch["x"]) - 1).square().mean()


def loss_that(happen: Callable[[], Tensor], at_call: int) -> Callable[[nn.Module, Batch], Tensor]:
    """The square loss, but for one call."""
    calls = 0

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return happen() if calls == at_call else square_loss(module, batch)

    return loss


def interrupt() -> Tensor:
    raise KeyboardInterrupt


def become_nan() -> Tensor:
    return torch.tensor(float("nan"), requires_grad=True)


@pytest.fixture
def runtime() -> Runtime:
    return make_runtime("cpu", "fp32", 0)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """After every update, as 0 seconds are always over."""
    return Checkpoints(tmp_path / "checkpoint", 0)


def fit(
    runtime: Runtime,
    module: nn.Module,
    checkpoints: Checkpoints,
    *,
    plan: BatchPlan | None = None,
    loss_of: Callable[[nn.Module, Batch], Tensor] = square_loss,
    **options: Any,
) -> Trained:
    plan = plan or BatchPlan(20, 4, 2, seed=5)
    optimizer = PolySgd(
        module.parameters(), lr=0.1, weight_decay=1e-4, momentum=0.9, max_step=plan.num_steps
    )
    learning = Learning(module, optimizer, Points(), plan, loss_of, **options)
    return train(runtime, learning, checkpoints, desc="fit")


def assert_same_bits(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize(
    ("num_images", "batch_size", "sizes"),
    [
        (12, 4, {4: 3}),
        (10, 4, {3: 2, 4: 1}),
        (7, 7, {7: 1}),
        (3, 16, {3: 1}),
        (30, 16, {15: 2}),
        (63, 4, {3: 1, 4: 15}),
        (67, 4, {4: 16}),
        (5, 1, {1: 5}),
    ],
)
def test_a_small_epoch_shows_every_image_and_a_large_one_only_whole_batches(
    num_images: int, batch_size: int, sizes: dict[int, int]
) -> None:
    plan = BatchPlan(num_images, batch_size, 3, seed=5)
    assert plan.steps_per_epoch == sum(sizes.values())
    assert plan.num_steps == 3 * plan.steps_per_epoch
    assert (plan.least_batch, plan.batch_size) == (min(sizes), max(sizes))
    for epoch in range(3):
        first = epoch * plan.steps_per_epoch
        batches = [plan.draws(first + step) for step in range(plan.steps_per_epoch)]
        assert Counter(map(len, batches)) == sizes
        draws = [draw for batch in batches for draw in batch]
        assert {epoch for epoch, _ in draws} == {epoch}
        indices = {index for _, index in draws}
        assert len(indices) == len(draws) == sum(size * n for size, n in sizes.items())
        assert indices <= set(range(num_images))


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    plan = BatchPlan(50, 50, 2, seed=5)
    orders = [plan.draws(0), plan.draws(1), BatchPlan(50, 50, 2, seed=6).draws(0)]
    assert len({tuple(index for _, index in order) for order in orders}) == 3
    assert BatchPlan(50, 50, 2, seed=5).draws(1) == plan.draws(1)


def test_a_plan_of_steps_goes_through_as_many_epochs_as_it_takes() -> None:
    plan = BatchPlan.of_steps(10, 4, 5, seed=5)
    assert plan.num_steps == 5
    assert [plan.draws(step)[0][0] for step in range(5)] == [0, 0, 0, 1, 1]
    assert plan.draws(1) == BatchPlan(10, 4, 3, seed=5).draws(1)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_parts_of_all_processes_make_the_batch(world_size: int) -> None:
    plan = BatchPlan(20, 4, 1, seed=5)
    for step in range(plan.num_steps):
        parts = []
        for rank in range(world_size):
            state = SimpleNamespace(process_index=rank, num_processes=world_size)
            parts += Runtime(cast(Any, state), 0).shard(plan.draws(step))
        assert sorted(parts) == sorted(plan.draws(step))


def test_training_lowers_the_loss_and_says_so(runtime: Runtime, checkpoints: Checkpoints) -> None:
    losses = []

    def noted_loss(module: nn.Module, batch: Batch) -> Tensor:
        loss = square_loss(module, batch)
        losses.append(loss.item())
        return loss

    steps, loss, stop = fit(runtime, network(), checkpoints, loss_of=noted_loss)
    assert not stop.is_asked
    assert steps == len(losses) == 10
    assert loss == pytest.approx(sum(losses[-5:]) / 5)
    assert loss < 0.5 * losses[0]


def test_each_update_is_that_of_its_own_batch(runtime: Runtime, checkpoints: Checkpoints) -> None:
    """As by hand: no gradient of an earlier batch is in it."""
    trained, by_hand, plan = network(), network(), BatchPlan(6, 2, 2, 5)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    learning = Learning(trained, optimizer, Points(), plan, square_loss)
    train(runtime, learning, checkpoints, desc="test")
    for step in range(plan.num_steps):
        x = torch.stack([Points()[draw]["x"] for draw in plan.draws(step)])
        gradients = torch.autograd.grad(square_loss(by_hand, {"x": x}), [*by_hand.parameters()])
        with torch.no_grad():
            for parameter, gradient in zip(by_hand.parameters(), gradients, strict=True):
                parameter.sub_(0.1 * gradient)
    for one, other in zip(trained.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_batches_are_those_of_the_plan(runtime: Runtime, checkpoints: Checkpoints) -> None:
    seen = []

    def noted_loss(module: nn.Module, batch: Batch) -> Tensor:
        seen.append(batch["index"].tolist())
        return square_loss(module, batch)

    plan = BatchPlan(20, 4, 2, seed=5)
    fit(runtime, network(), checkpoints, plan=plan, loss_of=noted_loss)
    assert seen == [[index for _, index in plan.draws(step)] for step in range(plan.num_steps)]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stopped_at", [2, 4, 8, 10])
def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(
    runtime: Runtime, checkpoints: Checkpoints, stopped_at: int, accumulate: int
) -> None:
    unbroken, stopped, resumed = network(), network(), network(seed=1)
    elsewhere = dataclasses.replace(checkpoints, path=checkpoints.path.with_name("elsewhere"))
    fit(runtime, unbroken, elsewhere, accumulate=accumulate)
    with pytest.raises(KeyboardInterrupt):
        fit(
            runtime,
            stopped,
            checkpoints,
            accumulate=accumulate,
            loss_of=loss_that(interrupt, stopped_at),
        )
    kept = (stopped_at - 1) // accumulate * accumulate
    start = resumed if kept else network()
    assert fit(runtime, start, checkpoints, accumulate=accumulate).steps == 10 - kept
    assert_same_bits(start, unbroken)


def test_checkpoints_go_by_time(
    runtime: Runtime, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten steps of 25 s each, those after a minute and more are kept: 3, 6, 9."""
    seconds, saved = [0.0], []
    monkeypatch.setattr("misc.training.state.time.monotonic", lambda: seconds[0])
    save = torch.save

    def note(content: Any, file: Any) -> None:
        saved.append(content["step"])
        save(content, file)

    monkeypatch.setattr(torch, "save", note)

    def slow_loss(module: nn.Module, batch: Batch) -> Tensor:
        seconds[0] += 25
        return square_loss(module, batch)

    each_minute = dataclasses.replace(checkpoints, every=60)
    fit(runtime, network(), each_minute, loss_of=slow_loss)
    assert saved == [3, 6, 9]


@pytest.mark.usefixtures("stop_signals_heeded")
@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_signal_is_obeyed_after_the_update_which_is_kept(
    runtime: Runtime,
    checkpoints: Checkpoints,
    caplog: pytest.LogCaptureFixture,
    number: signal.Signals,
    raised: type[BaseException],
    accumulate: int,
) -> None:
    def ask_to_stop() -> Tensor:
        os.kill(os.getpid(), number)
        return torch.tensor(0.5, requires_grad=True)

    before = signal.getsignal(number)
    never = dataclasses.replace(checkpoints, every=1000)
    caplog.set_level(logging.INFO)
    with pytest.raises(raised):
        fit(runtime, network(), never, accumulate=accumulate, loss_of=loss_that(ask_to_stop, 5))
    kept = torch.load(checkpoints.path, weights_only=True)["step"]
    assert kept == (5 if accumulate == 1 else 6)
    assert f"fit: stopped at step {kept} of 10; a checkpoint is kept" in caplog.text
    assert signal.getsignal(number) == before
    assert fit(runtime, network(), never, accumulate=accumulate).steps == 10 - kept
    assert f"fit: resuming at step {kept} of 10" in caplog.text


@pytest.mark.usefixtures("stop_signals_heeded")
def test_a_signal_at_the_last_step_is_told_to_the_caller(
    runtime: Runtime, checkpoints: Checkpoints
) -> None:
    def ask_to_stop() -> Tensor:
        os.kill(os.getpid(), signal.SIGTERM)
        return torch.tensor(0.5, requires_grad=True)

    trained = fit(runtime, network(), checkpoints, loss_of=loss_that(ask_to_stop, 10))
    assert trained.steps == 10
    with pytest.raises(Terminated):
        trained.stop.obey()


@pytest.mark.usefixtures("stop_signals_heeded")
def test_a_second_signal_is_obeyed_at_once(runtime: Runtime, checkpoints: Checkpoints) -> None:
    def ask_twice() -> Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("goes on")

    with pytest.raises(KeyboardInterrupt):
        fit(runtime, network(), checkpoints, loss_of=loss_that(ask_twice, 3))


def overflow_at(*calls: int, stop_at: int = 0) -> Callable[[nn.Module, Batch], Tensor]:
    """The square loss, with an infinite gradient at these calls, as where fp16 overflows."""
    count = 0

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        nonlocal count
        count += 1
        if count == stop_at:
            raise KeyboardInterrupt
        value = square_loss(module, batch)
        return value + (value - value.detach()).sqrt() if count in calls else value

    return loss


def runtime_of_fp16() -> Runtime:
    """A runtime with the scaler that fp16 has on a GPU; float32 is computed in all the same."""
    runtime = make_runtime("cpu", "fp32", 0)
    runtime.accelerator.scaler = GradScaler("cpu")
    return runtime


def test_with_a_scaler_too_a_resumed_training_equals_an_unbroken_one(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    unbroken, resumed = network(), network(seed=1)
    whole, first, second = runtime_of_fp16(), runtime_of_fp16(), runtime_of_fp16()
    elsewhere = dataclasses.replace(checkpoints, path=checkpoints.path.with_name("elsewhere"))
    fit(whole, unbroken, elsewhere, loss_of=overflow_at(2, 5))
    assert "fit: 2 updates were skipped: their gradients overflowed in fp16" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        fit(first, network(), checkpoints, loss_of=overflow_at(2, 5, stop_at=8))
    assert fit(second, resumed, checkpoints).steps == 3
    assert_same_bits(resumed, unbroken)
    states = [each.accelerator.scaler.state_dict() for each in (whole, second)]
    assert states[0] == states[1]
    assert states[0]["scale"] == GradScaler("cpu").get_scale() / 4


def test_a_scaler_begins_anew_with_each_training_of_a_run(checkpoints: Checkpoints) -> None:
    runtime, scales = runtime_of_fp16(), []

    def note_scale(_update: int) -> None:
        scales.append(runtime.accelerator.scaler.get_scale())

    for name in ("first", "second"):
        own = dataclasses.replace(checkpoints, path=checkpoints.path.with_name(name))
        plan = BatchPlan(8, 4, 1, seed=5)
        fit(runtime, network(), own, plan=plan, loss_of=overflow_at(2), after_update=note_scale)
    assert scales == [65536, 32768] * 2


def test_small_batches_accumulate_to_the_update_of_a_large_one(
    runtime: Runtime, checkpoints: Checkpoints
) -> None:
    large, small = network(), network()
    never = dataclasses.replace(checkpoints, every=1000)
    fit(runtime, large, never, plan=BatchPlan(20, 4, 1, seed=5))
    plan = BatchPlan(20, 2, 1, seed=5)
    optimizer = PolySgd(
        small.parameters(), lr=0.1, weight_decay=1e-4, momentum=0.9, max_step=plan.num_steps // 2
    )
    learning = Learning(small, optimizer, Points(), plan, square_loss, accumulate=2)
    train(runtime, learning, never, desc="fit")
    assert optimizer.steps_done == 5
    for name, value in large.state_dict().items():
        np.testing.assert_allclose(small.state_dict()[name], value, rtol=1e-5)


@pytest.mark.parametrize(("stopped_after", "next_seen"), [(1, 1), (3, 3), (4, 4)])
def test_what_follows_an_update_is_never_left_out_by_a_resumed_training(
    runtime: Runtime, checkpoints: Checkpoints, stopped_after: int, next_seen: int
) -> None:
    def stop(updates: int) -> None:
        if updates == stopped_after:
            raise KeyboardInterrupt

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        fit(runtime, network(), checkpoints, after_update=stop)
    fit(runtime, network(), checkpoints, after_update=seen.append)
    assert seen == list(range(next_seen, 11))


@pytest.mark.parametrize(
    ("every", "seen"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (0, [5])]
)
def test_calls_after_updates_are_as_far_apart_as_asked_and_one_is_after_the_last(
    runtime: Runtime, checkpoints: Checkpoints, every: int, seen: list[int]
) -> None:
    calls: list[int] = []
    look: dict[str, Any] = {"after_update": calls.append, "update_every": every}
    fit(runtime, network(), checkpoints, accumulate=2, **look)
    assert calls == seen


@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_nothing_is_called_or_kept_with_a_weight_that_is_not_finite(
    runtime: Runtime, checkpoints: Checkpoints, name: str
) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    seen: list[int] = []

    def look(updates: int) -> None:
        assert all(value.isfinite().all() for value in module.state_dict().values())
        seen.append(updates)

    def spoil(module: nn.Module, batch: Batch) -> Tensor:
        is_statistic = name.endswith("running_var")
        if len(seen) == 4 and is_statistic:
            module.state_dict()[name].fill_(float("inf"))
        loss = square_loss(module, batch)
        if len(seen) == 4 and not is_statistic:
            loss = loss + (loss - loss.detach()).sqrt()  # of infinite gradient
        return loss

    with pytest.raises(UserError, match=rf"fit: {name} is not finite after step 5\. Lower"):
        fit(runtime, module, checkpoints, loss_of=spoil, after_update=look)
    assert seen == [1, 2, 3, 4]
    kept = torch.load(checkpoints.path, weights_only=True)
    assert kept["step"] == 4


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_checkpoint(
    runtime: Runtime, checkpoints: Checkpoints
) -> None:
    with pytest.raises(UserError, match=r"fit: the loss became nan at step 5.*learning rate"):
        fit(runtime, network(), checkpoints, loss_of=loss_that(become_nan, 5))
    kept = torch.load(checkpoints.path, weights_only=True)
    assert kept["step"] == 4
    assert all(value.isfinite().all() for value in kept["model"].values())


@pytest.mark.parametrize("content", [{"step": 1}, [1, 2]])
def test_what_is_not_a_checkpoint_is_refused(
    runtime: Runtime, checkpoints: Checkpoints, content: object
) -> None:
    torch.save(content, checkpoints.path)
    with pytest.raises(UserError, match="checkpoint is not a training state"):
        fit(runtime, network(), checkpoints)


def test_a_batch_too_small_for_all_processes_is_refused(checkpoints: Checkpoints) -> None:
    many = Runtime(cast(Any, SimpleNamespace(num_processes=8)), 0)
    with pytest.raises(UserError, match="batch of 4 cannot be divided among 8 processes"):
        fit(many, network(), checkpoints)


def test_evaluation_after_epochs_and_updates_does_not_end_training_mode(
    runtime: Runtime, checkpoints: Checkpoints
) -> None:
    module, calls = network(), []

    def evaluate(name: str) -> Callable[[int], None]:
        def note(count: int) -> None:
            assert module.training
            calls.append((name, count))
            module.eval()

        return note

    fit(
        runtime,
        module,
        checkpoints,
        plan=BatchPlan(8, 4, 2, seed=5),
        accumulate=2,
        after_epoch=evaluate("epoch"),
        after_update=evaluate("update"),
    )
    assert calls == [("update", 1), ("epoch", 1), ("update", 2), ("epoch", 2)]
    assert module.training


def test_reading_in_other_processes_changes_nothing(
    runtime: Runtime, checkpoints: Checkpoints
) -> None:
    inline, by_worker = network(), network()
    never = dataclasses.replace(checkpoints, every=1000)
    fit(runtime, inline, never)
    fit(dataclasses.replace(runtime, num_workers=2), by_worker, never)
    assert_same_bits(inline, by_worker)


def test_a_mistake_found_while_reading_arrives_with_its_message_alone(
    runtime: Runtime, checkpoints: Checkpoints
) -> None:
    plan = BatchPlan(100, 4, 1, seed=5)
    with pytest.raises(UserError) as caught:
        fit(dataclasses.replace(runtime, num_workers=1), network(), checkpoints, plan=plan)
    assert caught.value.message == "No image 99."


def refuse() -> None:
    raise UserError("Not so.")


def train_as_one_of_two(rank: int, port: int, out: Path) -> None:
    """One of two processes: trains, and writes what it ended with."""
    os.environ |= {
        "RANK": f"{rank}",
        "LOCAL_RANK": f"{rank}",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": f"{port}",
    }
    runtime = make_runtime("cpu", "fp32", 0)
    module = network(seed=rank)

    def share_of_loss(module: nn.Module, batch: Batch) -> Tensor:
        return square_loss(module, batch) / 2

    trained = fit(runtime, module, Checkpoints(out / "c", 0), loss_of=share_of_loss)
    try:
        refused = runtime.on_main(refuse)
    except UserError as error:
        refused = cast(Any, type(error).__name__)
    result = {
        "model": module.state_dict(),
        "loss": trained.loss,
        "total": runtime.sum_over_processes(torch.tensor([rank + 1])),
        "agreed": runtime.on_main(lambda: f"said by {rank}"),
        "refused": refused,
    }
    torch.save(result, out / f"{rank}.pth")
    end_process(0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes, started as torchrun does, ended with."""
    out = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=train_as_one_of_two, args=(r, port, out)) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    return [torch.load(out / f"{rank}.pth", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_train_the_network_of_one(
    results: list[dict[str, Any]], runtime: Runtime, checkpoints: Checkpoints
) -> None:
    module = network()
    loss = fit(runtime, module, checkpoints).loss
    for result in results:
        assert result["loss"] == pytest.approx(loss)
        for name, value in module.state_dict().items():
            np.testing.assert_allclose(result["model"][name], value, rtol=1e-5)


@pytest.mark.slow
def test_two_processes_add_up_and_agree(results: list[dict[str, Any]]) -> None:
    assert [result["total"].tolist() for result in results] == [[3], [3]]
    assert [result["agreed"] for result in results] == ["said by 0", "said by 0"]


def test_a_mistake_of_the_main_process_ends_both(results: list[dict[str, Any]]) -> None:
    assert [result["refused"] for result in results] == ["UserError", ReportedByMain.__name__]
