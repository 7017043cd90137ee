"""The random walk of a 500x375 image: ours against squaring the dense matrix eight times.

python -m tests.benchmarks.random_walk [--quick] [--json FILE] [--device cuda] [--squarings 1]
"""

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from misc.affinity import search_paths, transition_matrix
from misc.random_walk import chebyshev_coefficients, random_walk, random_walk_many
from tests.benchmarks.common import (
    Report,
    copy_rate,
    make_parser,
    matmul_rate,
    measure_once,
    time_call,
)

BETA, RADIUS, EXP_TIMES = 5, 5, 8
FULL_GRID, QUICK_GRID = (94, 125), (40, 50)


def make_input(h: int, w: int, classes: int, device: str) -> tuple[Tensor, Tensor]:
    """Smooth random cam (classes,h,w) and boundary (h,w) in 0..1, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, classes + 1, h // 6 + 2, w // 6 + 2, generator=generator)
    maps = interpolate(coarse, (h, w), mode="bicubic", align_corners=False)[0].clamp(0, 1)
    return maps[1:].to(device), maps[0].to(device)


def dense_transition(boundary: Tensor) -> Tensor:
    """The reference's N x N float32 transition matrix."""
    h, w = boundary.shape
    pixel = torch.arange(h * w, device=boundary.device).view(h, w)
    dense = torch.eye(h * w, device=boundary.device)
    for dy, dx, pixels in search_paths(RADIUS):
        height, width, left = h - dy, w - abs(dx), max(-dx, 0)
        along = [boundary[y : y + height, left + x : left + x + width] for y, x in pixels]
        affinity = (1 - torch.stack(along).amax(0)) ** BETA
        a, b = pixel[:height, left : left + width], pixel[dy:, left + dx : left + dx + width]
        dense[a, b] = dense[b, a] = affinity
    return dense.div_(dense.sum(0))


def square(transition: Tensor, times: int) -> Tensor:
    """The reference's walk matrix: the dense transition squared `times` times."""
    for _ in range(times):
        transition = transition @ transition
    return transition


def dense_walk(cam: Tensor, boundary: Tensor, walk: Tensor) -> Tensor:
    return ((cam * (1 - boundary)).flatten(1) @ walk).view_as(cam)


def relative_error(result: Tensor, expected: Tensor) -> float:
    return ((result - expected).abs().max() / expected.max()).item()


def compare(report: Report, args: argparse.Namespace) -> None:
    """Ours and the dense way on one input, with memory, errors and the floor."""
    h, w = QUICK_GRID if args.quick else FULL_GRID
    repeats = 1 if args.quick else 20
    cam, boundary = make_input(h, w, 2, args.device)
    first = measure_once(partial(random_walk, cam, boundary), args.device)
    exact = random_walk(cam.double(), boundary, method="exact")
    # Only the squarings are timed, which is to the dense way's favour.
    dense = measure_once(partial(square, dense_transition(boundary), args.squarings), args.device)
    dense_seconds = dense.seconds * EXP_TIMES / args.squarings
    extrapolated = "" if args.squarings == EXP_TIMES else f" ({args.squarings} timed, extrapolated)"
    same_power = random_walk(cam.double(), boundary, exp_times=args.squarings)
    name = f"{h}x{w}, 2 classes"
    report.add(
        f"dense, {EXP_TIMES} squarings{extrapolated}, {name}",
        seconds=dense_seconds,
        peak_mib=dense.peak_mib,
        error=relative_error(dense_walk(cam, boundary, dense.result).double(), same_power),
    )
    for method in ("chebyshev", "exact"):
        seconds = time_call(partial(random_walk, cam, boundary, method=method), repeats)
        walked = random_walk(cam.double(), boundary, method=method)
        error = relative_error(walked, exact)
        report.add(
            f"{method}, {name}",
            seconds=seconds,
            peak_mib=first.peak_mib if method == "chebyshev" else float("nan"),
            error=error,
            times_faster=dense_seconds / seconds,
        )
        if method == "chebyshev":
            report.target("graph and walk, seconds", seconds, at_most=0.12)
            report.target("graph and walk, MiB over base", first.peak_mib, at_most=100)
            faster = dense_seconds / seconds
            report.target("times faster than eight dense squarings", faster, at_least=1500)
            report.target("error against 256 steps, of the maximum", error, at_most=1e-7)
    add_floor(report, cam, boundary, repeats, args.device)


def add_floor(report: Report, cam: Tensor, boundary: Tensor, repeats: int, device: str) -> None:
    """Graph alone, and what moving the matrix once a product would take at copying speed."""
    graph = time_call(lambda: transition_matrix(boundary, beta=BETA, radius=RADIUS), repeats)
    report.add("of which the graph", seconds=graph)
    matrix = transition_matrix(boundary, beta=BETA, radius=RADIUS)
    matrix_bytes = matrix.values().nbytes + matrix.col_indices().nbytes
    products = len(chebyshev_coefficients(2**EXP_TIMES)) - 1
    rate = copy_rate(matrix_bytes, device)
    floor = products * (matrix_bytes + 3 * 8 * cam.numel()) / rate
    total = time_call(partial(random_walk, cam, boundary), repeats)
    report.add_floor(f"{products} products at {rate / 1e9:.0f} GB/s", floor, total)
    flops = 2 * boundary.numel() ** 3 * EXP_TIMES
    report.add("floor of the dense way", seconds=flops / matmul_rate(device=device))


def grow(report: Report, args: argparse.Namespace) -> None:
    """How time grows with area, classes, and images in one product."""
    h, w = QUICK_GRID if args.quick else FULL_GRID
    repeats = 1 if args.quick else 10
    for area in (1, 2, 4):
        side = area**0.5
        cam, boundary = make_input(round(h * side), round(w * side), 2, args.device)
        seconds = time_call(partial(random_walk, cam, boundary), repeats)
        report.add(f"area x{area}, {boundary.shape[0]}x{boundary.shape[1]}", seconds=seconds)
    for classes in (1, 4, 18):
        cam, boundary = make_input(h, w, classes, args.device)
        seconds = time_call(partial(random_walk, cam, boundary), repeats)
        report.add(f"classes {classes}", seconds=seconds)
    pair = make_input(h, w, 2, args.device)
    for images in (1, 4) if args.quick else (1, 4, 16, 64):
        together = time_call(partial(random_walk_many, [pair] * images), max(repeats // 4, 1))
        report.add(f"images in one product {images}", seconds=together, each=together / images)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--squarings",
        type=int,
        default=EXP_TIMES,
        choices=range(1, EXP_TIMES + 1),
        help="time fewer dense squarings and extrapolate to 8 (default: 8)",
    )
    args = parser.parse_args(arguments)
    report = Report("Random walk", quick=args.quick)
    compare(report, args)
    grow(report, args)
    report.finish(args.json)


if __name__ == "__main__":
    main()
