"""Checkpoints of the reference and its ancestors hold each weight two or three times."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from misc.errors import UserError
from misc.weights import load_weights
from net.backbone import build_backbone
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier

State = dict[str, torch.Tensor]


def make_network(which: str) -> nn.Module:
    backbone = build_backbone("resnet50", fixed_batch_norm=True)
    return CamClassifier(backbone, 20) if which == "cam" else BoundaryNetwork(backbone)


@pytest.fixture(scope="module", params=["cam", "boundary"])
def network(request: pytest.FixtureRequest) -> nn.Module:
    return make_network(request.param)


@pytest.fixture(scope="module")
def state(network: nn.Module, reference_state: Callable[[str], dict]) -> State:
    """A checkpoint of random weights with the recorded keys, shapes and aliases."""
    reference = reference_state("cam" if isinstance(network, CamClassifier) else "boundary")
    assert len(reference["keys"]) == reference["n_keys"]
    state: State = {}
    for key, shape, dtype in reference["keys"]:
        if key in reference["alias_of"]:
            continue
        state[key] = torch.rand(shape) if dtype == "torch.float32" else torch.tensor(7)
    state.update({alias: state[key] for alias, key in reference["alias_of"].items()})
    if "fc_edge6.bias" in state:
        # The record lists no alias of a tensor with one element.
        state["edge_layers.5.bias"] = state["fc_edge6.bias"]
    assert set(state) == {key for key, _, _ in reference["keys"]}
    return state


def canonical(name: str) -> str:
    return name.replace("backbone.", "resnet50.", 1)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_parameter_comes_from_the_file(
    network: nn.Module, state: State, tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "reference.pth"
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, path)
    load_weights(network, path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[canonical(name)]), name


def test_one_set_of_names_is_enough(network: nn.Module, state: State, tmp_path: Path) -> None:
    path = tmp_path / "stages_only.pth"
    dropped = ("resnet50.", "backbone.", "newly_added.", "edge_layers.")
    torch.save({k: v for k, v in state.items() if not k.startswith(dropped)}, path)
    load_weights(network, path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[canonical(name)]), name


def test_aliases_that_disagree_are_refused(
    network: nn.Module, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "torn.pth"
    torch.save({**state, "stage1.0.weight": state["stage1.0.weight"] + 1}, path)
    with pytest.raises(UserError, match=r"both are backbone\.conv1\.weight"):
        load_weights(network, path)


def test_unknown_and_missing_keys_are_named(
    network: nn.Module, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save({**state, "fc_dp1.0.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"unknown: fc_dp1\.0\.weight"):
        load_weights(network, path)
    lacking = {k: v for k, v in state.items() if not k.endswith(("4.2.bn3.bias", "0.2.bn3.bias"))}
    assert len(lacking) < len(state)
    torch.save(lacking, path)
    with pytest.raises(UserError, match=r"missing: backbone\.layer4\.2\.bn3\.bias"):
        load_weights(network, path)


def test_the_network_of_the_other_step_is_refused(state: State, tmp_path: Path) -> None:
    path = tmp_path / "swapped.pth"
    torch.save(state, path)
    other = make_network("boundary" if "classifier.weight" in state else "cam")
    with pytest.raises(UserError, match="unknown"):
        load_weights(other, path)
