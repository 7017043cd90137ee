from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from misc.errors import UserError
from net.backbone import ARCHITECTURES, FixedBatchNorm2d, build_backbone, load_backbone_weights
from tests.helpers.paths import SHARED


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_five_stages_have_the_promised_channels_and_sizes(name: str) -> None:
    height, width = 71, 97
    with torch.device("meta"):
        backbone = build_backbone(name, fixed_batch_norm=True)
        features = backbone(torch.empty(1, 3, height, width))
    assert [feature.shape[1] for feature in features] == list(backbone.channels)
    assert [tuple(feature.shape[2:]) for feature in features] == [
        (-(-height // stride), -(-width // stride)) for stride in backbone.strides
    ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_last_stage_loses_its_stride_and_gains_no_dilation(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, fixed_batch_norm=True)
        original = torchvision.models.get_model(name, weights=None)
    ours = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    theirs = [m for m in original.modules() if isinstance(m, nn.Conv2d)]
    assert all(convolution.dilation == (1, 1) for convolution in ours)
    changed = [
        (b.stride, a.stride) for a, b in zip(ours, theirs, strict=True) if a.stride != b.stride
    ]
    assert changed == [((2, 2), (1, 1))] * 2


def test_all_but_the_last_stage_compute_what_torchvision_computes() -> None:
    original = torchvision.models.resnet18(weights=None).eval()
    backbone = build_backbone("resnet18", fixed_batch_norm=True)
    backbone.load_state_dict(
        {k: v for k, v in original.state_dict().items() if not k.startswith("fc.")}
    )
    x = torch.randn(2, 3, 33, 40)
    with torch.no_grad():
        features = backbone(x)
        y = original.maxpool(original.relu(original.bn1(original.conv1(x))))
        for index, layer in enumerate([nn.Identity(), *list(original.children())[4:7]]):
            y = layer(y)
            assert torch.equal(features[index], y)


def test_fixed_batch_norm_never_changes_but_its_affine_weights_learn() -> None:
    norm = FixedBatchNorm2d(2)
    norm.running_mean = torch.tensor([1.0, -1.0])
    norm.running_var = torch.tensor([4.0, 1.0])
    norm.train()
    x = torch.full((1, 2, 1, 2), 3.0)
    y = norm(x)
    assert torch.allclose(y[0, :, 0, 0], torch.tensor([1.0, 4.0]), atol=1e-4)
    y.sum().backward()
    assert torch.equal(norm.running_mean, torch.tensor([1.0, -1.0]))
    assert torch.equal(norm.running_var, torch.tensor([4.0, 1.0]))
    assert norm.weight.grad is not None
    assert torch.allclose(norm.weight.grad, torch.tensor([2.0, 8.0]), atol=1e-4)


@pytest.mark.parametrize("fixed", [True, False])
def test_batch_norm_is_fixed_or_ordinary_throughout(fixed: bool) -> None:
    backbone = build_backbone("resnet18", fixed_batch_norm=fixed).train()
    backbone(torch.randn(2, 3, 32, 32))
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    for norm in norms:
        assert norm.running_mean is not None
        assert bool(norm.running_mean.eq(0).all()) == fixed


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"vgg16.*squeezenet1_0"):
        build_backbone("vgg16", fixed_batch_norm=True)


def test_weights_none_keeps_what_is_there() -> None:
    backbone = build_backbone("squeezenet1_0", fixed_batch_norm=False)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    load_backbone_weights(backbone, "none")
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


def test_a_torchvision_file_loads_without_its_head(tmp_path: Path) -> None:
    original = torchvision.models.resnet18(weights=None)
    torch.save(original.state_dict(), tmp_path / "resnet18.pth")
    backbone = build_backbone("resnet18", fixed_batch_norm=True)
    load_backbone_weights(backbone, tmp_path / "resnet18.pth")
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, original.state_dict()[key])


def test_the_weights_of_another_network_are_refused_by_path_and_key(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.pth"
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), path)
    with pytest.raises(UserError) as error:
        load_backbone_weights(build_backbone("resnet18", fixed_batch_norm=True), path)
    assert str(path) in str(error.value)
    assert "unknown: layer1.2.conv1.weight" in str(error.value)


def test_the_shared_squeezenet_sees_structure() -> None:
    path = SHARED / "weights" / "squeezenet1_0_imagenet.pth"
    if not path.exists():
        pytest.skip(f"needs {path}")
    backbone = build_backbone("squeezenet1_0", fixed_batch_norm=True).eval()
    load_backbone_weights(backbone, str(path))
    state = torch.load(path, weights_only=True)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key])


def _no_network(*_args: object, **_kwargs: object) -> None:
    raise URLError("no route to host")


def test_imagenet_without_a_network_says_how_to_get_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    with pytest.raises(UserError) as error:
        load_backbone_weights(build_backbone("resnet50", fixed_batch_norm=True), "imagenet")
    for hint in (
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "no route to host",
        f"resnet50-0676ba61.pth on a machine with internet access and put it into {tmp_path}",
        "--backbone_weights PATH",
    ):
        assert hint in str(error.value)


def test_a_damaged_download_in_the_cache_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints" / "squeezenet1_0-b66bff10.pth"
    cached.parent.mkdir()
    cached.write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"squeezenet1_0-b66bff10\.pth.*Delete the file"):
        load_backbone_weights(build_backbone("squeezenet1_0", fixed_batch_norm=True), "imagenet")


def test_imagenet_weights_are_downloaded_with_their_hash_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    original = torchvision.models.squeezenet1_0(weights=None)
    hashes = []

    def download(url: str, path: str, hash_prefix: str | None, **_kwargs: object) -> None:
        hashes.append((url, hash_prefix))
        torch.save(original.state_dict(), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    backbone = build_backbone("squeezenet1_0", fixed_batch_norm=True)
    load_backbone_weights(backbone, "imagenet")
    assert hashes == [
        ("https://download.pytorch.org/models/squeezenet1_0-b66bff10.pth", "b66bff10")
    ]
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, original.state_dict()[key])
