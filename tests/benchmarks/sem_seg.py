"""Pseudo masks of a 500x375 image: the network's forward, and everything else.

python -m tests.benchmarks.sem_seg [--quick] [--json FILE] [--images 24] [--squarings 1]
"""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from misc.boundary_label import regions_to_mask
from misc.cam_files import read_cams
from misc.cam_files.maps import resize
from misc.crf import MASK_CRF, DenseCrf
from misc.images import read_image, write_palette_png
from misc.pseudo_mask import scores_to_regions
from misc.random_walk import random_walk
from misc.transforms import image_pyramid
from net.boundary import BoundaryNetwork
from tests.benchmarks.common import Report, count_flops, make_parser, matmul_rate, time_call
from tests.benchmarks.inputs import (
    NUM_CLASSES,
    QUICK_SCALE,
    Picture,
    backbone_name,
    build_network,
    read_picture,
    run_steps,
    write_dataset,
    write_weights,
)
from tests.benchmarks.random_walk import (
    EXP_TIMES,
    dense_transition,
    dense_walk,
    relative_error,
    square,
)

BACKGROUND_SCORE = 0.21
STEPS = ("make_walk", "make_sem_seg")


@torch.no_grad()
def predict(network: BoundaryNetwork, picture: Picture) -> torch.Tensor:
    """Boundary (h,w) of the image, reading left out."""
    x_pair = torch.from_numpy(image_pyramid(picture.image, (1.0,))[0])
    return network.boundary_of_pair(x_pair)


def walk(cam: np.ndarray, boundary: torch.Tensor) -> np.ndarray:
    return random_walk(torch.from_numpy(cam), boundary).numpy()


def smooth(picture: Picture, regions: np.ndarray, backend: str = "torch") -> np.ndarray:
    crf = DenseCrf(picture.image, MASK_CRF, backend=backend)
    return crf.from_labels(regions, len(picture.class_ids) + 1)


def small_cam(picture: Picture, boundary: torch.Tensor) -> np.ndarray:
    """The CAMs at the boundary's size."""
    height, width = boundary.shape
    return resize(picture.cam, (height, width))


def walk_and_smooth(picture: Picture, boundary: torch.Tensor, cam: np.ndarray) -> np.ndarray:
    scores = walk(cam, boundary)
    return smooth(picture, scores_to_regions(scores, picture.mask.shape, BACKGROUND_SCORE))


def add_parts(
    report: Report, picture: Picture, network: BoundaryNetwork, root: Path, repeats: int
) -> tuple[float, float]:
    """Forward and everything else, one after the other; returns the seconds of both."""
    size = picture.mask.shape
    cam_file = root / "cam" / "000000.npy"
    cam = read_cams(cam_file, size, num_classes=NUM_CLASSES, parts=["cam"]).cam
    boundary = predict(network, picture)
    scores = walk(cam, boundary)
    regions = scores_to_regions(scores, size, BACKGROUND_SCORE)
    mask = regions_to_mask(regions, picture.class_ids)

    def write_both() -> None:
        for suffix in ("", "_crf"):
            write_palette_png(root / f"mask{suffix}.png", mask)

    forward = time_call(partial(predict, network, picture), repeats)
    report.add("forward of the image and its mirror image", seconds=forward)
    parts: dict[str, Callable[[], object]] = {
        "reading the image": lambda: read_image(root / "voc" / "JPEGImages" / "000000.jpg"),
        "reading CAMs": lambda: read_cams(cam_file, size, num_classes=NUM_CLASSES, parts=["cam"]),
        "graph and walk": lambda: walk(cam, boundary),
        "labels": lambda: scores_to_regions(scores, size, BACKGROUND_SCORE),
        "CRF": lambda: smooth(picture, regions),
        "writing both masks": write_both,
    }
    others = 0.0
    for name, work in parts.items():
        seconds = time_call(work, repeats)
        others += seconds
        report.add(name, seconds=seconds)
    report.add("everything but the forward, in line", seconds=others)
    flops = count_flops(partial(predict, network, picture))
    rate = matmul_rate()
    report.add_floor(
        f"forward, {flops / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s", flops / rate, forward
    )
    return forward, others


def add_reference(
    report: Report, picture: Picture, network: BoundaryNetwork, forward: float, squarings: int
) -> float:
    """The reference's way: the same forward, dense squarings, then a CRF of pydensecrf."""
    boundary = predict(network, picture)
    small = torch.from_numpy(small_cam(picture, boundary))
    transition = dense_transition(boundary)
    walked: list[torch.Tensor] = []

    def dense() -> None:
        walked.append(square(transition, squarings))

    seconds = time_call(dense, 1, warmup=0) * EXP_TIMES / squarings
    expected = dense_walk(small, boundary, walked[0]).double()
    found = random_walk(small.double(), boundary, exp_times=squarings)
    error = relative_error(found, expected)
    backend = "pydensecrf" if importlib.util.find_spec("pydensecrf") else "torch"
    regions = scores_to_regions(small.numpy(), picture.mask.shape, BACKGROUND_SCORE)
    crf = time_call(partial(smooth, picture, regions, backend), 1)
    total = forward + seconds + crf
    extrapolated = "" if squarings == EXP_TIMES else f" ({squarings} timed, extrapolated)"
    report.add(
        f"reference: forward, {EXP_TIMES} dense squarings{extrapolated}, CRF ({backend})",
        seconds=total,
        error=error,
    )
    return total


def add_steps(
    report: Report, root: Path, count: int, name: str, times: tuple[float, float, float]
) -> None:
    """Both steps over the command line; `times`: forward, everything else, reference."""
    forward, others, reference = times
    weights = write_weights(build_network(BoundaryNetwork, name), root / "bes.pth")
    over = {}
    for processes, how in ((0, "all in line"), (2, "2 processes")):
        said = run_steps(
            STEPS, root, root / f"processes{processes}", f"--num_workers={processes}",
            f"--cam_out_dir={root / 'cam'}", f"--bes_weights_name={weights}", "--device=cpu",
            f"--backbone={name}",
        )  # fmt: skip
        each = sum(step["seconds"] for step in said.values()) / count
        over[processes] = each - forward
        report.add(
            f"make_walk and make_sem_seg, {count} images, {how}",
            seconds=each,
            over_forward=each - forward,
            times_faster=reference / each,
        )
    if report.quick:
        return
    report.target("an image, seconds over its forward, 2 processes", over[2], at_most=0.6)
    report.target("an image, seconds over its forward, all in line", over[0], at_most=0.6)
    report.target("everything but the forward, in line, seconds", others, at_most=0.6)


def grow(report: Report, name: str, base: float, repeats: int) -> None:
    """How forward and the rest grow with area, and the rest with classes."""
    network = build_network(BoundaryNetwork, name)
    for what, area, classes in [
        *((f"area x{area}", area, None) for area in (1, 2, 4)),
        *((f"classes {classes}", 1, classes) for classes in (1, 4, 18)),
    ]:
        picture = read_picture(base * area**0.5, classes)
        boundary = predict(network, picture)
        cam = small_cam(picture, boundary)
        forward = time_call(partial(predict, network, picture), repeats)
        others = time_call(partial(walk_and_smooth, picture, boundary, cam), repeats)
        height, width = picture.mask.shape
        report.add(f"{what}, {width}x{height}", forward=forward, walk_labels_and_crf=others)


def grow_images(report: Report, root: Path, name: str, counts: Sequence[int]) -> None:
    """One step over so many small images, loading the network included."""
    picture = read_picture(QUICK_SCALE)
    for count in counts:
        folder = root / f"images{count}"
        write_dataset(folder, count, picture)
        said = run_steps(
            STEPS, folder, folder / "out", "--num_workers=1", "--device=cpu",
            f"--cam_out_dir={folder / 'cam'}", f"--bes_weights_name={root / 'bes.pth'}",
            f"--backbone={name}",
        )  # fmt: skip
        seconds = sum(step["seconds"] for step in said.values())
        report.add(
            f"both steps, {count} images of {picture.mask.shape[1]} pixels, 1 process",
            seconds=seconds,
            each=seconds / count,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=24, help="images of a step (default: 24)")
    parser.add_argument(
        "--squarings",
        type=int,
        default=1,
        choices=range(1, EXP_TIMES + 1),
        help="time so many dense squarings and extrapolate to 8 (default: 1)",
    )
    args: argparse.Namespace = parser.parse_args(arguments)
    repeats, count = (1, 2) if args.quick else (7, args.images)
    scale, name = QUICK_SCALE if args.quick else 1.0, backbone_name(args.quick)
    picture, network = read_picture(scale), build_network(BoundaryNetwork, name)
    report = Report("Pseudo masks", quick=args.quick)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, count, picture)
        forward, others = add_parts(report, picture, network, root, repeats)
        reference = add_reference(report, picture, network, forward, args.squarings)
        add_steps(report, root, count, name, (forward, others, reference))
        grow_images(report, root, name, (1,) if args.quick else (1, 16, 64))
    grow(report, name, scale / 2, 1 if args.quick else 3)
    report.finish(args.json)


if __name__ == "__main__":
    main()
