"""Gaussian filtering of points in many dimensions on the permutohedral lattice.

Adams, Baek, Davis, "Fast high-dimensional filtering using the permutohedral lattice",
Eurographics 2010. Points in d dimensions are embedded in the hyperplane of d+1 coordinates that
sum to zero. The lattice there consists of the integer points whose coordinates sum to zero and
have one remainder modulo d+1 in common; its simplices have one vertex of each remainder. Values
are splatted onto the vertices of the points' simplices, blurred along d+1 directions, and sliced.
Ties decide which vertices exist, and these change the blur. So the embedding follows the order
and the float32 roundings of pydensecrf, which makes results agree to about 1e-6.
"""

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from misc.csr import csr_matrix, csr_product
from misc.errors import UserError

NORM_FLOOR = 1e-20
MAX_CODE = 2**53
"""Whole numbers up to here are exact in float64."""
NEIGHBOUR = 0.5
"""Weight of each neighbour along a direction of the blur; the vertex itself has 1."""
GROUP_OF_POINTS = 4
"""Quirk of pydensecrf: it embeds points in groups of four and fills up the last group with points
at the origin. They hold no value, but their vertices are there and take part in the blur."""


class PermutohedralFilter:
    """Gaussian filter of unit variance over N points, normalised symmetrically.

    K = D^-1/2 F D^-1/2 with D = diag(F 1), F being splat, blur, slice. A GPU is waited for once,
    when the lattice is built: for the number of its vertices.
    """

    @torch.no_grad()
    def __init__(self, features: Tensor) -> None:
        """Build the lattice of `features` float32 (d,N), on their device.

        Raises UserError if they span more lattice points than can be numbered.
        """
        dims, num_points = features.shape
        if num_points % GROUP_OF_POINTS:
            features = torch.cat([features, features.new_zeros(dims, 1)], 1)
        lower, position, weights = _enclosing_simplices(features)
        weights[:, num_points:] = 0
        codes, steps, largest = _vertex_codes(lower, position)
        codes, order = codes.flatten().sort(stable=True)
        vertices = _numbered(codes)
        starts = _starts(vertices, _checked_count(vertices, largest))
        blurs = _blur_matrices(codes.index_select(0, starts[:-1]), steps)
        weights = weights.T.contiguous()
        self.matrices = _filter_matrices(weights, order, vertices.int(), starts, blurs, num_points)
        """What a filtering multiplies with, in turn: splat, d+1 blurs, slice (all CSR)."""

    @torch.no_grad()
    def __call__(self, values: Tensor) -> Tensor:
        """Filter `values` float32 (N,C), channel by channel; returns (N,C)."""
        return _multiply(self.matrices, values)


def _multiply(matrices: list[Tensor], values: Tensor) -> Tensor:
    for matrix in matrices:
        values = csr_product(matrix, values)
    return values


def _filter_matrices(
    weights: Tensor,
    order: Tensor,
    vertices: Tensor,
    starts: Tensor,
    blurs: list[Tensor],
    num_points: int,
) -> list[Tensor]:
    """Splat, `blurs` and slice, with the normalisation in the first and the last.

    Takes `weights` (N,d+1) and, sorted by vertex, `order` into them and their `vertices`, and
    `starts` (M+1,) of the vertices in that order.
    """
    count = weights.shape[1]
    num_vertices = len(starts)  # with vertex M, which has no points
    splat_starts = torch.cat([starts, starts[-1:]])
    points = torch.arange(len(weights), dtype=torch.int32, device=weights.device)
    points = points.clamp_(max=num_points - 1)[:, None].expand_as(weights).reshape(-1)
    points = points.index_select(0, order)
    splat_values = weights.view(-1).index_select(0, order)
    slice_starts = _regular_starts(num_points, count, weights.device)
    vertices = torch.empty_like(vertices).scatter_(0, order, vertices)[: num_points * count]
    slice_values = weights[:num_points] / (1 + 2.0 ** (1 - count))

    def matrices(splat_values: Tensor, slice_values: Tensor) -> list[Tensor]:
        splat = csr_matrix(splat_starts, points, splat_values, num_points)
        return [splat, *blurs, csr_matrix(slice_starts, vertices, slice_values, num_vertices)]

    ones = weights.new_ones(num_points, 1)
    norm = (_multiply(matrices(splat_values, slice_values.flatten()), ones) + NORM_FLOOR).rsqrt()
    splat_values = splat_values * norm.view(-1).index_select(0, points)
    return matrices(splat_values, (slice_values * norm).flatten())


def _elevate(features: Tensor) -> Tensor:
    """Embed points (d,N) in the hyperplane (d+1,N), unit variance as blurring will have it."""
    dims, num_points = features.shape
    blur_scale = float(np.float32(math.sqrt(2 / 3) * (dims + 1)))
    elevated = features.new_empty(dims + 1, num_points)
    total = features.new_zeros(num_points)
    for axis in range(dims, 0, -1):
        component = features[axis - 1] * (blur_scale / math.sqrt(axis * (axis + 1)))
        elevated[axis] = total - component * axis
        total = total + component
    elevated[0] = total
    return elevated


def _enclosing_simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Simplex around each point of `features` (d,N).

    Returns:
        Its vertex of remainder 0, divided by d+1, float (d+1,N) of whole numbers; the position
        int64 (d+1,N) of each coordinate when ordered by distance above that vertex; barycentric
        weights float32 (d+1,N) of its vertices of remainder 0..d.
    """
    elevated = _elevate(features)
    count = len(elevated)
    sides = elevated.new_full((), count)  # a GPU would multiply by a plain number's reciprocal
    lower = (elevated / sides).round_()
    above = elevated - lower * count
    position = torch.zeros_like(above, dtype=torch.int8)
    for i, j in itertools.combinations(range(count), 2):
        less = above[i] < above[j]
        position[j] += less
        position[i] += less.logical_not_()
    # Rounding leaves the hyperplane by `lower.sum`; mend the coordinates that were rounded worst.
    position -= lower.sum(0).to(torch.int8)
    wrap = (position >= count).to(torch.int8) - (position < 0).to(torch.int8)
    position -= wrap * count
    lower += wrap
    above -= wrap * count
    positions = position.long()
    ascending = torch.empty_like(above).scatter_(0, positions, above).div_(sides)
    weights = ascending - ascending.roll(1, 0)
    weights[0] += 1
    return lower, positions, weights


def _vertex_codes(lower: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number the lattice points: one code each, linear in the coordinates.

    Takes `lower` and `position` (d+1,N) of `_enclosing_simplices`. Returns codes (N,d+1) of
    the vertices of remainder 0..d, what leads from a code to its next neighbour along each of the
    d+1 directions, and a bound on the codes, float64 (): from `MAX_CODE` on they are not exact.
    """
    count = len(lower)
    first, last = (extreme.double() for extreme in lower.aminmax(dim=1))
    # A vertex has coordinates (d+1)q + remainder with q in first-1..last, a neighbour q +- 1.
    extents = last - first + 4
    # The last coordinate follows from the others: they sum to zero.
    factors = extents.roll(1)
    factors[0], factors[-1] = 1, 0
    factors[:-1] = factors[:-1].cumprod(0)
    # Where it is 1 modulo d+1, the sum tells the remainder, and so the code tells the point.
    factors[-2] += (1 - factors.sum()).remainder(count)
    largest = 2 * count * factors[-2] * extents[-2]
    dtype = _code_dtype(largest)
    total = factors.sum()
    base = (factors @ lower.double() - factors @ (first - 2)) * count
    # From each vertex to the next all coordinates rise by one and the next lowest falls by d+1.
    rises = (total - factors * count).to(dtype)
    steps = torch.empty_like(position, dtype=dtype)
    steps.scatter_(0, position, rises[:, None].expand_as(position))
    codes = [base.to(dtype)]
    for step in steps[:-1]:
        codes.append(codes[-1] + step)
    return torch.stack(codes, 1), -rises, largest


def _code_dtype(largest: Tensor) -> torch.dtype:
    """int32 sorts faster, but only on the CPU does it cost no wait to see that it suffices."""
    suffices = largest.device.type == "cpu" and largest.item() < 2**31
    return torch.int32 if suffices else torch.int64


def _numbered(codes: Tensor) -> Tensor:
    """Numbers int64 0..M-1 of M different codes, in ascending `codes`."""
    is_next = torch.zeros_like(codes, dtype=torch.bool)
    torch.ne(codes[1:], codes[:-1], out=is_next[1:])
    return is_next.cumsum(0)


def _starts(vertices: Tensor, count: int) -> Tensor:
    """Where each of `count` ascending `vertices` begins, and their end, int32 (count+1,)."""
    starts = torch.zeros(count + 1, dtype=torch.int32, device=vertices.device)
    starts[1:].scatter_add_(0, vertices, starts.new_ones(1).expand_as(vertices))
    return starts.cumsum(0, dtype=torch.int32)


def _checked_count(vertices: Tensor, largest: Tensor) -> int:
    """How many numbers `vertices` has, which ascend; this is the one wait for a GPU.

    Raises UserError where `largest` says that the codes they stand for are not exact.
    """
    last, bound = torch.stack([vertices[-1].double(), largest]).tolist()
    if not bound < MAX_CODE:  # nor if it is NaN
        raise UserError(
            "The CRF's standard deviations are too small for this image: its lattice has more "
            "points than can be numbered. Use larger ones."
        )
    return int(last) + 1


def _blur_matrices(codes: Tensor, steps: Tensor) -> list[Tensor]:
    """Blur (1/2, 1, 1/2) along each direction, as CSR (M+1,M+1) for M ascending `codes`.

    Row M is all zero, and so is whatever is taken from vertex M.
    """
    count = len(codes)
    row_starts = _regular_starts(count + 1, 3, codes.device)
    values = torch.full((count + 1, 3), NEIGHBOUR, device=codes.device)
    values[:, 0] = 1
    values = values.flatten()
    itself = torch.arange(count + 1, device=codes.device)
    nowhere = itself[-1]
    blurs = []
    for step in steps:
        # Sorted together, a vertex's code stands just before the equal code that points to it.
        both, origin = torch.cat([codes, codes + step]).sort(stable=True)
        below = torch.where(both[1:] == both[:-1], origin[1:] - count, nowhere)
        next_below = nowhere.repeat(2 * count).scatter_(0, origin[:-1], below)[: count + 1]
        next_below[-1] = nowhere
        next_above = torch.full_like(itself, count).scatter_(0, next_below, itself)
        next_above[-1] = nowhere
        columns = torch.stack([itself, next_above, next_below], 1).int().flatten()
        blurs.append(csr_matrix(row_starts, columns, values, count + 1))
    return blurs


def _regular_starts(num_rows: int, per_row: int, device: torch.device) -> Tensor:
    return torch.arange(0, num_rows * per_row + 1, per_row, dtype=torch.int32, device=device)
