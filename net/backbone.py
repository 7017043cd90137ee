"""torchvision networks as five stages of features.

A backbone keeps torchvision's parameter names, so that ImageNet weights load as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from misc.errors import UserError
from misc.weights import PARALLEL_PREFIX, load_strictly, read_state_dict


@dataclass(frozen=True)
class Architecture:
    """Which submodules make a stage, and what each stage gives: channels and stride."""

    stages: tuple[tuple[str, ...], ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]


RESNET_STAGES = (
    ("conv1", "bn1", "relu", "maxpool"),
    ("layer1",),
    ("layer2",),
    ("layer3",),
    ("layer4",),
)
RESNET_STRIDES = (4, 4, 8, 16, 16)
SQUEEZENET_STAGES = (
    ("features.0", "features.1", "features.2"),
    ("features.3", "features.4", "features.5"),
    ("features.6", "features.7", "features.8"),
    ("features.9", "features.10"),
    ("features.11", "features.12"),
)
ARCHITECTURES = {
    "resnet18": Architecture(RESNET_STAGES, (64, 64, 128, 256, 512), RESNET_STRIDES),
    "resnet34": Architecture(RESNET_STAGES, (64, 64, 128, 256, 512), RESNET_STRIDES),
    "resnet50": Architecture(RESNET_STAGES, (64, 256, 512, 1024, 2048), RESNET_STRIDES),
    "resnet101": Architecture(RESNET_STAGES, (64, 256, 512, 1024, 2048), RESNET_STRIDES),
    "squeezenet1_0": Architecture(SQUEEZENET_STAGES, (96, 256, 384, 512, 512), (4, 4, 8, 8, 16)),
}
IMAGENET_HEADS = ("fc.", "classifier.")
CACHED = "Delete the file to have it downloaded again, or pass other weights with {flag} PATH."


class FixedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that always uses, and never changes, its running statistics.

    Its affine weights still train, which those of torchvision's `FrozenBatchNorm2d` do not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B,C,h,w) by the stored statistics, in training too."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class Backbone(nn.Module):
    """A classification network without its head, cut into five stages.

    Attributes:
        name: torchvision's name of the network.
        channels: channels of each stage's output.
        strides: a stage's output is ceil(H / stride) x ceil(W / stride).
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.architecture = ARCHITECTURES[name]
        self.channels = self.architecture.channels
        self.strides = self.architecture.strides
        children = dict(network.named_children())
        parts = (part.split(".")[0] for stage in self.architecture.stages for part in stage)
        for part in dict.fromkeys(parts):
            self.add_module(part, children[part])

    def stage(self, index: int) -> list[nn.Module]:
        """The submodules of stage `index` (0..4), in the order they run."""
        return [self.get_submodule(part) for part in self.architecture.stages[index]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised images (B,3,H,W) to the outputs of the five stages, shallow to deep."""
        features = []
        for index in range(len(self.architecture.stages)):
            for module in self.stage(index):
                x = module(x)
            features.append(x)
        return features


def build_backbone(name: str, *, fixed_batch_norm: bool) -> Backbone:
    """A backbone with torchvision's random initial weights.

    Args:
        name: one of `ARCHITECTURES`.
        fixed_batch_norm: keep the running statistics as loaded (for pretrained weights); otherwise
            batch norm is the ordinary one. Networks without batch norm ignore it.

    Raises:
        UserError: the name is not known.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"Unknown backbone {name!r}. Choose one of {', '.join(ARCHITECTURES)}.")
    import torchvision  # here, since it takes 1.5 s, which workers that only read would wait for

    if name.startswith("squeezenet"):
        network = torchvision.models.get_model(name, weights=None)
        _pad_to_whole_strides(network)
    else:
        norm_layer = FixedBatchNorm2d if fixed_batch_norm else nn.BatchNorm2d
        network = torchvision.models.get_model(name, weights=None, norm_layer=norm_layer)
        _keep_stride_in_last_stage(network)
    return Backbone(name, network)


def _keep_stride_in_last_stage(resnet: nn.Module) -> None:
    """Make layer4 stride 1, without the dilation that `replace_stride_with_dilation` would add."""
    block = resnet.get_submodule("layer4.0")
    strided = "conv2" if hasattr(block, "conv3") else "conv1"
    for path in (strided, "downsample.0"):
        convolution = block.get_submodule(path)
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride = (1, 1)


def _pad_to_whole_strides(squeezenet: nn.Module) -> None:
    """Pad so that every stage has ceil(H / stride) rows, as the ResNets' do; weights still fit."""
    for layer in squeezenet.get_submodule("features").children():
        if isinstance(layer, nn.Conv2d):
            layer.padding = (3, 3)
        elif isinstance(layer, nn.MaxPool2d):
            layer.padding, layer.ceil_mode = 1, False


def load_backbone_weights(
    backbone: Backbone, weights: str | Path, *, flag: str = "--backbone_weights"
) -> None:
    """Fill the backbone in place.

    Args:
        backbone: what `build_backbone` made.
        weights: "imagenet" (torchvision's IMAGENET1K_V1, downloaded once and checked by hash),
            "none" (keep the random ones) or the path of a state dict with torchvision's names.
            A classification head in it is left out; all else must match.
        flag: the flag that chose the weights, for messages.

    Raises:
        UserError: no download possible, or a file that is not of this network.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        remedy = CACHED.format(flag=flag)
        state, source = fetch_imagenet_weights(backbone.name, flag)
    else:
        remedy = f"Get it again, or pass another with {flag}."
        state, source = read_state_dict(Path(weights), remedy=remedy), str(weights)
    without_head = {
        key: value
        for key, value in state.items()
        if not key.removeprefix(PARALLEL_PREFIX).startswith(IMAGENET_HEADS)
    }
    source = f"{source} (backbone {backbone.name})"
    load_strictly(backbone, without_head, source=source, remedy=remedy)


def fetch_imagenet_weights(
    name: str, flag: str = "--backbone_weights"
) -> tuple[Mapping[str, Tensor], str]:
    """The state dict of torchvision's first ImageNet weights, those the reference used.

    Args:
        name: one of `ARCHITECTURES`.
        flag: the flag that asked for them, for messages.

    Returns:
        the state dict, and the file it came from, downloaded unless it was there.

    Raises:
        UserError: no download possible, or an unreadable file.
    """
    import torchvision  # here, as in build_backbone

    entry = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / entry.url.rsplit("/", 1)[-1]
    if file.exists():  # torch would quote itself: to load what is damaged with weights_only=False
        return read_state_dict(file, remedy=CACHED.format(flag=flag)), str(file)
    try:
        state = entry.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # a network, a disk and a parser: each has errors of its own
        raise UserError(
            f"Cannot download the ImageNet weights of {name} from {entry.url}: {error}. Fetch "
            f"{file.name} on a machine with internet access and put it into {folder}, or pass it "
            f"with {flag} PATH; {flag} none trains from scratch."
        ) from error
    return state, str(file)


def legacy_backbone_names(stages: Sequence[Mapping[int, str]]) -> dict[str, str]:
    """Where the IRN family's checkpoints keep the backbone, as prefix -> our prefix.

    They hold every backbone weight three times: under `resnet50.`, `stage1.` to `stageN.` and
    `backbone.0.` to `backbone.N-1.`.

    Args:
        stages: for each of their stages, position in it -> torchvision's name of the part.
    """
    names = {"resnet50": "backbone"}
    for number, stage in enumerate(stages):
        for position, part in stage.items():
            names[f"stage{number + 1}.{position}"] = f"backbone.{part}"
            names[f"backbone.{number}.{position}"] = f"backbone.{part}"
    return names
