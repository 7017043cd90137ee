import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from net.backbone import FixedBatchNorm2d, build_backbone
from net.deeplab_v2 import ASPP_RATES, Aspp, DeepLabV2, MultiScale, dilate

NAMES = ("resnet18", "resnet50", "squeezenet1_0")


def tiny_deeplab(name: str = "resnet18", num_classes: int = 3) -> DeepLabV2:
    return DeepLabV2(build_backbone(name, fixed_batch_norm=True), num_classes)


def test_the_four_branches_are_summed_each_at_its_rate() -> None:
    aspp = Aspp(1, 2)
    for index, branch in enumerate(aspp.children()):
        assert isinstance(branch, nn.Conv2d)
        assert branch.bias is not None
        nn.init.constant_(branch.weight, 10.0**index)
        nn.init.constant_(branch.bias, 0.5)
    point = torch.zeros(1, 1, 61, 61)
    point[0, 0, 30, 30] = 1
    with torch.no_grad():
        logits = aspp(point)[0]
    # A point is seen by the nine taps of every branch: at its own place by all four of them.
    expected = torch.full((61, 61), 2.0)
    expected[30, 30] += 1111
    for index, rate in enumerate((6, 12, 18, 24)):
        for dy in (-rate, 0, rate):
            for dx in (-rate, 0, rate):
                if (dy, dx) != (0, 0):
                    expected[30 + dy, 30 + dx] += 10**index
    assert torch.equal(logits, expected.expand(2, 61, 61))


def test_the_head_starts_as_published() -> None:
    torch.manual_seed(0)
    aspp = Aspp(64, 21)
    assert len(list(aspp.children())) == len(ASPP_RATES)
    for name, parameter in aspp.state_dict().items():
        if name.endswith("bias"):
            assert parameter.eq(0).all()
        else:
            assert float(parameter.std()) == pytest.approx(0.01, rel=0.05)
            assert abs(float(parameter.mean())) < 1e-3


@pytest.mark.parametrize("name", [*NAMES, "resnet101"])
@pytest.mark.parametrize(
    ("size", "of_resnets", "of_squeezenet"),
    [((65, 97), (9, 13), (9, 13)), ((160, 321), (21, 41), (20, 41)), ((64, 87), (9, 12), (8, 11))],
)
def test_logits_are_at_stride_8(
    name: str, size: tuple[int, int], of_resnets: tuple[int, int], of_squeezenet: tuple[int, int]
) -> None:
    """160 pixels: 80 after the first convolution, 41 after pooling that rounds up, 21 at last."""
    with torch.device("meta"):
        network = tiny_deeplab(name, 5)
        logits = network(torch.empty(2, 3, *size))
    assert logits.shape[2:] == (of_squeezenet if name == "squeezenet1_0" else of_resnets)
    assert logits.shape[:2] == (2, 5)
    assert network.backbone.strides[-3:] == (8, 8, 8)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dilation_refines_what_torchvisions_strides_give(name: str) -> None:
    original = torchvision.models.get_model(name, weights=None).double().eval()
    backbone = build_backbone(name, fixed_batch_norm=True).double()
    backbone.load_state_dict(
        {k: v for k, v in original.state_dict().items() if not k.startswith("fc.")}
    )
    dilate(backbone, stride_in_1x1=False)
    x = torch.randn(1, 3, 70, 90, dtype=torch.float64)
    with torch.no_grad():
        coarse = nn.Sequential(*list(original.children())[:-2])(x)
        fine = backbone(x)[-1]
    assert fine.shape[2:] == (9, 12)
    torch.testing.assert_close(fine[:, :, ::4, ::4], coarse)


def test_dilation_refines_the_squeezenet_too() -> None:
    coarse_backbone = build_backbone("squeezenet1_0", fixed_batch_norm=True).double().eval()
    backbone = build_backbone("squeezenet1_0", fixed_batch_norm=True).double().eval()
    backbone.load_state_dict(coarse_backbone.state_dict())
    dilate(backbone, stride_in_1x1=False)
    x = torch.randn(1, 3, 70, 90, dtype=torch.float64)
    with torch.no_grad():
        coarse, fine = coarse_backbone(x)[-1], backbone(x)[-1]
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse)


def test_caffes_strides_are_in_the_first_1x1_and_travel_with_the_weights() -> None:
    network, plain = tiny_deeplab("resnet50"), tiny_deeplab("resnet50")
    network.arrange(is_caffe=True)
    layer2, layer3 = (network.backbone.get_submodule(f"layer{n}.0") for n in (2, 3))
    assert [layer2.conv1.stride, layer2.conv2.stride] == [(2, 2), (1, 1)]
    assert [layer3.conv1.stride, layer3.conv2.dilation] == [(1, 1), (2, 2)]  # type: ignore[union-attr]
    plain.load_state_dict(network.state_dict())
    assert plain.is_caffe
    x = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(plain(x), network(x))
        plain.arrange(is_caffe=False)
        assert plain.zero.eq(0).all()
        assert not torch.allclose(plain(x), network(x))


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0"])
def test_backbones_without_bottlenecks_have_no_caffe_arrangement(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no bottlenecks"):
        tiny_deeplab(name).arrange(is_caffe=True)


class ChannelsAsLogits(nn.Module):
    """Every 8th pixel of the first two channels: logits that can be worked out by hand."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2, ::8, ::8]


def test_training_gives_every_scale_and_their_maximum_eval_the_maximum_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 48)
    network = MultiScale(ChannelsAsLogits(), (1.0, 0.5))
    full, half, strongest = network.train()(x)
    assert torch.equal(full, x[:, :2, ::8, ::8])
    smaller = F.interpolate(x, (16, 24), mode="bilinear", align_corners=False)
    assert torch.equal(half, smaller[:, :2, ::8, ::8])
    stretched = F.interpolate(half, (4, 6), mode="bilinear", align_corners=False)
    assert torch.equal(strongest, torch.maximum(full, stretched))
    assert (strongest > full).any()
    assert torch.equal(network.eval()(x), strongest)


class Row(nn.Module):
    """The first row of the first channel, as it comes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1, :1]


@pytest.mark.parametrize(
    ("length", "scale", "expected"),
    [
        (5, 0.5, [0.5, 2.5]),  # steps of exactly 2, from 0.5 on; by sizes they would be 2.5
        (7, 0.75, [1 / 6, 1.5, 17 / 6, 25 / 6, 5.5]),  # steps of exactly 4/3; by sizes 7/5
        (1, 0.5, [0.0]),
    ],
)
def test_scales_step_by_the_factor_also_where_the_size_is_rounded(
    length: int, scale: float, expected: list[float]
) -> None:
    x = torch.arange(float(length)).expand(1, 3, 4, length)
    _, scaled, _ = MultiScale(Row(), (1.0, scale)).train()(x)
    assert scaled[0, 0, 0].tolist() == pytest.approx(expected)


def test_the_maximum_is_taken_pixel_by_pixel() -> None:
    network = MultiScale(ChannelsAsLogits(), (1.0, 0.5))
    x = torch.zeros(1, 3, 16, 16)
    x[0, 0], x[0, 1, 0, 0] = 1.0, 5.0
    logits = network.eval()(x)
    # At half size, the pixel of 5 shares its place with three of 0: 5/4, less than 5 itself.
    assert logits[0, 0].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert logits[0, 1].tolist() == [[5.0, 1.25], [1.25, 1.25]]


def test_parameters_learn_in_three_groups_and_batch_norm_in_none() -> None:
    network = tiny_deeplab("resnet18")
    groups = network.parameter_groups()
    norms = [m for m in network.modules() if isinstance(m, FixedBatchNorm2d)]
    frozen = {id(p) for norm in norms for p in norm.parameters()}
    assert len(norms) == 20
    assert not {id(p) for group in groups for p in group} & frozen
    assert [p.ndim for p in groups.aspp_weights] == [4] * 4
    assert [p.ndim for p in groups.aspp_biases] == [1] * 4
    convolutions = [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert {id(p) for p in groups.backbone} == {id(m.weight) for m in convolutions}


def test_ordinary_batch_norm_learns_with_the_backbone() -> None:
    network = DeepLabV2(build_backbone("resnet18", fixed_batch_norm=False), 3)
    everything = {id(p) for group in network.parameter_groups() for p in group}
    assert everything == {id(p) for p in network.parameters()}


def test_every_parameter_that_learns_gets_a_gradient() -> None:
    network = MultiScale(tiny_deeplab("squeezenet1_0"), (1.0, 0.5)).train()
    sum(logits.square().mean() for logits in network(torch.randn(1, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in network.parameters())
