"""Winograd's 3x3 convolution: the same sums with a quarter of the products.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (CVPR 2016), F(4x4, 3x3).
An output tile of 4x4 pixels is the convolution of an input tile of 6x6. Both polynomials are taken
at the points 0, 1, -1, 2, -2 and infinity, multiplied there, and interpolated: 36 products a tile
and pair of channels in place of 144. oneDNN has no such kernel on the CPU; on CUDA, cuDNN has.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE = 4
WINDOW = TILE + 2
# With fewer channels the transformations of the tiles outweigh the products that are saved.
FEWEST_CHANNELS = 128

# Values at the points: of a tile of the input, of the kernel; and the output from the products.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def is_worth_it(convolution: nn.Conv2d) -> bool:
    """True for a 3x3 convolution of stride 1, padded by 1, with many channels."""
    return (
        convolution.kernel_size == (3, 3)
        and convolution.stride == convolution.dilation == convolution.padding == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and min(convolution.in_channels, convolution.out_channels) >= FEWEST_CHANNELS
    )


def transform_kernel(weight: Tensor) -> Tensor:
    """Weights (O,I,3,3) of a convolution to (36,I,O), four times as many numbers."""
    outputs, inputs = weight.shape[:2]
    columns = weight.permute(2, 3, 1, 0).reshape(9, -1).double()
    transformed = _both_ways(_KERNEL, columns.dtype, columns.device) @ columns
    return transformed.view(WINDOW**2, inputs, outputs).to(weight.dtype)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolve (B,I,H,W) to (B,O,H,W), zeros around it; equal to the direct sum up to rounding.

    The rounding errors are about five times those of the direct sum: 1e-5 of the largest value.

    Args:
        x: fastest with channels last.
        kernel: (36,I,O) from `transform_kernel`.
        bias: (O,).
    """
    batch, channels, height, width = x.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    padding = (1, TILE * columns - width + 1, 1, TILE * rows - height + 1)
    padded = F.pad(x, padding).permute(0, 2, 3, 1).contiguous()
    images, lines, pixels, _ = padded.stride()
    tiles = padded.as_strided(
        (WINDOW, WINDOW, batch, rows, columns, channels),
        (lines, pixels, images, TILE * lines, TILE * pixels, 1),
    ).reshape(WINDOW**2, -1)
    values = (_both_ways(_INPUT, x.dtype, x.device) @ tiles).view(WINDOW**2, -1, channels)
    products = torch.bmm(values, kernel).view(WINDOW**2, -1)
    outputs = _both_ways(_OUTPUT, x.dtype, x.device) @ products
    placed = outputs.view(TILE, TILE, batch, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
    image = placed.reshape(batch, TILE * rows, TILE * columns, -1)[:, :height, :width]
    return (image + bias).permute(0, 3, 1, 2)


@functools.cache
def _both_ways(
    matrix: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The transformation of a tile's rows, then of its columns, as one matrix."""
    each = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(each, each).to(device, dtype)
