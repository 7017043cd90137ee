"""Random walk of class scores over the pixels of an image, kept apart by its boundaries.

With A = affinity^beta and T = A / column sums, the walk is x T^(2^exp_times) from
x = cam * (1 - boundary). The original squares the dense T; here T stays sparse and meets nothing
but the K score vectors. T is similar to the symmetric D^-1/2 A D^-1/2, so its eigenvalues lie in
[-1, 1], where the power 256 is a sum of the first hundred Chebyshev polynomials.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from misc.affinity import most_entries, transition_matrix
from misc.csr import csr_product

METHODS = ("chebyshev", "exact")

# The truncated sum differs from the power by at most twice this (in the norm that D weighs). The
# score of a lone pixel sinks to 1e-4 of itself; even there 1e-10 stays below 1e-7 of the maximum.
CHEBYSHEV_TOLERANCE = 1e-10

MAX_JOINED = 2**26
"""Entries of the matrix and its vectors that several images may have together, some 2 GiB in all:
five times those of sixteen VOC images."""

Pair = tuple[Tensor, Tensor]
"""cam (K,h,w) and boundary (h,w) of an image."""


def chebyshev_coefficients(power: int, tolerance: float = CHEBYSHEV_TOLERANCE) -> list[float]:
    """Coefficients c with t^power = sum of c[k] T_k(t) on [-1, 1], within 2 * `tolerance`.

    They are binomials, c[k] ~ C(power, (power - k) / 2), halved for k = 0 and zero where k and
    `power` differ in parity; a rest that sums to at most `tolerance` is left out. The sum is 1, as
    1^power is, so scores that are equal everywhere stay so.
    """
    # Twelve standard deviations of the binomial: all that float64 could tell from 0.
    last = min(power, 12 * int(power**0.5 + 1))
    k = np.arange(power % 2, last + 1, 2)
    terms = np.cumprod(np.concatenate([[1.0], (power - k[:-1]) / (power + k[:-1] + 2)]))
    if k[0] == 0:
        terms[0] /= 2
    terms /= terms.sum()
    terms = terms[terms[::-1].cumsum()[::-1] > tolerance]
    coefficients = np.zeros(k[len(terms) - 1] + 1)
    coefficients[power % 2 :: 2] = terms / terms.sum()
    return coefficients.tolist()


def _chebyshev_vectors(matrix: Tensor, x: Tensor) -> Iterator[Tensor]:
    """T_k(matrix) x for k = 0, 1, 2, ..."""
    previous, current = x, csr_product(matrix, x)
    yield previous
    while True:
        yield current
        previous, current = current, csr_product(matrix, current, minus=previous)


def _walk(matrix: Tensor, x: Tensor, steps: int, method: str) -> Tensor:
    """matrix^steps @ x."""
    if method == "exact":
        for _ in range(steps):
            x = csr_product(matrix, x)
        return x
    total = torch.zeros_like(x)
    # The coefficients come first: when they end, no further product is made.
    vectors = _chebyshev_vectors(matrix, x)
    for coefficient, vector in zip(chebyshev_coefficients(steps), vectors, strict=False):
        if coefficient:
            total.add_(vector, alpha=coefficient)
    return total


def random_walk(
    cam: Tensor,
    boundary: Tensor,
    *,
    beta: float = 5,
    exp_times: int = 8,
    radius: int = 5,
    method: str = "chebyshev",
) -> Tensor:
    """Spread class scores by 2^exp_times steps of the random walk: x T^(2^exp_times).

    Args:
        cam: (K,h,w) class scores, floating point; K may be 0.
        boundary: (h,w) boundary probability 0..1 on the same device.
        beta: power of the affinities, > 0.
        exp_times: the walk has 2^exp_times steps; 0 is one step.
        radius: pixels nearer than this are joined.
        method: "chebyshev", or "exact" for 2^exp_times products one by one.

    Returns:
        (K,h,w) scores in the dtype and on the device of `cam`, computed in float64, not normalised.

    Raises:
        ValueError: `cam` and `boundary` differ in size, or a setting is out of range.
    """
    walked = random_walk_many(
        [(cam, boundary)], beta=beta, exp_times=exp_times, radius=radius, method=method
    )
    return walked[0]


@torch.no_grad()
def random_walk_many(
    pairs: Sequence[Pair],
    *,
    beta: float = 5,
    exp_times: int = 8,
    radius: int = 5,
    method: str = "chebyshev",
) -> list[Tensor]:
    """`random_walk` of several images (cam, boundary) of any sizes in one block-diagonal product.

    Fills a GPU, where a single image leaves it idle; on a CPU one image at a time is faster and
    takes less memory. Images are padded to the largest of them by walls, which changes nothing;
    more than `MAX_JOINED` lets in are walked in several products. Settings, results (in the order
    of `pairs`) and errors as for `random_walk`.
    """
    if method not in METHODS:
        raise ValueError(f"random walk: method is one of {METHODS}, not {method!r}")
    if exp_times < 0:
        raise ValueError(f"random walk: exp_times must be at least 0, got {exp_times}")
    for cam, boundary in pairs:
        _check_pair(cam, boundary)
    return [
        walked
        for group in _groups(pairs, radius)
        for walked in _walk_together(group, beta, 2**exp_times, radius, method)
    ]


def _groups(pairs: Sequence[Pair], radius: int) -> Iterator[list[Pair]]:
    """Portions of `pairs`, in order, that are small enough to be walked together."""
    group: list[Pair] = []
    for pair in pairs:
        if group and _joined_entries([*group, pair], radius) > MAX_JOINED:
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _joined_entries(pairs: Sequence[Pair], radius: int) -> int:
    channels, h, w = _largest(pairs)
    pixels = len(pairs) * h * w
    return most_entries(pixels, radius) + pixels * channels


def _largest(pairs: Sequence[Pair]) -> tuple[int, int, int]:
    channels, h, w = map(max, zip(*(cam.shape for cam, _ in pairs), strict=True))
    return channels, h, w


def _walk_together(
    pairs: Sequence[Pair], beta: float, steps: int, radius: int, method: str
) -> list[Tensor]:
    """`random_walk_many` in one product."""
    if all(cam.numel() == 0 for cam, _ in pairs):
        return [cam.clone() for cam, _ in pairs]
    channels, h, w = _largest(pairs)
    device = pairs[0][0].device
    cams = torch.zeros(len(pairs), h, w, channels, dtype=torch.float64, device=device)
    walls = torch.ones(len(pairs), h, w, dtype=torch.float64, device=device)
    for index, (cam, boundary) in enumerate(pairs):
        height, width = boundary.shape
        walls[index, :height, :width] = boundary
        cams[index, :height, :width, : len(cam)] = cam.movedim(0, 2)
    cams *= 1 - walls[..., None]
    matrix = transition_matrix(walls, beta=beta, radius=radius)
    walked = _walk(matrix, cams.reshape(-1, channels), steps, method).view_as(cams)
    return [
        scores.movedim(2, 0)[:, : cam.shape[1], : cam.shape[2]][: len(cam)].to(
            cam.dtype, memory_format=torch.contiguous_format, copy=True
        )
        for scores, (cam, _) in zip(walked, pairs, strict=True)
    ]


def _check_pair(cam: Tensor, boundary: Tensor) -> None:
    if cam.ndim != 3 or boundary.ndim != 2 or cam.shape[1:] != boundary.shape:
        raise ValueError(
            f"random walk: needs cam (K,h,w) and boundary (h,w) of one size, got "
            f"{tuple(cam.shape)} and {tuple(boundary.shape)}; crop both to the stride-4 size of "
            "the image, ((H-1)//4+1, (W-1)//4+1)"
        )
    if not cam.is_floating_point():
        raise ValueError(f"random walk: cam must be floating point, got {cam.dtype}")
