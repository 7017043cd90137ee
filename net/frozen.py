"""A backbone that does not learn, run without its batch norms."""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.fusion import fuse_conv_bn_weights

from net.backbone import Backbone


class FoldedBackbone:
    """Runs a backbone with each batch norm folded into the convolution before it.

    A norm by stored statistics is one scale and one shift per channel, so the scale goes into the
    weights and the shift becomes a bias: a sixth less work, equal up to float rounding. The folded
    weights are made in the first pass and again whenever the backbone's change.

    Args:
        backbone: in eval mode; not registered or changed here.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._pairs = _norms_after_convolutions(backbone)
        self._weights: dict[str, Tensor] = {}
        self._made_from: list[tuple[int, int]] = []
        # Tells what to compute in which order; its weights take no memory.
        self._outline = copy.deepcopy(backbone).to("meta")
        for conv_name, norm_name in self._pairs:
            conv = _convolution(self._outline, conv_name)
            conv.bias = nn.Parameter(torch.empty(conv.out_channels, device="meta"))
            parent, _, name = norm_name.rpartition(".")
            setattr(self._outline.get_submodule(parent), name, nn.Identity())

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        """Normalised images (B,3,H,W) to the outputs of the five stages, without gradients."""
        if not self._pairs:
            return self._backbone(x)
        state = self._backbone.state_dict()
        # Where a tensor lies and how often it was written to tell whether it is the same still.
        made_from = [(tensor.data_ptr(), tensor._version) for tensor in state.values()]
        if made_from != self._made_from:
            self._weights, self._made_from = self._fold(state), made_from
        return functional_call(self._outline, self._weights, (x,))

    def _fold(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the outline from those of the backbone."""
        norms = {norm for _, norm in self._pairs}
        weights = {k: tensor for k, tensor in state.items() if k.rpartition(".")[0] not in norms}
        for conv_name, norm_name in self._pairs:
            conv = _convolution(self._backbone, conv_name)
            norm = self._backbone.get_submodule(norm_name)
            assert isinstance(norm, nn.BatchNorm2d)
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None
            assert variance is not None
            weights[f"{conv_name}.weight"], weights[f"{conv_name}.bias"] = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
            )
        return weights


def _convolution(network: nn.Module, name: str) -> nn.Conv2d:
    module = network.get_submodule(name)
    assert isinstance(module, nn.Conv2d)
    return module


def _norms_after_convolutions(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution that a batch norm follows, and of that batch norm.

    In torchvision's networks such two stand side by side, in the order in which they run.
    """
    pairs = []
    for path, module in network.named_modules():
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                prefix = f"{path}." if path else ""
                pairs.append((prefix + conv_name, prefix + norm_name))
    return pairs
