"""DeepLab-v2: a backbone at output stride 8, four dilated branches, several scales."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from misc.transforms import IMAGENET_MEAN, IMAGENET_STD
from net.backbone import Backbone, FixedBatchNorm2d

ASPP_RATES = (6, 12, 18, 24)
ASPP_STD = 0.01
OUTPUT_STRIDE = 8
PYRAMID = (1.0, 0.75, 0.5)
CAFFE_MEAN = (122.675, 116.669, 104.008)
"""Red, green and blue (0..255) that Caffe's weights take as zero."""


class ParameterGroups(NamedTuple):
    """What trains at the base rate, at ten and at twenty times it (the last without decay)."""

    backbone: list[nn.Parameter]
    aspp_weights: list[nn.Parameter]
    aspp_biases: list[nn.Parameter]


class Aspp(nn.Module):
    """The sum of 3x3 convolutions at several dilation rates; each goes straight to class logits."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        for index, rate in enumerate(ASPP_RATES):
            branch = nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate)
            nn.init.normal_(branch.weight, std=ASPP_STD)
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]
            self.add_module(f"c{index}", branch)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B,D,h,w) to logits (B,C,h,w)."""
        first, *others = [branch(features) for branch in self.children()]
        for other in others:
            first = first + other
        return first


class DeepLabV2(nn.Module):
    """Class logits at stride 8.

    Attributes:
        is_caffe: whether the weights are Caffe's (deeplab-pytorch's): their stride is in the first
            1x1 convolution of a bottleneck, and they take another mean as zero.
        zero: what the weights take as zero, (3,1,1) in the units of normalised images: 0 for
            torchvision's. Convolutions pad with it, and so should crops.

    Args:
        backbone: taken over and dilated. Batch norm with fixed statistics is frozen altogether, its
            affine weights too, as in every DeepLab-v2.
        num_classes: classes C, background included.
    """

    zero: Tensor

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = Aspp(backbone.channels[-1], num_classes)
        self.register_buffer("zero", torch.zeros(3, 1, 1), persistent=False)
        self.arrange(is_caffe=False)
        for module in backbone.modules():
            if isinstance(module, FixedBatchNorm2d):
                module.requires_grad_(False)

    def arrange(self, *, is_caffe: bool) -> None:
        """Set strides, dilations and zero as the backbone's weights expect them; see `dilate`."""
        dilate(self.backbone, stride_in_1x1=is_caffe)
        self.is_caffe = is_caffe
        self.zero.copy_(caffe_zero() if is_caffe else torch.zeros(3, 1, 1))

    def get_extra_state(self) -> Tensor:
        """What the state dict holds beside weights: whether they are Caffe's."""
        return torch.tensor(self.is_caffe)

    def set_extra_state(self, state: Tensor) -> None:
        """Arrange everything as the loaded weights were trained with."""
        self.arrange(is_caffe=bool(state))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B,3,H,W) to logits (B,C,h,w).

        h = ceil(H/8), and one more for ResNets if H or H+1 is a multiple of 8; see `dilate`.
        """
        return self.aspp(self.backbone(x - self.zero if self.is_caffe else x)[-1])

    def parameter_groups(self) -> ParameterGroups:
        """The parameters that learn."""
        learning = [p for p in self.backbone.parameters() if p.requires_grad]
        named = list(self.aspp.named_parameters())
        weights = [p for name, p in named if name.endswith("weight")]
        biases = [p for name, p in named if name.endswith("bias")]
        return ParameterGroups(learning, weights, biases)


class MultiScale(nn.Module):
    """One network on an image at several scales; in eval mode the largest logit counts.

    Args:
        network: from images (B,3,H,W) to logits (B,C,h,w).
        scales: the maximum has the logit size of the largest.
    """

    def __init__(self, network: nn.Module, scales: Sequence[float] = PYRAMID) -> None:
        super().__init__()
        self.network = network
        self.scales = tuple(scales)

    def forward(self, x: Tensor) -> list[Tensor] | Tensor:
        """Images (B,3,H,W) to their logits.

        Returns:
            in training, the logits of each scale at their own size, then their maximum; in eval
            mode the maximum alone, (B,C,h,w) at the size of the largest scale's.
        """
        logits = [self.network(_at_scale(x, scale)) for scale in self.scales]
        strongest = maximum_over_scales(logits)
        return [*logits, strongest] if self.training else strongest


def maximum_over_scales(logits: Sequence[Tensor]) -> Tensor:
    """Element-wise maximum of logits (B,C,*,*), each stretched (bilinear) to the largest size."""
    height, width = (max(each.shape[side] for each in logits) for side in (2, 3))
    strongest, *others = [_at_size(each, (height, width)) for each in logits]
    for other in others:
        strongest = torch.maximum(strongest, other)
    return strongest


def _at_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[2:] == size else stretch(maps, size)


def stretch(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B,C,*,*) bilinearly to `size` (H,W)."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _at_scale(x: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return x
    if min(x.shape[2:]) * scale < 1:
        height, width = (max(1, int(side * scale)) for side in x.shape[2:])
        return stretch(x, (height, width))
    # Given the factor, not the size: places are then exactly 1/scale apart, also where the size
    # is rounded down, as in deeplab-pytorch.
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def caffe_zero() -> Tensor:
    """Caffe's mean (3,1,1) in the units of normalised images."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((torch.tensor(CAFFE_MEAN) / 255 - mean) / std).view(3, 1, 1)


def dilate(backbone: Backbone, *, stride_in_1x1: bool) -> None:
    """Limit a backbone to stride 8: where a stride is removed, what follows is dilated.

    A ResNet's pooling then rounds its size up, as Caffe does: h pixels of the first convolution
    become floor(h / 2) + 1, not ceil(h / 2), so that 160 pixels have 21 logits, and 321 have 41.

    Every pixel of the former coarse output is then still there, unchanged, at every 2nd or 4th
    place of the finer one. Weights are not touched, and it may be called again.

    Args:
        backbone: its last stages and `strides` are changed in place.
        stride_in_1x1: for bottlenecks of Caffe's weights, whose stride is in the first 1x1
            convolution, not in the 3x3 one as torchvision has it.

    Raises:
        ValueError: `stride_in_1x1` for a backbone without bottlenecks.
    """
    if backbone.name.startswith("squeezenet"):
        if stride_in_1x1:
            raise ValueError(f"{backbone.name} has no bottlenecks")
        _dilate_squeezenet(backbone)
    else:
        _dilate_resnet(backbone, stride_in_1x1)
    backbone.strides = tuple(min(stride, OUTPUT_STRIDE) for stride in backbone.strides)


def _dilate_squeezenet(backbone: Backbone) -> None:
    pool = backbone.get_submodule("features.11")
    expand = backbone.get_submodule("features.12.expand3x3")
    assert isinstance(pool, nn.MaxPool2d)
    assert isinstance(expand, nn.Conv2d)
    pool.stride = 1
    expand.dilation = expand.padding = (2, 2)


def _dilate_resnet(backbone: Backbone, stride_in_1x1: bool) -> None:
    pool = backbone.get_submodule("maxpool")
    assert isinstance(pool, nn.MaxPool2d)
    pool.ceil_mode = True
    dilation = 1
    for layer, stride in (("layer2", 2), ("layer3", 1), ("layer4", 1)):
        growth = 2 // stride
        for index, block in enumerate(backbone.get_submodule(layer).children()):
            convolutions = [m for m in block.children() if isinstance(m, nn.Conv2d)]
            if stride_in_1x1 and len(convolutions) < 3:
                raise ValueError(f"{backbone.name} has no bottlenecks")
            # A bottleneck's convolutions are 1x1, 3x3, 1x1; a basic block's 3x3, 3x3.
            strided = 1 if len(convolutions) == 3 and not stride_in_1x1 else 0
            for place, convolution in enumerate(convolutions):
                is_strided = index == 0 and place == strided
                convolution.stride = (stride, stride) if is_strided else (1, 1)
                if convolution.kernel_size == (3, 3):
                    convolution.dilation = convolution.padding = (dilation, dilation)
                if is_strided:
                    dilation *= growth
            if index == 0:
                shortcut = block.get_submodule("downsample.0")
                assert isinstance(shortcut, nn.Conv2d)
                shortcut.stride = (stride, stride)
