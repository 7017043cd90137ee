import json
import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from misc.errors import UserError
from misc.transforms import IMAGENET_MEAN, IMAGENET_STD
from net.backbone import build_backbone
from net.cam import CamClassifier
from net.deeplab_v2 import CAFFE_MEAN, DeepLabV2
from net.segmentation_init import caffe_to_torchvision, initialise
from tests.helpers.paths import GOLDEN

CAFFE_PARTS = {"conv1": "reduce", "conv2": "conv3x3", "conv3": "increase"}


def build(name: str = "resnet18", num_classes: int = 3) -> DeepLabV2:
    torch.manual_seed(0)
    return DeepLabV2(build_backbone(name, fixed_batch_norm=True), num_classes)


def caffe_name(key: str) -> str:
    """The name that deeplab-pytorch gives to a parameter of torchvision's ResNet."""
    if key.startswith(("conv1.", "bn1.")):
        return f"layer1.conv1.{key.replace('1.', '.', 1)}"
    layer, block, part, rest = key.split(".", 3)
    prefix = f"layer{int(layer[-1]) + 1}.block{int(block) + 1}"
    if part == "downsample":
        index, rest = rest.split(".")
        return f"{prefix}.shortcut.{'conv' if index == '0' else 'bn'}.{rest}"
    return f"{prefix}.{CAFFE_PARTS[part.replace('bn', 'conv')]}.{part[:-1]}.{rest}"


def caffe_state(num_classes: int | None, prefix: str = "") -> dict[str, Tensor]:
    """Weights of deeplab-pytorch's ResNet-50 in its names, drawn at random."""
    generator = torch.Generator().manual_seed(1)
    resnet = build_backbone("resnet50", fixed_batch_norm=True).state_dict()
    state = {
        caffe_name(key): torch.rand(value.shape, generator=generator)
        for key, value in resnet.items()
        if not key.endswith("num_batches_tracked")
    }
    if num_classes is not None:
        for branch in range(4):
            shape = (num_classes, 2048, 3, 3)
            state[f"aspp.c{branch}.weight"] = torch.rand(shape, generator=generator)
            state[f"aspp.c{branch}.bias"] = torch.rand(num_classes, generator=generator)
    return {f"{prefix}{key}": value for key, value in state.items()}


def irn_state() -> dict[str, Tensor]:
    """A ResNet-50's classifier drawn at random, by all names that IRN, BES and SBE save it by."""
    record = json.loads((GOLDEN / "g3_cam_state_dict.json").read_text())
    generator = torch.Generator().manual_seed(1)
    state = {
        key: torch.rand(shape, generator=generator) if dtype == "torch.float32" else torch.tensor(7)
        for key, shape, dtype in record["keys"]
        if key not in record["alias_of"]
    }
    return state | {alias: state[key] for alias, key in record["alias_of"].items()}


def write(path: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, path)
    return path


def test_the_names_are_those_of_the_published_files() -> None:
    names = set(caffe_state(3))
    assert {
        "layer1.conv1.conv.weight",
        "layer1.conv1.bn.running_var",
        "layer2.block1.shortcut.conv.weight",
        "layer2.block1.reduce.bn.bias",
        "layer3.block4.conv3x3.conv.weight",
        "layer5.block3.increase.bn.running_mean",
        "aspp.c3.bias",
    } <= names


@pytest.mark.parametrize("prefix", ["", "base.", "module.base."])
def test_a_caffe_network_is_taken_over_whole(tmp_path: Path, prefix: str) -> None:
    state = caffe_state(3)
    path = write(tmp_path / "voc.pth", caffe_state(3, prefix))
    network = build("resnet50")
    assert initialise(network, path) == "Caffe's weights voc.pth, with its head"
    assert network.is_caffe
    ours = network.state_dict()
    untouched = 0
    for key, value in ours.items():
        name = key.removeprefix("backbone.")
        if key.startswith("aspp."):
            assert torch.equal(value, state[key])
        elif name not in ("_extra_state", "conv1.weight") and "num_" not in key:
            assert torch.equal(value, state[caffe_name(name)]), name
            untouched += 1
    assert untouched == 53 * 5 - 1


@pytest.mark.parametrize(("head", "extra"), [(None, {}), (91, {}), (None, {"fc.bias": 91})])
def test_a_head_of_other_classes_stays_out(
    tmp_path: Path, head: int | None, extra: dict[str, int]
) -> None:
    state = {**caffe_state(head), **{key: torch.ones(size) for key, size in extra.items()}}
    network, fresh = build("resnet50"), build("resnet50")
    found = initialise(network, write(tmp_path / "coco.pth", state))
    assert found == "Caffe's weights coco.pth, without its head"
    for key, value in network.aspp.state_dict().items():
        assert torch.equal(value, fresh.aspp.state_dict()[key])


def test_input_in_torchvisions_normalisation_gives_what_caffes_input_gave() -> None:
    """To the rim: what the convolution pads with is Caffe's mean, too."""
    state = {key: value - 0.5 for key, value in caffe_state(None).items()}
    renamed = caffe_to_torchvision(state, source="x")
    image = torch.randint(0, 256, (1, 3, 21, 23)).double()  # red, green, blue
    caffe = (image - torch.tensor(CAFFE_MEAN).view(1, 3, 1, 1)).flip(1)
    usual = (image / 255 - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(
        IMAGENET_STD
    ).view(1, 3, 1, 1)
    theirs = F.conv2d(caffe, state["layer1.conv1.conv.weight"].double(), padding=3)
    network = build("resnet50").double()
    network.arrange(is_caffe=True)
    network.backbone.get_submodule("conv1").load_state_dict({"weight": renamed["conv1.weight"]})
    seen: list[Tensor] = []
    network.backbone.get_submodule("conv1").register_forward_hook(
        lambda _module, _inputs, output: seen.append(
            F.conv2d(_inputs[0], _module.weight, padding=3)
        )
    )
    with torch.no_grad():
        network(usual)
    torch.testing.assert_close(seen[0], theirs, rtol=1e-5, atol=1e-2)


def test_caffe_files_that_lack_or_add_a_key_are_refused_by_it(tmp_path: Path) -> None:
    state = caffe_state(None)
    cases = {
        "layer6.block1.reduce.conv.weight": {
            **state,
            "layer6.block1.reduce.conv.weight": torch.ones(1),
        },
        "missing: backbone.layer3.5.conv2.weight": {
            k: v for k, v in state.items() if k != "layer4.block6.conv3x3.conv.weight"
        },
        "aspp.c1.weight": {**state, "aspp.c1.weight": torch.ones(3, 2048, 3, 3)},
    }
    for named, broken in cases.items():
        network = build("resnet50")
        before = {key: value.clone() for key, value in network.state_dict().items()}
        with pytest.raises(UserError, match=re.escape(named)):
            initialise(network, write(tmp_path / "broken.pth", broken))
        assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_a_caffe_file_for_another_network_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r50.pth", caffe_state(None))
    for name in ("resnet18", "squeezenet1_0"):
        with pytest.raises(UserError, match="do not fit DeepLabV2"):
            initialise(build(name), path)


def test_the_first_convolution_must_be_there(tmp_path: Path) -> None:
    state = caffe_state(None)
    state["layer1.conv1.conv.weight"] = torch.ones(64, 1, 7, 7)
    with pytest.raises(UserError, match="lacks the first convolution"):
        initialise(build("resnet50"), write(tmp_path / "a.pth", state))


def test_none_stays_as_built() -> None:
    network, fresh = build(), build()
    assert initialise(network, "none") == "random"
    assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in network.state_dict().items())


def test_a_torchvision_file_fills_the_backbone(tmp_path: Path) -> None:
    original = torchvision.models.resnet18(weights=None).state_dict()
    network, fresh = build(), build()
    path = write(tmp_path / "r18.pth", original)
    assert initialise(network, path) == "torchvision's network in r18.pth"
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, original[key])
    for key, value in network.aspp.state_dict().items():
        assert torch.equal(value, fresh.aspp.state_dict()[key])


def test_a_classifier_of_ours_gives_its_backbone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    classifier = CamClassifier(build_backbone("resnet18", fixed_batch_norm=False), 5)
    network = build()
    path = write(tmp_path / "cam.pth", classifier.state_dict())
    assert initialise(network, path) == "the classifier cam.pth"
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, classifier.backbone.state_dict()[key])


@pytest.fixture(scope="module")
def irns_classifier() -> dict[str, Tensor]:
    return irn_state()


@pytest.mark.parametrize("names", [("",), ("stage",), ("resnet50.", "classifier.")])
def test_a_classifier_of_irns_names_gives_its_backbone(
    tmp_path: Path, irns_classifier: dict[str, Tensor], names: tuple[str, ...]
) -> None:
    kept = {f"module.{k}": v for k, v in irns_classifier.items() if k.startswith(names)}
    network, fresh = build("resnet50"), build("resnet50")
    assert initialise(network, write(tmp_path / "irn.pth", kept)) == "the classifier irn.pth"
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, irns_classifier[f"resnet50.{key}"]), key
    for key, value in network.aspp.state_dict().items():
        assert torch.equal(value, fresh.aspp.state_dict()[key])


def test_a_classifier_of_irns_names_is_taken_whole_or_refused_by_key(
    tmp_path: Path, irns_classifier: dict[str, Tensor]
) -> None:
    first = "stage1.0.weight"
    cases = {
        "both are backbone.conv1.weight": irns_classifier | {first: irns_classifier[first] + 1},
        "unknown: fc_edge1.0.weight": irns_classifier | {"fc_edge1.0.weight": torch.ones(1)},
        "missing: backbone.layer4.2.bn3.bias": {
            k: v for k, v in irns_classifier.items() if not k.endswith(".2.bn3.bias")
        },
    }
    path = tmp_path / "irn.pth"
    for named, broken in cases.items():
        with pytest.raises(UserError, match=re.escape(named)):
            initialise(build("resnet50"), write(path, broken))
    with pytest.raises(UserError, match=re.escape(f"{path} (backbone resnet18) do not fit")):
        initialise(build("resnet18"), write(path, irns_classifier))


def test_a_deeplab_of_ours_gives_everything_or_says_why_not(tmp_path: Path) -> None:
    torch.manual_seed(7)
    other = DeepLabV2(build_backbone("resnet18", fixed_batch_norm=True), 3)
    path = write(tmp_path / "seg.pth", other.state_dict())
    network = build()
    assert initialise(network, path) == "a DeepLab-v2 of this project, seg.pth"
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in network.state_dict().items())
    with pytest.raises(UserError, match=r"aspp\.c0\.weight is \(3, 512, 3, 3\), not \(4,"):
        initialise(build(num_classes=4), path)


def test_messages_name_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_args: object, **_kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(UserError, match="--seg_init none trains from scratch"):
        initialise(build(), "imagenet")
    with pytest.raises(UserError, match="No weights at"):
        initialise(build(), tmp_path / "absent.pth")
