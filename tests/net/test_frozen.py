import copy

import pytest
import torch
from torch import Tensor

from net.backbone import Backbone, build_backbone
from net.frozen import FoldedBackbone


def frozen(name: str, *, fixed_batch_norm: bool = True) -> Backbone:
    """A backbone whose batch norms do something: their numbers are drawn."""
    torch.manual_seed(0)
    backbone = build_backbone(name, fixed_batch_norm=fixed_batch_norm).requires_grad_(False).eval()
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert isinstance(tensor, Tensor)
                tensor.uniform_(0.5, 1.5)
    return backbone


def greatest_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Over the stages, in units of the stage's largest value."""
    assert [each.shape for each in found] == [each.shape for each in expected]
    pairs = zip(found, expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("fixed_batch_norm", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_are_the_backbones(name: str, fixed_batch_norm: bool) -> None:
    backbone = frozen(name, fixed_batch_norm=fixed_batch_norm)
    x = torch.randn(2, 3, 37, 50)
    assert greatest_error(FoldedBackbone(backbone)(x), backbone(x)) < 1e-5


def test_a_network_without_batch_norm_runs_as_it_is() -> None:
    backbone = frozen("squeezenet1_0")
    x = torch.randn(1, 3, 40, 40)
    assert greatest_error(FoldedBackbone(backbone)(x), backbone(x)) == 0


def test_weights_that_change_later_count() -> None:
    backbone = frozen("resnet18")
    folded = FoldedBackbone(backbone)
    x = torch.randn(1, 3, 40, 40)
    before = folded(x)[-1]
    assert isinstance(backbone.bn1, torch.nn.BatchNorm2d)
    backbone.bn1.weight.mul_(2)
    assert not torch.equal(folded(x)[-1], before)
    assert greatest_error(folded(x), backbone(x)) < 1e-5


def test_the_backbone_is_left_alone() -> None:
    backbone = frozen("resnet18")
    state = copy.deepcopy(backbone.state_dict())
    features = FoldedBackbone(backbone)(torch.randn(1, 3, 40, 40))
    assert not any(each.requires_grad for each in features)
    assert backbone.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())
