from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from net.backbone import build_backbone
from net.boundary import BoundaryNetwork
from tests.net.recordings import NETWORK_TOLERANCES, relative_error


@pytest.fixture(scope="module")
def recorded_boundary(fill_by_name: Callable[[nn.Module], None]) -> BoundaryNetwork:
    network = BoundaryNetwork(build_backbone("resnet50", fixed_batch_norm=True))
    fill_by_name(network)
    return network.eval()


@pytest.mark.parametrize("size", ["64x64", "93x125", "97x66"])
@pytest.mark.parametrize("dtype", NETWORK_TOLERANCES, ids=str)
def test_boundaries_are_the_recorded_ones(
    recorded_boundary: BoundaryNetwork,
    recorded_networks: dict[str, np.ndarray],
    size: str,
    dtype: torch.dtype,
) -> None:
    network = deepcopy(recorded_boundary).to(dtype)
    x = torch.from_numpy(recorded_networks[f"{size}/input"]).to(dtype)
    with torch.no_grad():
        probability = torch.sigmoid(network(x))
        of_pair = network.boundary_of_pair(torch.stack([x[0], x[0].flip(-1)]))
    at_most = NETWORK_TOLERANCES[dtype]
    assert relative_error(probability, recorded_networks[f"{size}/boundary_forward"]) <= at_most
    assert relative_error(of_pair, recorded_networks[f"{size}/boundary_infer"][0]) <= at_most


def test_trained_parameters_are_the_references(
    recorded_boundary: BoundaryNetwork, reference_state: Callable[[str], dict]
) -> None:
    reference = reference_state("boundary")
    names = [n for n, p in recorded_boundary.named_parameters() if p.requires_grad]
    shapes = [list(p.shape) for p in recorded_boundary.parameters_to_train()]
    assert shapes == reference["trainable_parameters"]
    recorded = {name: shape for name, shape, _ in reference["named_parameters"]}
    assert shapes == [recorded[name] for name in names]


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0"])
def test_channels_and_strides_come_from_the_backbone(name: str) -> None:
    network = BoundaryNetwork(build_backbone(name, fixed_batch_norm=True))
    with torch.no_grad():
        assert network(torch.randn(1, 3, 65, 81)).shape == (1, 1, 17, 21)


def test_an_ordinary_batch_norm_stays_in_eval_mode_while_the_head_trains() -> None:
    network = BoundaryNetwork(build_backbone("resnet18", fixed_batch_norm=False))
    before = {k: v.clone() for k, v in network.backbone.state_dict().items()}
    assert network.train() is network
    assert network.fc_edge1.training
    assert not any(module.training for module in network.backbone.modules())
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_backbone_keeps_nothing_for_a_backward_pass() -> None:
    network = BoundaryNetwork(build_backbone("resnet18", fixed_batch_norm=True)).train()
    kept: list[torch.Size] = []

    def record(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        logits = network(torch.randn(1, 3, 64, 64))
    logits.sum().backward()
    assert all(p.grad is None for p in network.backbone.parameters())
    assert all(p.grad is not None for p in network.parameters_to_train())
    backbone_weights = {p.shape for p in network.backbone.parameters() if p.dim() == 4}
    assert kept
    assert not backbone_weights & set(kept)
