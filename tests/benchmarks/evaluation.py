"""Scoring 1,464 masks and sweeping 100 thresholds over CAMs, in constant memory.

python -m tests.benchmarks.evaluation [--quick] [--json FILE]
"""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from misc.cam_files import read_cams
from misc.images import read_mask
from misc.metrics import ConfusionMatrix, ThresholdSweep
from tests.benchmarks.common import Report, copy_rate, make_parser, measure_once, time_call
from tests.benchmarks.inputs import (
    NUM_CLASSES,
    QUICK_SCALE,
    Picture,
    read_picture,
    run_step,
    write_dataset,
)

CLASSES = NUM_CLASSES + 1
THRESHOLDS = tuple(((np.arange(100) + 0.5) / 100).tolist())
ONE = 0.21
VOC_IMAGES, QUICK_IMAGES = 1464, 12


def masks_of(root: Path, count: int) -> list[tuple[Path, Path]]:
    """(exact mask, mask) paths of `count` images, all of them names of one file each."""
    folder = root / "voc" / "SegmentationClass"
    others = root / "masks"
    others.mkdir(exist_ok=True)
    pairs = []
    for index in range(count):
        path = others / f"{index:06d}.png"
        if not path.exists():
            os.link(folder / "000000.png", path)
        pairs.append((path, path))
    return pairs


def one_by_one(pairs: Sequence[tuple[Path, Path]]) -> ConfusionMatrix:
    confusion = ConfusionMatrix(CLASSES)
    for truth, mask in pairs:
        confusion.add(read_mask(truth), read_mask(mask))
    return confusion


def all_in_memory(pairs: Sequence[tuple[Path, Path]]) -> ConfusionMatrix:
    """The reference's way: every mask is read before the first is scored."""
    masks = [(read_mask(truth), read_mask(mask)) for truth, mask in pairs]
    confusion = ConfusionMatrix(CLASSES)
    for truth, mask in masks:
        confusion.add(truth, mask)
    return confusion


def at_one_threshold(picture: Picture, threshold: float = ONE) -> ConfusionMatrix:
    """The reference's way: argmax over [threshold, CAMs] of one image, then its counts."""
    padded = np.pad(picture.cam, ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
    names = np.concatenate([[0], picture.class_ids])
    confusion = ConfusionMatrix(CLASSES)
    confusion.add(picture.mask, names[padded.argmax(0)])
    return confusion


def sweep(picture: Picture, thresholds: Sequence[float]) -> ThresholdSweep:
    found = ThresholdSweep(thresholds, CLASSES)
    found.add(picture.mask, picture.cam, picture.class_ids)
    return found


def add_memory(report: Report, root: Path, counts: Sequence[int]) -> None:
    """Time and peak memory over the number of images, both ways."""
    peaks: list[float] = []
    one_by_one(masks_of(root, 1))
    for count in counts:
        pairs = masks_of(root, count)
        measured = measure_once(partial(one_by_one, pairs))
        peaks.append(measured.peak_mib)
        report.add(
            f"ours, {count} images", seconds=measured.seconds, peak_mib=measured.peak_mib,
            ms_an_image=1000 * measured.seconds / count,
        )  # fmt: skip
    pairs = masks_of(root, counts[-1])
    measured = measure_once(partial(all_in_memory, pairs))
    report.add(
        f"reference: all in memory, {counts[-1]} images", seconds=measured.seconds,
        peak_mib=measured.peak_mib, ms_an_image=1000 * measured.seconds / counts[-1],
    )  # fmt: skip
    if not np.array_equal(measured.result.matrix, one_by_one(pairs).matrix):
        raise RuntimeError("both ways of scoring differ")
    more = peaks[-1] - peaks[0]
    report.target(f"MiB that {counts[-1]} images take over {counts[0]}", more, at_most=5)


def add_sweep(report: Report, picture: Picture, root: Path, repeats: int) -> None:
    """100 thresholds against one, exact at each, with reading and without."""
    found = sweep(picture, THRESHOLDS)
    for index, threshold in enumerate(THRESHOLDS):
        expected = at_one_threshold(picture, threshold).matrix
        if not np.array_equal(found.confusion(index).matrix, expected):
            raise RuntimeError(f"the sweep is not exact at {threshold}")

    def read() -> None:
        read_mask(root / "voc" / "SegmentationClass" / "000000.png")
        read_cams(
            root / "cam" / "000000.npy", picture.mask.shape, num_classes=NUM_CLASSES,
            parts=["high_res"],
        )  # fmt: skip

    ways: dict[str, Callable[[], object]] = {
        "reading a mask and its CAMs": read,
        "reference: argmax at one threshold": partial(at_one_threshold, picture),
        "a sweep over one threshold": partial(sweep, picture, [ONE]),
        "a sweep over 100 thresholds": partial(sweep, picture, THRESHOLDS),
    }
    seconds = {what: time_call(work, repeats) for what, work in ways.items()}
    reading, reference, one, every = seconds.values()
    for what, each in seconds.items():
        report.add(what, ms_an_image=1000 * each)
    report.add(
        "100 thresholds over one", times_one=every / one, times_reference=every / reference,
        times_one_with_reading=(reading + every) / (reading + one),
    )  # fmt: skip
    if not report.quick:
        report.target("100 thresholds over one, counting alone", every / one, at_most=1.3)
    moved = picture.cam.nbytes + picture.mask.nbytes
    floor = moved / copy_rate(moved)
    report.add_floor(f"reading {moved / 1e6:.1f} MB of arrays once", floor, every)


def add_processes(report: Report, root: Path, count: int) -> None:
    """eval_cam over the command line, all 99 thresholds and more."""
    alone = 0.0
    for processes in (1, 2):
        said = run_step(
            "eval_cam", root, root / f"processes{processes}", f"--num_workers={processes}",
            f"--cam_out_dir={root / 'cam'}", "--device=cpu",
        )  # fmt: skip
        alone = alone or said["seconds"]
        report.add(
            f"eval_cam, {count} images, {processes} processes", seconds=said["seconds"],
            ms_an_image=1000 * said["seconds"] / count,
            times_one_process=alone / said["seconds"],
        )  # fmt: skip


def grow(report: Report, base: float, repeats: int) -> None:
    """How the sweep grows with area and classes."""
    for what, area, classes in [
        *((f"area x{area}", area, None) for area in (1, 2, 4)),
        *((f"classes {classes}", 1, classes) for classes in (1, 4, 18)),
    ]:
        picture = read_picture(base * area**0.5, classes)
        one = time_call(partial(sweep, picture, [ONE]), repeats)
        every = time_call(partial(sweep, picture, THRESHOLDS), repeats)
        report.add(
            f"{what}, {picture.mask.shape[1]}x{picture.mask.shape[0]}, 100 thresholds",
            ms_an_image=1000 * every, times_one=every / one,
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    args: argparse.Namespace = make_parser(__doc__).parse_args(arguments)
    scale, repeats = (QUICK_SCALE, 1) if args.quick else (1.0, 15)
    count = QUICK_IMAGES if args.quick else VOC_IMAGES
    processed = QUICK_IMAGES if args.quick else 512
    picture = read_picture(scale)
    report = Report("Scoring", quick=args.quick)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, processed, picture)
        add_memory(report, root, (1, count) if args.quick else (1, 64, count))
        add_sweep(report, picture, root, repeats)
        add_processes(report, root, processed)
    grow(report, scale, 1 if args.quick else 7)
    report.finish(args.json)


if __name__ == "__main__":
    main()
