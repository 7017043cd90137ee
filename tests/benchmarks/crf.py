"""The dense CRF of a 500x375 image: pydensecrf against torch, all labels against likely ones.

python -m tests.benchmarks.crf [--quick] [--json FILE] [--device cuda]
"""

import argparse
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from misc.crf import DEEPLAB_CRF, SEED_CRF, CrfParams, DenseCrf
from misc.crf.dense_crf import losing_probability
from misc.crf.mean_field import bilateral_filter, gaussian_filter
from tests.benchmarks.common import Report, copy_rate, make_parser, time_call
from tests.helpers.paths import ROOT, SHARED

GOLDEN = ROOT / "tests" / "golden" / "g6_crf.npz"
Pair = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image (H,W,3) and two labellings (H,W) of it, as label synthesis has them."""


def recorded_pair() -> Pair:
    """A photograph of 500x375 with its labellings at both thresholds, 3 labels."""
    with np.load(GOLDEN) as file:
        name = "2007_000011"
        labels = (file[f"{name}/{side}/default/in"] for side in ("fg", "bg"))
        return file[f"{name}/image_rgb"], *labels


def voc_pair() -> Pair | None:
    """The first VOC image of 500x375 with two labels, its true mask shifted two ways."""
    root = SHARED / "voc12_animals"
    for path in sorted((root / "SegmentationClass").glob("*.png")):
        mask = np.array(Image.open(path))
        present = np.unique(mask[mask != 255])
        if mask.shape == (375, 500) and len(present) == 2:
            image = np.array(Image.open(root / "JPEGImages" / f"{path.stem}.jpg").convert("RGB"))
            labels = (mask == present[1]).astype(np.uint8)
            return image, np.roll(labels, 9, 1), np.roll(labels, -5, 0)
    return None


def segmented(count: int) -> list[tuple[np.ndarray, Tensor]]:
    """Photographs (H,W,3) of VOC's val, evenly chosen, with what DeepLab might say (21,H,W)."""
    root = SHARED / "voc12_animals"
    if not root.is_dir():
        return []
    ids = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    found = []
    for image_id in ids[:: len(ids) // count][:count]:
        image = np.array(Image.open(root / "JPEGImages" / f"{image_id}.jpg").convert("RGB"))
        mask = np.array(Image.open(root / "SegmentationClass" / f"{image_id}.png"))
        found.append((image, drawn_softmax(mask)))
    return found


def drawn_softmax(mask: np.ndarray) -> Tensor:
    """A softmax (21,H,W) of a network that is not very sure of `mask` (H,W).

    It sees the mask on a grid of 8 pixels, and has smooth doubts, which are larger for every
    further class. 6 to 9 labels can win then, as in the softmax of a DeepLab-v2 with SqueezeNet
    after 500 updates on exact masks.
    """
    size = (-(-mask.shape[0] // 8), -(-mask.shape[1] // 8))
    labels = torch.from_numpy(np.where(mask == 255, 0, mask)).long()
    truth = F.one_hot(labels, 21).permute(2, 0, 1)[None].float()
    noise = torch.randn(1, 21, 3, 4, generator=torch.Generator().manual_seed(0))
    strengths = 2 * torch.linspace(0, 1, 21).square()[:, None, None]
    doubts = F.interpolate(noise, size, mode="bicubic") * strengths
    logits = 7 * F.interpolate(truth, size, mode="area") + doubts
    return F.interpolate(logits, mask.shape, mode="bilinear")[0].softmax(0)


def block_labels(height: int, width: int, num_labels: int) -> np.ndarray:
    """Labels (H,W) in random blocks of 32 pixels, the same at every call."""
    rows, columns = -(-height // 32), -(-width // 32)
    coarse = np.random.default_rng(0).integers(0, num_labels, (rows, columns), dtype=np.uint8)
    return coarse.repeat(32, 0).repeat(32, 1)[:height, :width]


def crop(pair: Pair, size: int) -> Pair:
    image, strict, lenient = pair
    return image[:size, :size], strict[:size, :size], lenient[:size, :size]


def both_crfs(pair: Pair, backend: str, device: str) -> list[np.ndarray]:
    """What label synthesis does with one image: the lattices and two CRFs on them."""
    image, *labellings = pair
    num_labels = int(max(labels.max() for labels in labellings)) + 1
    crf = DenseCrf(image, SEED_CRF, backend=backend, device=device)
    return crf.from_labels_many(labellings, num_labels)


def seconds_of(pair: Pair, backend: str, device: str, repeats: int) -> dict[str, float]:
    """Seconds of the first CRF with its lattices, of a second one, and of both together.

    torch keeps the lattice of positions for the next image of a size: `first_of_size` has it built.
    """
    image, strict, lenient = pair
    num_labels = int(max(strict.max(), lenient.max())) + 1

    def first() -> DenseCrf:
        crf = DenseCrf(image, SEED_CRF, backend=backend, device=device)
        crf.from_labels(strict, num_labels)
        return crf

    def first_of_size() -> None:
        gaussian_filter.cache_clear()
        first()

    built = first()
    own_cost = {"first_of_size": time_call(first_of_size, repeats)} if backend == "torch" else {}
    return own_cost | {
        "first": time_call(first, repeats),
        "second": time_call(partial(built.from_labels, lenient, num_labels), repeats),
        "both": time_call(partial(both_crfs, pair, backend, device), repeats),
    }


def compare(report: Report, name: str, pair: Pair, device: str, repeats: int) -> None:
    """Both backends on one input, torch with one thread and with all."""
    theirs: dict[str, float] = {}
    if importlib.util.find_spec("pydensecrf") is not None:
        theirs = seconds_of(pair, "pydensecrf", "cpu", repeats)
        report.add(f"pydensecrf, {name}", **theirs)
        expected = both_crfs(pair, "pydensecrf", "cpu")
    all_threads = torch.get_num_threads()
    for threads in sorted({1, all_threads}) if device == "cpu" else [all_threads]:
        torch.set_num_threads(threads)
        ours = seconds_of(pair, "torch", device, repeats)
        columns: dict[str, object] = dict(ours)
        if theirs:
            found = both_crfs(pair, "torch", device)
            differing = float(np.mean(np.stack(found) != np.stack(expected)))
            columns["differing"] = differing
            for part, seconds in theirs.items():
                columns[f"{part}_times_faster"] = seconds / ours[part]
            if threads == all_threads:
                first, second = (ours[part] / theirs[part] for part in ("first", "second"))
                report.target(f"{name}: lattice and a CRF over pydensecrf's", first, at_most=1.3)
                report.target(f"{name}: the second CRF over pydensecrf's", second, at_most=1)
                report.target(f"{name}: share of labels that differ", differing, at_most=1e-4)
        where = f"{threads} threads" if device == "cpu" else device
        report.add(f"torch, {where}, {name}", **columns)


def deeplab_labels(
    image: np.ndarray, softmax: Tensor, backend: str, device: str, *, of_all: bool
) -> Tensor:
    """Labels (H,W) of make_seg's CRF, lattices included, with all labels or those that can win."""
    crf = DenseCrf(image, DEEPLAB_CRF, backend=backend, device=device)
    if of_all:
        return crf.from_probabilities(softmax).argmax(0).to(torch.uint8)
    return crf.labels_from_probabilities(softmax)


def compare_likely(report: Report, device: str, quick: bool) -> None:
    """make_seg's CRF on all 21 labels and on those that can win; on the CPU with one thread."""
    pictures = segmented(1 if quick else 5)
    if not pictures:
        return
    if quick:
        pictures = [(image[:100, :100], softmax[:, :100, :100]) for image, softmax in pictures]
    bound = losing_probability(21, DEEPLAB_CRF)
    has_pydensecrf = importlib.util.find_spec("pydensecrf") is not None
    all_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for backend in ["torch", "pydensecrf"] if device == "cpu" and has_pydensecrf else ["torch"]:
        rows = []
        for number, picture in enumerate(pictures, 1):
            of_all, of_likely = (
                partial(deeplab_labels, *picture, backend, device, of_all=each)
                for each in (True, False)
            )
            rows.append({
                "all_labels": time_call(of_all, 1 if quick else 3),
                "likely_labels": time_call(of_likely, 1 if quick else 3),
                "likely": int((picture[1].flatten(1).amax(1) >= bound).sum()),
                "differing": float((of_all() != of_likely()).float().mean()),
            })  # fmt: skip
            report.add(f"{backend}, make_seg's, 21 labels, photograph {number} of val", **rows[-1])
        name = f"make_seg's, 21 labels, {backend}, 1 thread"
        seconds = float(np.median([row["likely_labels"] for row in rows]))
        differing = float(np.mean([row["differing"] for row in rows]))
        report.target(f"{name}: seconds, median of {len(rows)}", seconds, at_most=1)
        report.target(f"{name}: share of labels that differ", differing, at_most=1e-4)
    torch.set_num_threads(all_threads)


def bytes_an_iteration(image: np.ndarray, columns: int, params: CrfParams, device: str) -> int:
    """Bytes of all matrices of a mean field's iteration and of what they multiply, once each."""
    tensor = torch.tensor(image, device=device)
    matrices = [
        *gaussian_filter(*image.shape[:2], params.gaussian_sxy, tensor.device).matrices,
        *bilateral_filter(tensor, params.bilateral_sxy, params.bilateral_srgb).matrices,
    ]
    moved = sum(each.values().nbytes + each.col_indices().nbytes for each in matrices)
    return moved + sum(4 * columns * sum(each.shape) for each in matrices)


def add_floor(report: Report, pair: Pair, device: str, repeats: int) -> None:
    """A second CRF against reading each matrix once an iteration at copying speed."""
    image, strict, _ = pair
    num_labels = int(strict.max()) + 1
    crf = DenseCrf(image, SEED_CRF, backend="torch", device=device)
    seconds = time_call(partial(crf.from_labels, strict, num_labels), repeats)
    moved = bytes_an_iteration(image, num_labels, SEED_CRF, device)
    rate = copy_rate(moved, device)
    floor = SEED_CRF.iterations * moved / rate
    report.add(
        f"floor of a second CRF: {SEED_CRF.iterations} x {moved / 1e6:.0f} MB "
        f"at {rate / 1e9:.0f} GB/s",
        second=floor,
        ours_over=seconds / floor,
    )


def grow(report: Report, pair: Pair, device: str, quick: bool) -> None:
    """How torch's time grows with area, classes, and labellings in one batch."""
    repeats = 1 if quick else 3
    image = pair[0]
    height, width = image.shape[:2]
    for area in (1, 2, 4):
        size = (round(width * area**0.5), round(height * area**0.5))
        scaled = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        labels = block_labels(size[1], size[0], 3)
        seconds = seconds_of((scaled, labels, labels), "torch", device, repeats)
        report.add(f"torch, area x{area}, {size[0]}x{size[1]}", **seconds)
    for classes in (1, 4, 18):
        labels = block_labels(height, width, classes + 1)
        seconds = seconds_of((image, labels, labels), "torch", device, repeats)
        report.add(f"torch, classes {classes}", **seconds)
    crf = DenseCrf(image, SEED_CRF, backend="torch", device=device)
    for labellings in (1, 2, 4, 8):
        batch = [block_labels(height, width, 3)] * labellings
        together = time_call(partial(crf.from_labels_many, batch, 3), repeats)
        report.add(f"torch, labellings in a batch {labellings}", together=together)


def add_processes(report: Report, pair: Pair, quick: bool) -> None:
    """Images a second, two CRFs each, with one and two processes of one thread."""
    images = 2 if quick else 24
    backends = ["torch"]
    if importlib.util.find_spec("pydensecrf") is not None:
        backends.insert(0, "pydensecrf")
    for backend in backends:
        alone = 0.0
        for processes in (1, 2):
            pool = ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,))
            with pool:
                work = partial(both_crfs, backend=backend, device="cpu")
                run = partial(_drain, pool, work, [pair] * images)
                seconds = time_call(run, 1 if quick else 3)
            alone = alone or seconds
            report.add(
                f"{backend}, {processes} processes",
                images_a_second=images / seconds,
                times_one_process=alone / seconds,
            )


def _drain(pool: ProcessPoolExecutor, work: partial[list[np.ndarray]], pairs: list[Pair]) -> None:
    for _ in pool.map(work, pairs):
        pass


def main(arguments: Sequence[str] | None = None) -> None:
    args: argparse.Namespace = make_parser(__doc__).parse_args(arguments)
    repeats = 1 if args.quick else 9
    recorded, voc = recorded_pair(), voc_pair()
    if args.quick:
        recorded, voc = crop(recorded, 100), None if voc is None else crop(voc, 100)
    report = Report("Dense CRF, seconds", quick=args.quick)
    compare(report, "recorded photograph, 3 labels", recorded, args.device, repeats)
    if voc is not None:
        compare(report, "VOC image, 2 labels", voc, args.device, repeats)
    compare_likely(report, args.device, args.quick)
    add_floor(report, recorded, args.device, repeats)
    grow(report, recorded, args.device, args.quick)
    add_processes(report, recorded, args.quick)
    report.finish(args.json)


if __name__ == "__main__":
    main()
