"""WSSS-BED's masks at 50 x 10 pairs of thresholds against one pair, reading included.

python -m tests.benchmarks.grid [--quick] [--json FILE]
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy import ndimage

from misc.cam_files import CamFolder
from misc.images import read_mask, write_palette_png
from misc.metrics import ConfusionMatrix
from misc.saliency import read_saliency
from misc.wsss_bed import ThresholdGrid, make_wsss_bed_mask
from tests.benchmarks.common import Report, make_parser, measure_once, time_call

CLASSES = 21
ACT = tuple((np.arange(50) / 50).tolist())
SAL = tuple((np.arange(10) / 10).tolist())
FULL_SIZE, QUICK_SIZE = (375, 500), (60, 80)
Picture = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw(folder: Path, count: int, size: tuple[int, int]) -> list[str]:
    """Truth, saliency and two CAMs of smooth random images, as PNG files."""
    for name in ("mask", "sal", "cam"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids = [f"{i:06d}" for i in range(count)]
    for image_id in ids:
        maps = ndimage.gaussian_filter(rng.random((3, *size)), (0, 12, 12))
        maps -= maps.min(axis=(1, 2), keepdims=True)
        pixels = np.rint(255 * maps / maps.max(axis=(1, 2), keepdims=True)).astype(np.uint8)
        truth = np.where(pixels[0] > 140, 5, np.where(pixels[1] > 150, 13, 0)).astype(np.uint8)
        write_palette_png(folder / "mask" / f"{image_id}.png", truth)
        Image.fromarray(pixels[2]).save(folder / "sal" / f"{image_id}.png")
        for class_id, values in zip((4, 12), pixels, strict=False):
            Image.fromarray(values).save(folder / "cam" / f"{image_id}_{class_id}.png")
    return ids


def read(folder: Path, cams: CamFolder, image_id: str) -> Picture:
    truth = read_mask(folder / "mask" / f"{image_id}.png")
    found = cams.read(image_id, truth.shape, parts=["high_res"])
    saliency = read_saliency(folder / "sal" / f"{image_id}.png")
    return truth, found.high_res, found.class_ids, saliency


def one_pair(pictures: Sequence[Picture], act: float, sal: float) -> ConfusionMatrix:
    """The plain way: make each mask and count it."""
    confusion = ConfusionMatrix(CLASSES)
    for truth, cam, class_ids, saliency in pictures:
        mask = make_wsss_bed_mask(cam, class_ids, saliency, act_thres=act, sal_thres=sal)
        confusion.add(truth, mask)
    return confusion


def all_pairs(pictures: Sequence[Picture]) -> ThresholdGrid:
    grid = ThresholdGrid(ACT, SAL, CLASSES)
    for picture in pictures:
        grid.add(*picture)
    return grid


def compare(report: Report, args: argparse.Namespace, folder: Path) -> None:
    """One pair and all of them, with reading and without, and all of them one by one."""
    count, repeats = (2, 1) if args.quick else (24, 7)
    ids = draw(folder, count, QUICK_SIZE if args.quick else FULL_SIZE)
    cams = CamFolder(folder / "cam", num_classes=CLASSES - 1, cam_format="oaa_png")

    def read_all() -> list[Picture]:
        return [read(folder, cams, image_id) for image_id in ids]

    pictures = read_all()
    measured = measure_once(partial(all_pairs, pictures))
    reading = time_call(read_all, repeats)
    one = time_call(partial(one_pair, pictures, 0.1, 0.2), repeats)
    every = time_call(partial(all_pairs, pictures), repeats)
    scoring = time_call(lambda: list(measured.result.confusions()), repeats)
    milliseconds = 1000 / count
    report.add(f"reading, {count} images", ms_an_image=reading * milliseconds)
    report.add("one pair of thresholds", ms_an_image=one * milliseconds)
    report.add(
        f"{len(ACT)} x {len(SAL)} pairs, ignore on and off",
        ms_an_image=every * milliseconds,
        times_one_pair=every / one,
        times_one_pair_with_reading=(reading + every) / (reading + one),
        peak_mib=measured.peak_mib,
    )
    if not args.quick:
        report.target(
            f"{len(ACT)} x {len(SAL)} pairs over one, reading included",
            (reading + every) / (reading + one), at_most=3,
        )  # fmt: skip
    report.add("the matrices of all cells from the counts, once a pair of sets", seconds=scoring)
    report.add(
        "the same pairs one by one (extrapolated)",
        ms_an_image=one * milliseconds * len(ACT) * len(SAL),
        times_one_pair=float(len(ACT) * len(SAL)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    args = make_parser(__doc__).parse_args(arguments)
    report = Report("Threshold grid", quick=args.quick)
    with TemporaryDirectory() as folder:
        compare(report, args, Path(folder) / "maps")
    report.finish(args.json)


if __name__ == "__main__":
    main()
