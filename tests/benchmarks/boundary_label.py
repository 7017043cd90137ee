"""Boundary labels of a 500x375 image: two CRFs and a map a class, against one lattice for both.

python -m tests.benchmarks.boundary_label [--quick] [--json FILE] [--images 96]
"""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from misc.boundary_label import make_boundary_label, make_confident_regions
from misc.crf import SEED_CRF, DenseCrf
from misc.images import read_image
from misc.saliency import read_saliency
from tests.benchmarks.common import Report, copy_rate, make_parser, time_call
from tests.benchmarks.crf import bytes_an_iteration
from tests.benchmarks.inputs import (
    LABEL_SYNTHESIS,
    NUM_CLASSES,
    QUICK_SCALE,
    Picture,
    read_picture,
    run_steps,
    write_dataset,
)

FOREGROUND, BACKGROUND, WINDOW, SCALE, DIFFERENCE, EDGE = 0.30, 0.07, 13, 0.30, 0.10, 0.5


def reference_label(picture: Picture, backend: str) -> np.ndarray:
    """Codes (H,W) the reference's way: a CRF of its own a labelling, a map for every class."""
    names = np.concatenate([[0], picture.class_ids]).astype(np.uint8)
    found = []
    for threshold in (FOREGROUND, BACKGROUND):
        padded = np.pad(picture.cam, ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
        crf = DenseCrf(picture.image, SEED_CRF, backend=backend)
        found.append(names[crf.from_labels(padded.argmax(0), len(names))])
    strict, lenient = found
    regions = np.where(strict > 0, strict, 255)
    regions[(strict == 0) & (lenient == 0)] = 0
    members = np.stack([regions == c for c in range(NUM_CLASSES + 1)])
    shares = avg_pool2d(
        torch.from_numpy(members).float(), WINDOW, 1, WINDOW // 2, count_include_pad=False
    )
    background = shares[0]
    first, second = shares[1:].sort(0, descending=True).values[:2]
    codes = torch.full(regions.shape, 200, dtype=torch.uint8)
    saliency = torch.from_numpy(picture.saliency / picture.saliency.max())
    codes[saliency == 0] = 0
    codes[(background > 2 * SCALE) & (background - first >= 2 * DIFFERENCE)] = 0
    codes[(first > 2 * SCALE) & (first - background >= 2 * DIFFERENCE)] = 50
    near = (first - background).abs() < DIFFERENCE
    codes[(torch.minimum(first, background) > SCALE) & near] = 150
    codes[(second > SCALE) & (first - second < DIFFERENCE)] = 100
    kernel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]], dtype=torch.float64)
    gradients = conv2d(saliency[None, None], torch.stack([kernel, kernel.T])[:, None])
    length = (gradients**2).sum(1, keepdim=True).sqrt()
    stretched = interpolate(length, regions.shape, mode="bilinear", align_corners=False)
    codes[stretched[0, 0] > EDGE] = 250
    return codes.numpy()


def our_regions(picture: Picture) -> np.ndarray:
    return make_confident_regions(picture.image, picture.cam, FOREGROUND, BACKGROUND)


def our_label(picture: Picture) -> np.ndarray:
    saliency = (picture.saliency / 255).astype(np.float32)
    return make_boundary_label(our_regions(picture), len(picture.cam), saliency)


def compare(report: Report, picture: Picture, repeats: int) -> None:
    """Both ways on one image without files, ours with one thread as in a worker and with all."""
    has_pydensecrf = importlib.util.find_spec("pydensecrf") is not None
    backend = "pydensecrf" if has_pydensecrf else "torch"
    expected = reference_label(picture, backend)
    reference = time_call(partial(reference_label, picture, backend), repeats)
    report.add(f"reference: two CRFs ({backend}), {NUM_CLASSES} maps", seconds=reference)
    all_threads = torch.get_num_threads()
    for threads in sorted({1, all_threads}):
        torch.set_num_threads(threads)
        found = our_label(picture)
        ours = time_call(partial(our_label, picture), repeats)
        report.add(
            f"ours, {threads} threads",
            seconds=ours,
            differing=float(np.mean(found != expected)),
            times_faster=reference / ours,
        )
    report.target("one process: times faster than the reference", reference / ours, at_least=1.3)
    report.target("share of codes that differ", float(np.mean(found != expected)), at_most=1e-3)
    moved = bytes_an_iteration(picture.image, 2 * (len(picture.cam) + 1), SEED_CRF, "cpu")
    rate = copy_rate(moved)
    floor = SEED_CRF.iterations * moved / rate
    report.add_floor(
        f"both CRFs' {SEED_CRF.iterations} x {moved / 1e6:.0f} MB at {rate / 1e9:.0f} GB/s",
        floor,
        ours,
    )


def add_parts(report: Report, picture: Picture, root: Path, repeats: int) -> None:
    """Where the time of one image goes in a worker process, with its files."""
    torch.set_num_threads(1)
    regions = our_regions(picture)
    saliency = (picture.saliency / 255).astype(np.float32)
    codes = our_label(picture)
    voc = root / "voc"
    parts: dict[str, Callable[[], object]] = {
        "reading the image": lambda: read_image(voc / "JPEGImages" / "000000.jpg"),
        "reading saliency": lambda: read_saliency(voc / "Sal" / "000000.png"),
        "both CRFs": lambda: our_regions(picture),
        "codes": lambda: make_boundary_label(regions, len(picture.cam), saliency),
        "writing the codes": lambda: Image.fromarray(codes).save(root / "codes.png"),
    }
    for name, work in parts.items():
        report.add(f"of which {name}, 1 thread", seconds=time_call(work, repeats))


def seconds_of_synthesis(root: Path, out_dir: Path, processes: int) -> float:
    """Seconds of label synthesis over the command line, confident regions and their CRFs too."""
    said = run_steps(
        ["make_boundary_label"], root, out_dir, f"--num_workers={processes}",
        f"--cam_out_dir={root / 'cam'}", "--device=cpu",
    )  # fmt: skip
    return sum(said[step]["seconds"] for step in LABEL_SYNTHESIS)


def add_processes(report: Report, root: Path, count: int, quick: bool) -> None:
    """The whole step over the command line, with one and with two worker processes."""
    seconds = {}
    for processes in (1, 2):
        out_dir = root / f"processes{processes}"
        seconds[processes] = seconds_of_synthesis(root, out_dir, processes)
        report.add(
            f"make_boundary_label, {count} images, {processes} processes",
            seconds=seconds[processes],
            images_a_second=count / seconds[processes],
            times_one_process=seconds[1] / seconds[processes],
        )
    faster = None if quick else seconds[1] / seconds[2]
    report.target("two processes: times faster than one", faster, at_least=1.8)


def grow(report: Report, base: float, repeats: int) -> None:
    """How our time grows with area and classes, one thread."""
    torch.set_num_threads(1)
    for area in (1, 2, 4):
        picture = read_picture(base * area**0.5)
        seconds = time_call(partial(our_label, picture), repeats)
        height, width = picture.mask.shape
        report.add(f"area x{area}, {width}x{height}, 1 thread", seconds=seconds)
    for classes in (1, 4, 18):
        picture = read_picture(base, classes)
        seconds = time_call(partial(our_label, picture), repeats)
        report.add(f"classes {classes}, 1 thread", seconds=seconds)


def grow_images(report: Report, root: Path, counts: Sequence[int]) -> None:
    """One step over so many images, starting and stopping the worker included."""
    picture = read_picture(QUICK_SCALE)
    for count in counts:
        folder = root / f"images{count}"
        write_dataset(folder, count, picture)
        seconds = seconds_of_synthesis(folder, folder / "out", 1)
        report.add(
            f"make_boundary_label, {count} images of {picture.mask.shape[1]} pixels, 1 process",
            seconds=seconds,
            each=seconds / count,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=96, help="images of a step (default: 96)")
    args: argparse.Namespace = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    repeats, count = (1, 2) if args.quick else (7, args.images)
    scale = QUICK_SCALE if args.quick else 1.0
    picture = read_picture(scale)
    report = Report("Boundary labels", quick=args.quick)
    try:
        compare(report, picture, repeats)
        with TemporaryDirectory() as folder:
            root = Path(folder)
            write_dataset(root, count, picture)
            add_parts(report, picture, root, repeats)
            add_processes(report, root, count, args.quick)
            grow_images(report, root, (1,) if args.quick else (1, 16, 64))
        grow(report, scale, 1 if args.quick else 3)
    finally:
        torch.set_num_threads(threads)
    report.finish(args.json)


if __name__ == "__main__":
    main()
