"""What a DeepLab-v2 starts from: it decides about two points of the score."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from misc.errors import UserError
from misc.transforms import IMAGENET_STD
from misc.weights import load_strictly, read_state_dict
from net.backbone import Backbone, load_backbone_weights
from net.cam import CamClassifier
from net.deeplab_v2 import DeepLabV2

FLAG = "--seg_init"

_WRAPPERS = re.compile(r"^(?:module\.|base\.|scales\.)+")
_CAFFE_BLOCK = re.compile(
    r"layer([2-5])\.block(\d+)\.(shortcut|reduce|conv3x3|increase)\.(conv|bn)\.(\w+)"
)
_CAFFE_STEM = re.compile(r"layer1\.conv1\.(conv|bn)\.(\w+)")
_CONVOLUTION = {"reduce": 1, "conv3x3": 2, "increase": 3}
_CAFFE_MARK = "layer1.conv1.conv.weight"
_OTHER_HEAD = "fc."
_CLASSIFIER_MARKS = ("backbone.", *(f"{prefix}." for prefix in CamClassifier.LEGACY_NAMES))


class ClassifierBackbone(nn.Module):
    """A backbone by the names that a classifier's file has for it; what classifies is left out."""

    LEGACY_NAMES: ClassVar[Mapping[str, str | None]] = {
        **CamClassifier.LEGACY_NAMES,
        "newly_added.0": None,
        "classifier": None,
    }

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone


def initialise(network: DeepLabV2, init: str | Path) -> str:
    """Fill the network in place with what it starts from.

    Args:
        network: freshly built.
        init: "imagenet" (torchvision's, the backbone alone), "none" (stay random), or a file: of
            torchvision's names, a classifier (of this project, or IRN's, BES's or SBE's), a
            DeepLab-v2 of this project, or a ResNet of deeplab-pytorch (Caffe's weights, such as
            the COCO-pretrained ones).

    Returns:
        in words, what that was, for the log and the scores.

    Raises:
        UserError: no such weights, or weights that do not fit, key by key.
    """
    if init == "none":
        return "random"
    if init == "imagenet":
        load_backbone_weights(network.backbone, "imagenet", flag=FLAG)
        return "ImageNet (torchvision IMAGENET1K_V1)"
    path = Path(init)
    state = {_WRAPPERS.sub("", key): value for key, value in read_state_dict(path).items()}
    if _CAFFE_MARK in state:
        return _load_caffe(network, state, path)
    if any(key.startswith("aspp.") for key in state):
        load_strictly(network, state, source=str(path))
        return f"a DeepLab-v2 of this project, {path.name}"
    if any(key.startswith(_CLASSIFIER_MARKS) for key in state):
        source = f"{path} (backbone {network.backbone.name})"
        load_strictly(ClassifierBackbone(network.backbone), state, source=source)
        return f"the classifier {path.name}"
    load_backbone_weights(network.backbone, path, flag=FLAG)
    return f"torchvision's network in {path.name}"


def _load_caffe(network: DeepLabV2, state: Mapping[str, Tensor], path: Path) -> str:
    """Load deeplab-pytorch's ResNet: all of it, or nothing and an error that names the keys."""
    renamed = caffe_to_torchvision(state, source=str(path))
    head = {key: value for key, value in renamed.items() if key.startswith("aspp.")}
    own_head = {f"aspp.{key}": value for key, value in network.aspp.state_dict().items()}
    if head and not _is_like(head, own_head):
        raise UserError(
            f"The head in {path} is not that of a DeepLab-v2 on {network.backbone.name}: it has "
            f"{', '.join(sorted(head))}. Get the whole file, or one without a head."
        )
    fits = bool(head) and all(value.shape == own_head[key].shape for key, value in head.items())
    backbone = {f"backbone.{k}": v for k, v in renamed.items() if not k.startswith("aspp.")}
    wanted = {**backbone, **(head if fits else own_head), "_extra_state": torch.tensor(True)}
    load_strictly(network, wanted, source=str(path))
    how = "with its head" if fits else "without its head"
    return f"Caffe's weights {path.name}, {how}"


def _is_like(head: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """True if the head is like our own but for the number of classes."""
    return head.keys() == own.keys() and all(
        value.shape[1:] == own[key].shape[1:] for key, value in head.items()
    )


def caffe_to_torchvision(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """A state dict of deeplab-pytorch's names in torchvision's, for input as torchvision's.

    The first convolution also turns from BGR of 0..255 to RGB in the usual units; `DeepLabV2.zero`
    takes care of Caffe's mean. A plain classification head (`fc.`) is left out.

    Args:
        state: names such as `layer2.block1.reduce.conv.weight`, without wrappers' prefixes.
        source: where it is from, for messages.

    Returns:
        names such as `layer1.0.conv1.weight`, and `aspp.c0.weight` as they are.

    Raises:
        UserError: naming the keys that are not of such a network.
    """
    kept = {key: value for key, value in state.items() if not key.startswith(_OTHER_HEAD)}
    names = {key: _torchvision_name(key) for key in kept}
    unknown = [key for key, name in names.items() if name is None]
    if unknown:
        raise UserError(
            f"{source} has keys that a Caffe ResNet does not have: {', '.join(sorted(unknown)[:5])}"
            f"{' and more' * (len(unknown) > 5)}. Get the file again, or pass another with {FLAG}."
        )
    renamed = {str(names[key]): value for key, value in kept.items()}
    weight = renamed.get("conv1.weight")
    if weight is None or weight.ndim != 4 or weight.shape[1] != 3:
        raise UserError(f"{source} lacks the first convolution (3 channels).")
    renamed["conv1.weight"] = weight.flip(1) * (255 * torch.tensor(IMAGENET_STD)).view(1, 3, 1, 1)
    return renamed


def _torchvision_name(key: str) -> str | None:
    """The name in torchvision's ResNet; None if there is none."""
    if key.startswith("aspp."):
        return key
    if stem := _CAFFE_STEM.fullmatch(key):
        return f"{stem[1]}1.{stem[2]}"
    block = _CAFFE_BLOCK.fullmatch(key)
    if block is None:
        return None
    prefix = f"layer{int(block[1]) - 1}.{int(block[2]) - 1}"
    if block[3] == "shortcut":
        return f"{prefix}.downsample.{0 if block[4] == 'conv' else 1}.{block[5]}"
    return f"{prefix}.{block[4]}{_CONVOLUTION[block[3]]}.{block[5]}"
