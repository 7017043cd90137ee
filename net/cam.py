"""The tag classifier whose class activation maps everything else starts from."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from misc.cam_files import MAX_EPSILON, padded_size, stride4_size
from net.backbone import Backbone, legacy_backbone_names
from net.frozen import FoldedBackbone

ATTENTION_TEMPERATURE = 1e-3
TRAIN_FROM = 3


class CamClassifier(nn.Module):
    """Backbone, attention pooling, one linear score per class.

    Args:
        backbone: taken over, and its stages before `train_from` frozen.
        num_classes: foreground classes C.
        train_from: first stage (0 is the stem) that learns; 5 trains the classifier alone. The
            reference detaches the features after layer2; to freeze up to there is the same, and
            leaves no parameter waiting for a gradient. From scratch: 0.
    """

    LEGACY_NAMES: ClassVar[Mapping[str, str | None]] = {
        "newly_added.0": "classifier",
        **legacy_backbone_names(
            [{0: "conv1", 1: "bn1", 4: "layer1"}, {0: "layer2"}, {0: "layer3"}, {0: "layer4"}]
        ),
    }

    def __init__(
        self, backbone: Backbone, num_classes: int, *, train_from: int = TRAIN_FROM
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen_backbone = FoldedBackbone(backbone)
        self.classifier = nn.Conv2d(backbone.channels[-1], num_classes, 1, bias=False)
        for index in range(train_from):
            for module in backbone.stage(index):
                module.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B,3,H,W) to class scores (B,C), before any sigmoid."""
        features = self.backbone(x)[-1]
        pooled = attention_pool(features)
        return self.classifier(pooled).flatten(1)

    def activation_maps(self, x: Tensor) -> Tensor:
        """Normalised images (B,3,H,W) to class maps (B,C,h,w) >= 0, without the attention.

        As of a classifier in eval mode, and without gradients for its backbone.
        """
        features = self.frozen_backbone(x)[-1]
        return F.relu(self.classifier(features))

    def cams_of_pair(self, x_pair: Tensor) -> Tensor:
        """An image and its mirror image (2,3,H,W) to the sum of both maps (C,h,w), unmirrored.

        Float32 under autocast too, where the sum would be rounded once more.
        """
        maps = self.activation_maps(x_pair).float()
        return maps[0] + maps[1].flip(-1)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The parameters of the backbone (frozen ones included) and of the classifier."""
        return list(self.backbone.parameters()), list(self.classifier.parameters())


def attention_pool(features: Tensor) -> Tensor:
    """Average (B,D,h,w) to (B,D,1,1), weighted by a gentle spatial softmax without gradient."""
    weights = torch.softmax(ATTENTION_TEMPERATURE * features.detach().flatten(2), dim=2)
    weights = weights.view_as(features) * (features.shape[2] * features.shape[3])
    return (features * weights).mean(dim=(2, 3), keepdim=True)


def combine_scales(
    maps: Sequence[Tensor], image_size: tuple[int, int], class_ids: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """One image's maps of all scales to its class activation maps.

    Args:
        maps: (C,h_s,w_s) of each scale, >= 0, as `CamClassifier.cams_of_pair` gives them.
        image_size: (H,W) of the image at scale 1.
        class_ids: the K classes present, 1-based.

    Returns:
        cam (K,h,w) at stride 4, h = (H-1)//4 + 1, and high_res (K,H,W), float32; each class in
        0..1, divided by its own maximum.
    """
    height, width = image_size
    wanted = torch.tensor(class_ids, dtype=torch.long) - 1
    chosen = wanted.to(maps[0].device, non_blocking=True)  # a GPU is not waited for
    present = [scale.index_select(0, chosen).float() for scale in maps]
    small = _sum_resized(present, stride4_size(image_size))
    large = _sum_resized(present, padded_size(image_size))
    return _divide_by_maximum(small), _divide_by_maximum(large[:, :height, :width])


def _sum_resized(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    total = maps[0].new_zeros(maps[0].shape[0], *size)
    if len(total):
        for scale in maps:
            total += F.interpolate(scale[None], size, mode="bilinear", align_corners=False)[0]
    return total


def _divide_by_maximum(maps: Tensor) -> Tensor:
    return maps / (maps.amax(dim=(1, 2), keepdim=True) + MAX_EPSILON)
