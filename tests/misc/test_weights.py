import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from misc.errors import UserError
from misc.weights import (
    load_strictly,
    load_weights,
    read_state_dict,
    read_torch_file,
    save_weights,
    write_torch_file,
)
from tests.helpers.pretended_device import pretending


def small_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


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


def test_a_weight_under_two_names_must_be_one_weight() -> None:
    network = small_network()
    state = dict(small_network().state_dict())
    state |= {f"module.{key}": value + 1 for key, value in state.items() if key == "1.bias"}
    with pytest.raises(UserError, match=r"module\.1\.bias differs from 1\.bias, but both are"):
        load_strictly(network, state, source="some.pth")
    state["module.1.bias"] = state["1.bias"].clone()
    load_strictly(network, state, source="some.pth")
    assert torch.equal(network.state_dict()["1.bias"], state["1.bias"])


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


def test_what_lies_on_a_device_is_written_as_the_cpus(tmp_path: Path) -> None:
    weight = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last)
    with pretending() as record:
        for name, each in (("cpu", weight), ("device", weight.to(record.device))):
            state = {"model": {"w": each}, "optimizer": {"state": {0: [each + 1, (each.sum(), 2)]}}}
            write_torch_file(state, tmp_path / name)
    assert (tmp_path / "device").read_bytes() == (tmp_path / "cpu").read_bytes()
    read = read_torch_file(tmp_path / "device")
    assert read["model"]["w"].tolist() == weight.tolist()
    assert read["optimizer"]["state"][0][1][1] == 2
