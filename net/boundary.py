"""The network that learns where objects end, from synthesised boundary labels."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net.backbone import Backbone, legacy_backbone_names
from net.frozen import FoldedBackbone

SIDE_CHANNELS = 32
NORM_GROUPS = 4
OUTPUT_STAGE = 1


class BoundaryNetwork(nn.Module):
    """Five side branches on a frozen backbone, fused into one boundary logit per pixel at stride 4.

    Args:
        backbone: taken over: frozen, and in eval mode whatever mode the network is in.
    """

    LEGACY_NAMES: ClassVar[Mapping[str, str | None]] = {
        # The ancestors' displacement head left this buffer behind; no boundary depends on it.
        "mean_shift": None,
        **{f"edge_layers.{i}": f"fc_edge{i + 1}" for i in range(6)},
        **legacy_backbone_names(
            [{0: "conv1", 1: "bn1"}, {0: "layer1"}, {0: "layer2"}, {0: "layer3"}, {0: "layer4"}]
        ),
    }

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.frozen_backbone = FoldedBackbone(self.backbone)
        self.fc_edge1 = _side_branch(backbone.channels[0])
        self.fc_edge2 = _side_branch(backbone.channels[1])
        self.fc_edge3 = _side_branch(backbone.channels[2])
        self.fc_edge4 = _side_branch(backbone.channels[3])
        self.fc_edge5 = _side_branch(backbone.channels[4])
        self.fc_edge6 = nn.Conv2d(5 * SIDE_CHANNELS, 1, 1)
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "BoundaryNetwork":
        """Switch the side branches; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B,3,H,W) to boundary logits (B,1,ceil(H/4),ceil(W/4))."""
        # No gradients, but not inference_mode: the side branches keep these features for their own
        # backward pass.
        features = self.frozen_backbone(x)
        branches = (self.fc_edge1, self.fc_edge2, self.fc_edge3, self.fc_edge4, self.fc_edge5)
        sides = [branch(feature) for branch, feature in zip(branches, features, strict=True)]
        return self.fc_edge6(torch.cat(self._at_one_size(sides), dim=1))

    def _at_one_size(self, sides: list[Tensor]) -> list[Tensor]:
        """Stretch every side branch to stage 1's size, then apply the ReLU (in this order)."""
        height, width = sides[OUTPUT_STAGE].shape[2:]
        resized = []
        for side, stride in zip(sides, self.backbone.strides, strict=True):
            factor = stride // self.backbone.strides[OUTPUT_STAGE]
            if factor > 1:
                side = F.interpolate(
                    side, scale_factor=factor, mode="bilinear", align_corners=False
                )
            resized.append(F.relu(side[:, :, :height, :width]))
        return resized

    def boundary_of_pair(self, x_pair: Tensor) -> Tensor:
        """An image and its mirror image (2,3,H,W) to boundary probabilities (h,w) at stride 4."""
        logits = self(x_pair)[:, 0].float()
        return torch.sigmoid((logits[0] + logits[1].flip(-1)) / 2)

    def parameters_to_train(self) -> list[nn.Parameter]:
        """The parameters of the side branches and of their fusion."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def _side_branch(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, SIDE_CHANNELS, 1, bias=False), nn.GroupNorm(NORM_GROUPS, SIDE_CHANNELS)
    )
