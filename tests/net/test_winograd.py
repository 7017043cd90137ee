import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net.winograd import convolve, is_worth_it, transform_kernel


def with_channels_last(*shape: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
    return x.contiguous(memory_format=torch.channels_last)


def test_a_kernel_of_one_weight_moves_the_image() -> None:
    """One pixel to the left and one up, with a zero where nothing comes from."""
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 2, 2] = 1
    x = torch.arange(1.0, 7).view(1, 1, 2, 3)
    found = convolve(x, transform_kernel(weight), torch.tensor([10.0]))
    expected = torch.tensor([[[[15.0, 16, 10], [10, 10, 10]]]])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (8, 9), (13, 6)])
@pytest.mark.parametrize("channels", [(1, 1), (5, 3)])
def test_the_sums_are_those_of_the_direct_convolution(
    size: tuple[int, int], channels: tuple[int, int]
) -> None:
    inputs, outputs = channels
    x = with_channels_last(2, inputs, *size).double()
    weight = torch.randn(outputs, inputs, 3, 3, dtype=torch.float64)
    bias = torch.randn(outputs, dtype=torch.float64)
    found = convolve(x, transform_kernel(weight), bias)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, padding=1), rtol=0, atol=1e-12)


def test_float32_rounds_a_few_times_more_than_the_direct_sum() -> None:
    x = with_channels_last(2, 256, 14, 18).relu()
    convolution = nn.Conv2d(256, 256, 3, padding=1)
    weight, bias = convolution.weight.detach(), convolution.bias
    assert bias is not None
    found = convolve(x, transform_kernel(weight), bias.detach())
    exact = F.conv2d(x.double(), weight.double(), bias.detach().double(), padding=1)
    assert found.dtype == torch.float32
    assert float((found - exact).abs().max() / exact.abs().max()) < 2e-5


def test_the_output_has_its_channels_last() -> None:
    kernel = transform_kernel(torch.randn(6, 4, 3, 3))
    found = convolve(with_channels_last(2, 4, 7, 9), kernel, torch.zeros(6))
    assert found.shape == (2, 6, 7, 9)
    assert found.permute(0, 2, 3, 1).stride()[-1] == 1


@pytest.mark.parametrize(
    ("convolution", "expected"),
    [
        (nn.Conv2d(128, 128, 3, padding=1), True),
        (nn.Conv2d(127, 128, 3, padding=1), False),
        (nn.Conv2d(128, 127, 3, padding=1), False),
        (nn.Conv2d(128, 128, 1), False),
        (nn.Conv2d(128, 128, 3, padding=1, stride=2), False),
        (nn.Conv2d(128, 128, 3, padding=2, dilation=2), False),
        (nn.Conv2d(128, 128, 3, padding=0), False),
        (nn.Conv2d(128, 128, 3, padding=1, groups=2), False),
        (nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"), False),
    ],
)
def test_what_it_is_used_for(convolution: nn.Conv2d, expected: bool) -> None:
    assert is_worth_it(convolution) is expected
