"""CAMs of a 500x375 image over four scales and their mirror images, against the forwards alone.

python -m tests.benchmarks.make_cam [--quick] [--json FILE] [--images 24]

A step has 24 images, since worker processes start once, in one to three seconds, and real lists
have thousands of images; the row of a step of one small image shows that start.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from misc.transforms import image_pyramid
from net.cam import CamClassifier, combine_scales
from tests.benchmarks.common import Report, count_flops, make_parser, matmul_rate, time_call
from tests.benchmarks.inputs import (
    NUM_CLASSES,
    QUICK_SCALE,
    Picture,
    backbone_name,
    build_network,
    read_picture,
    reference_network,
    run_step,
    write_dataset,
    write_weights,
)

SCALES = (1.0, 0.5, 1.5, 2.0)
Maps = tuple[Tensor, Tensor]


def levels_of(picture: Picture) -> list[Tensor]:
    return [torch.from_numpy(level) for level in image_pyramid(picture.image, SCALES)]


@torch.no_grad()
def forwards(classifier: CamClassifier, levels: list[Tensor]) -> list[Tensor]:
    return [classifier.cams_of_pair(level) for level in levels]


def our_cams(classifier: CamClassifier, levels: list[Tensor], picture: Picture) -> Maps:
    height, width = picture.mask.shape
    maps = forwards(classifier, levels)
    return combine_scales(maps, (height, width), picture.class_ids.tolist())


@torch.no_grad()
def reference_cams(classifier: CamClassifier, levels: list[Tensor], picture: Picture) -> Maps:
    """The maps of `reference_network`, those of every class of the dataset enlarged."""
    maps = forwards(classifier, levels)
    height, width = picture.mask.shape
    sizes = [((height - 1) // 4 + 1, (width - 1) // 4 + 1)]
    sizes += [(((height - 1) // 16 + 1) * 16, ((width - 1) // 16 + 1) * 16)]
    present = torch.from_numpy(picture.class_ids) - 1
    results = []
    for size in sizes:
        enlarged = [
            interpolate(each[None], size, mode="bilinear", align_corners=False)[0] for each in maps
        ]
        total = torch.stack(enlarged).sum(0)[present, :height, :width]
        results.append(total / (total.amax((1, 2), keepdim=True) + 1e-5))
    return results[0], results[1]


def compare(report: Report, picture: Picture, classifier: CamClassifier, repeats: int) -> float:
    """The reference's way and ours on one image; returns the seconds of our forwards."""
    levels = levels_of(picture)
    theirs_of = reference_network(CamClassifier, classifier.backbone.name)
    theirs, ours = reference_cams(theirs_of, levels, picture), our_cams(classifier, levels, picture)
    error = max(float((a - b).abs().max()) for a, b in zip(theirs, ours, strict=True))
    reference = time_call(partial(reference_cams, theirs_of, levels, picture), repeats)
    sum_of_forwards = 0.0
    for scale, level in zip(SCALES, levels, strict=True):
        seconds = time_call(partial(forwards, classifier, [level]), repeats)
        sum_of_forwards += seconds
        report.add(f"forward of both at scale {scale:g}", seconds=seconds)
    report.add("sum of the forwards", seconds=sum_of_forwards)
    report.add("scaling and normalising", seconds=time_call(partial(levels_of, picture), repeats))
    seconds = time_call(partial(our_cams, classifier, levels, picture), repeats)
    report.add("ours, without files", seconds=seconds, over_forwards=seconds / sum_of_forwards)
    report.add(
        f"reference: channels first, norms by themselves, all {NUM_CLASSES} classes enlarged",
        seconds=reference,
        error=error,
    )
    report.target("largest difference from the reference's CAMs", error, at_most=1e-4)
    flops, rate = count_flops(partial(forwards, classifier, levels)), matmul_rate()
    report.add_floor(f"{flops / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s", flops / rate, seconds)
    return sum_of_forwards


def add_steps(report: Report, root: Path, count: int, name: str, sum_of_forwards: float) -> None:
    """The whole step over the command line, files included."""
    for processes in (0, 2):
        said = run_step(
            "make_cam", root, root / f"processes{processes}", f"--num_workers={processes}",
            f"--cam_weights_name={root / 'cam.pth'}", "--device=cpu", f"--backbone={name}",
        )  # fmt: skip
        over = said["seconds"] / count / sum_of_forwards
        report.add(
            f"make_cam, {count} images, {processes} worker processes",
            seconds=said["seconds"] / count,
            over_forwards=over,
        )
        if processes and not report.quick:
            report.target("an image over the sum of its forwards", over, at_most=1.1)


def grow(
    report: Report, classifier: CamClassifier, root: Path, base: float, *, quick: bool
) -> None:
    """How an image's time grows with its area and classes, and a step's with its images."""
    repeats = 1 if quick else 2
    for what, area, classes in [
        *((f"area x{area}", area, None) for area in (1, 2, 4)),
        *((f"classes {classes}", 1, classes) for classes in (1, 4, 18)),
    ]:
        picture = read_picture(base * area**0.5, classes)
        levels = levels_of(picture)
        seconds = time_call(partial(our_cams, classifier, levels, picture), repeats)
        report.add(f"{what}, {picture.mask.shape[1]}x{picture.mask.shape[0]}", seconds=seconds)
    small = read_picture(QUICK_SCALE)
    for count in (1,) if quick else (1, 16, 64):
        folder = root / f"images{count}"
        write_dataset(folder, count, small)
        said = run_step(
            "make_cam", folder, folder / "out", "--num_workers=1", "--device=cpu",
            f"--cam_weights_name={root / 'cam.pth'}",
            f"--backbone={classifier.backbone.name}",
        )  # fmt: skip
        report.add(
            f"make_cam, {count} images of {small.mask.shape[1]} pixels, 1 worker process",
            seconds=said["seconds"],
            each=said["seconds"] / count,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=24, help="images of a step (default: 24)")
    args: argparse.Namespace = parser.parse_args(arguments)
    name, count = backbone_name(args.quick), 1 if args.quick else args.images
    scale = QUICK_SCALE if args.quick else 1.0
    picture, classifier = read_picture(scale), build_network(CamClassifier, name)
    report = Report("Class activation maps", quick=args.quick)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, count, picture)
        write_weights(classifier, root / "cam.pth")
        sum_of_forwards = compare(report, picture, classifier, 1 if args.quick else 3)
        add_steps(report, root, count, name, sum_of_forwards)
        grow(report, classifier, root, scale / 2, quick=args.quick)
    report.finish(args.json)


if __name__ == "__main__":
    main()
