"""Affinities between neighbouring pixels, and the random walk's transition matrix, kept sparse.

Pixels closer than `radius` are joined with the affinity `1 - max(boundary along the path)`: a
boundary of 1 is a wall, outside the image the affinity is 0, with itself it is 1 (Ahn, Cho, Kwak:
"Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations", CVPR 2019). At
radius 5 a row has at most 69 entries, so the matrices are torch CSR tensors.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from misc.csr import csr_matrix, csr_product

MAX_ENTRIES = 2**31 - 1
"""Entries are numbered in int32."""


class SearchPath(NamedTuple):
    """The pixels looked at between a pixel and its neighbour at (dy, dx), both ends included."""

    dy: int
    dx: int
    pixels: tuple[tuple[int, int], ...]


class _GridStructure(NamedTuple):
    """Where the entries of the affinity matrix of an (h, w) grid lie (CSR, int32)."""

    row_starts: Tensor
    columns: Tensor
    sources: Tensor  # place of each entry in the flat (offsets + 1, h, w) affinity planes


@functools.cache
def search_paths(radius: int) -> tuple[SearchPath, ...]:
    """Paths to the half-plane neighbours within `radius`, shortest first.

    A path is every pixel of the offset's bounding box that is nearer than 1 to the straight line.
    """
    reach = range(1 - radius, radius)
    offsets = [(0, dx) for dx in range(1, radius)]
    offsets += [(dy, dx) for dy in range(1, radius) for dx in reach if dy**2 + dx**2 < radius**2]
    paths = [
        SearchPath(
            dy,
            dx,
            tuple(
                (y, x)
                for y in range(dy + 1)
                for x in range(min(dx, 0), max(dx, 0) + 1)
                if (dy * x - dx * y) ** 2 < dy**2 + dx**2
            ),
        )
        for dy, dx in offsets
    ]
    return tuple(sorted(paths, key=lambda path: len(path.pixels)))


def most_entries(pixels: int, radius: int) -> int:
    """Entries of the affinity matrix of so many pixels if each had all its neighbours."""
    return pixels * (2 * len(search_paths(radius)) + 1)


def _affinity_planes(boundary: Tensor, beta: float, radius: int) -> Tensor:
    """Affinity^beta of every pixel with each neighbour of the half plane, then with itself.

    boundary: (B,h,w) float64. Returns (B, offsets + 1, h, w), 0 where the neighbour is outside.
    """
    batch, h, w = boundary.shape
    paths = search_paths(radius)
    planes = boundary.new_ones(batch, len(paths) + 1, h, w)
    for plane, (dy, dx, pixels) in enumerate(paths):
        height, width, left = h - dy, w - abs(dx), max(-dx, 0)
        if height <= 0 or width <= 0:
            continue
        highest = planes[:, plane, :height, left : left + width]
        highest.zero_()
        for y, x in pixels:
            along = boundary[:, y : y + height, left + x : left + x + width]
            torch.maximum(highest, along, out=highest)
    planes[:, -1] = 0
    return planes.neg_().add_(1).pow_(beta)


@functools.lru_cache(maxsize=8)
def _grid_structure(h: int, w: int, radius: int, device: torch.device) -> _GridStructure:
    """Structure of the (h*w, h*w) matrix: columns ascending in each row, pairs in both directions.

    Cached because most images of a data set share a few sizes (10 MB each at 94x125).
    """
    paths = search_paths(radius)
    neighbours = [(path.dy, path.dx, plane) for plane, path in enumerate(paths)]
    neighbours += [(-dy, -dx, plane) for dy, dx, plane in neighbours]
    neighbours.append((0, 0, len(paths)))
    dy, dx, plane = torch.tensor(sorted(neighbours), dtype=torch.int32, device=device).T
    y = torch.arange(h, dtype=torch.int32, device=device)[:, None, None] + dy
    x = torch.arange(w, dtype=torch.int32, device=device)[None, :, None] + dx
    inside = ((y >= 0) & (y < h) & (x >= 0) & (x < w)).flatten(0, 1)
    rows, neighbour = inside.nonzero(as_tuple=True)
    columns = rows + (dy * w + dx)[neighbour]
    # An offset of the half plane leads to a later pixel: the plane holds it at the earlier one.
    sources = plane[neighbour] * (h * w) + torch.minimum(rows, columns)
    row_starts = torch.zeros(h * w + 1, dtype=torch.int32, device=device)
    row_starts[1:] = inside.sum(1).cumsum(0)
    return _GridStructure(row_starts, columns.int(), sources.int())


@torch.no_grad()
def affinity_matrix(boundary: Tensor, *, beta: float = 5, radius: int = 5) -> Tensor:
    """Affinity^beta between the pixels of each image.

    Args:
        boundary: (h,w), or (B,h,w) for B separate images; probabilities 0..1.
        beta: power of the affinity, > 0; larger keeps scores more local.
        radius: pixels nearer than this are joined.

    Returns:
        Symmetric block-diagonal CSR matrix (B*h*w, B*h*w) in float64, ones on its diagonal.

    Raises:
        ValueError: a setting is out of range, or the images have more pixels than can be joined.
    """
    if beta <= 0 or radius < 1:
        raise ValueError(f"affinity: needs beta > 0 and radius >= 1, got {beta} and {radius}")
    boundary = boundary.reshape(-1, *boundary.shape[-2:])
    batch, h, w = boundary.shape
    if most_entries(batch * h * w, radius) > MAX_ENTRIES:
        raise ValueError(
            f"affinity: {batch} x {h} x {w} pixels with their neighbours within {radius} are more "
            f"than {MAX_ENTRIES} entries; pass fewer images at once, or smaller ones"
        )
    planes = _affinity_planes(boundary.double(), beta, radius)
    structure = _grid_structure(h, w, radius, boundary.device)
    values = planes.reshape(batch, -1).index_select(1, structure.sources).flatten()
    image = torch.arange(batch, dtype=torch.int32, device=boundary.device)[:, None]
    columns = (structure.columns + image * (h * w)).flatten()
    row_starts = (structure.row_starts[:-1] + image * len(structure.columns)).flatten()
    row_starts = torch.cat([row_starts, row_starts.new_full((1,), len(columns))])
    return csr_matrix(row_starts, columns, values, len(row_starts) - 1)


@torch.no_grad()
def transition_matrix(boundary: Tensor, *, beta: float = 5, radius: int = 5) -> Tensor:
    """The transposed transition T^T = D^-1 A, so that `matrix @ x` is one step of columns x.

    Same arguments and layout as `affinity_matrix`; every row sums to 1 (every column of T).
    """
    affinity = affinity_matrix(boundary, beta=beta, radius=radius)
    row_starts, values = affinity.crow_indices(), affinity.values()
    degrees = csr_product(affinity, values.new_ones(len(row_starts) - 1, 1)).flatten()
    per_entry = degrees.repeat_interleave(row_starts.diff(), output_size=len(values))
    return csr_matrix(row_starts, affinity.col_indices(), values / per_entry, len(degrees))
