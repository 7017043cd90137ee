import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.amp import GradScaler

from misc.checkpoint import (
    load_strictly,
    load_training_state,
    load_weights,
    read_state_dict,
    save_training_state,
    save_weights,
)
from misc.errors import UserError
from misc.optim import PolySgd

CONFIG = {"seed": 5, "backbone": "resnet18", "scales": [1.0, 0.5], "sal_root": None}


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def optimizer_of(network: nn.Module) -> PolySgd:
    return PolySgd(network.parameters(), lr=0.1, weight_decay=1e-4, max_step=10, momentum=0.9)


def take_steps(network: nn.Module, optimizer: PolySgd, first: int, last: int) -> None:
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        network(torch.rand(2, 3, 4, 4, generator=generator)).square().mean().backward()
        optimizer.step()


def assert_same_weights(network: nn.Module, other: nn.Module) -> None:
    states = network.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


def test_weights_come_back_as_they_were(tmp_path: Path) -> None:
    network, other = small_network(), small_network()
    network(torch.rand(2, 3, 4, 4))
    save_weights(network, tmp_path / "made" / "weights.pth")
    load_weights(other, tmp_path / "made" / "weights.pth")
    assert_same_weights(network, other)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["weights.pth"]


def test_the_same_weights_make_the_same_bytes(tmp_path: Path) -> None:
    network = small_network()
    for name in ("one.pth", "another.pth"):
        save_weights(network, tmp_path / name)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "another.pth").read_bytes()


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    network = small_network()
    save_weights(network, path)

    def write_half(_content: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", write_half)
    with pytest.raises(KeyboardInterrupt):
        save_weights(small_network(), path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pth"]
    other = small_network()
    load_weights(other, path)
    assert_same_weights(network, other)


def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = small_network()
    torch.nn.init.constant_(unbroken[0].weight, 0.5)  # type: ignore[arg-type]
    start = {k: v.clone() for k, v in unbroken.state_dict().items()}
    optimizer = optimizer_of(unbroken)
    take_steps(unbroken, optimizer, 0, 7)

    first = small_network()
    first.load_state_dict(start)
    optimizer = optimizer_of(first)
    take_steps(first, optimizer, 0, 3)
    path = tmp_path / "state.pth"
    save_training_state(path, model=first, optimizer=optimizer, step=3, config=CONFIG)

    second = small_network()
    optimizer = optimizer_of(second)
    step = load_training_state(path, model=second, optimizer=optimizer, config=dict(CONFIG))
    assert step == optimizer.steps_done == 3
    take_steps(second, optimizer, step, 7)
    assert_same_weights(second, unbroken)


@pytest.mark.parametrize("had_scaler", [True, False])
def test_a_scalers_state_comes_back_and_earlier_files_without_one_are_taken(
    tmp_path: Path, had_scaler: bool
) -> None:
    network, path = small_network(), tmp_path / "state.pth"
    optimizer = optimizer_of(network)
    scaler = GradScaler("cpu", init_scale=8.0) if had_scaler else None
    save_training_state(
        path, model=network, optimizer=optimizer, scaler=scaler, step=1, config=CONFIG
    )
    assert ("scaler" in torch.load(path, weights_only=True)) == had_scaler
    fresh = GradScaler("cpu", init_scale=4.0)
    load_training_state(path, model=network, optimizer=optimizer, scaler=fresh, config=CONFIG)
    assert fresh.get_scale() == (8.0 if had_scaler else 4.0)


def test_other_settings_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    network, path = small_network(), tmp_path / "state.pth"
    save_training_state(path, model=network, optimizer=optimizer_of(network), step=1, config=CONFIG)
    other = small_network()
    before = {k: v.clone() for k, v in other.state_dict().items()}
    changed = {**CONFIG, "seed": 6, "crop": 512}
    with pytest.raises(UserError) as error:
        load_training_state(path, model=other, optimizer=optimizer_of(other), config=changed)
    assert "crop was None, is 512; seed was 5, is 6" in str(error.value)
    assert "backbone" not in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())


def test_weights_are_no_training_state_and_the_other_way_round(tmp_path: Path) -> None:
    network, path = small_network(), tmp_path / "file.pth"
    save_weights(network, path)
    with pytest.raises(UserError, match="is no training state"):
        load_training_state(path, model=network, optimizer=optimizer_of(network), config={})
    save_training_state(path, model=network, optimizer=optimizer_of(network), step=1, config={})
    with pytest.raises(UserError, match="holds no weights"):
        load_weights(network, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No weights at .*absent\.pth"):
        load_weights(small_network(), tmp_path / "absent.pth")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_an_empty_or_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "weights.pth"
    save_weights(small_network(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"Cannot read weights from .*weights\.pth"):
        load_weights(small_network(), path)


class _Trap:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    for write in (
        lambda: torch.save(_Trap(), path),
        lambda: path.write_bytes(pickle.dumps(_Trap())),
    ):
        write()
        with pytest.raises(UserError, match="Cannot read weights"):
            load_weights(small_network(), path)
        assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_other_content_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="holds no weights"):
        read_state_dict(tmp_path / "weights.pth")


def test_each_kind_of_misfit_is_named_and_the_network_unchanged() -> None:
    network = small_network()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = dict(small_network().state_dict())
    del state["1.bias"]
    state["0.weight"] = torch.zeros(7, 3, 1, 1)
    state["2.weight"] = torch.zeros(1)
    with pytest.raises(UserError) as error:
        load_strictly(network, state, source="some.pth")
    for problem in (
        "some.pth",
        "missing: 1.bias (4,)",
        "0.weight is (7, 3, 1, 1), not (4, 3, 1, 1)",
        "unknown: 2.weight",
    ):
        assert problem in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_many_misfits_are_counted() -> None:
    with pytest.raises(UserError, match=r"and 1 more\."):
        load_strictly(small_network(), {}, source="empty.pth")


def test_a_data_parallel_prefix_is_taken_off() -> None:
    network, other = small_network(), small_network()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    load_strictly(other, state, source="parallel.pth")
    assert_same_weights(network, other)


def test_files_older_than_the_batch_counter_load() -> None:
    network, other = small_network(), small_network()
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    load_strictly(other, state, source="old.pth")
    assert_same_weights(network, other)
