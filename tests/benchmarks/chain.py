"""The whole chain on photographs: the reference's way and ours, step by step.

python -m tests.benchmarks.chain [--quick] [--images 50] [--json FILE]

Each way of a step has a process of its own and all cores: networks their threads, the CRFs of
labels as many workers. Where the reference takes minutes, it is timed on a few photographs and
told as "extrapolated". The photographs are the first of voc12_animals' train. ResNet-50 has drawn
weights, on which time does not depend; the CAMs that boundary labels and the walk start from are
the exact masks, blurred.
"""

import argparse
import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate

from misc.boundary_label import regions_to_mask
from misc.cam_files import read_cams, write_irn
from misc.images import read_image, read_mask, write_palette_png
from misc.pseudo_mask import scores_to_regions
from misc.runtime import WorkerPool, available_cpus, keep_freed_memory
from misc.training import PolySgd
from misc.transforms import image_pyramid, normalize_crops, resize
from net.backbone import Backbone
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from tests.benchmarks import train_bes
from tests.benchmarks.alone import call_alone, call_here
from tests.benchmarks.boundary_label import reference_label
from tests.benchmarks.common import Report, make_parser
from tests.benchmarks.evaluation import all_in_memory
from tests.benchmarks.inputs import (
    NUM_CLASSES,
    QUICK_SCALE,
    Picture,
    backbone_name,
    blurred_cams,
    build_network,
    reference_network,
    run_steps,
    write_weights,
)
from tests.benchmarks.make_cam import SCALES, reference_cams
from tests.benchmarks.random_walk import EXP_TIMES, dense_transition, dense_walk, square
from tests.benchmarks.sem_seg import BACKGROUND_SCORE, predict, small_cam, smooth
from tests.helpers.paths import SHARED
from voc12.dataloader import BoundaryCrops, ClassificationCrops
from voc12.files import VocDataset

PHOTOGRAPHS = SHARED / "voc12_animals"
MASK_SUFFIXES = ("", "_crf")
CAMS_TIMED, WALKS_TIMED = 4, 2  # photographs that the reference is timed on
STEPS_OF = {"make_sem_seg": ("make_walk", "make_sem_seg")}  # those of ours that are one there
UPDATES = 3
AN_UPDATE = f"{UPDATES} updates after a first one, their median"
FULL_CROP, QUICK_CROP, FULL_BATCH, QUICK_BATCH = 512, 64, 16, 2
NEAREST = Image.Resampling.NEAREST


@dataclass(frozen=True)
class Chain:
    """What every measured process is told: files below `root`, photographs, sizes."""

    root: Path
    ids: tuple[str, ...]
    backbone: str
    batch: int
    crop: int

    @property
    def dataset(self) -> VocDataset:
        return VocDataset.open(self.root / "voc", self.root / "voc" / "Sal")

    def ours(self, step: str) -> Path:
        """The output folder of a step of ours."""
        return self.root / f"ours_{step}"

    def reference(self, step: str) -> Path:
        """The folder for what the reference makes in a step."""
        return self.root / f"reference_{step}"

    def picture(self, image_id: str) -> Picture:
        image = read_image(self.dataset.image_path(image_id))
        saliency = np.asarray(Image.open(self.root / "voc" / "Sal" / f"{image_id}.png"))
        mask = read_mask(self.mask_path(image_id))
        file = self.root / "cam" / f"{image_id}.npy"
        cams = read_cams(file, mask.shape, num_classes=NUM_CLASSES, parts=["high_res"])
        return Picture(image, saliency, mask, cams.high_res, cams.class_ids)

    def mask_path(self, image_id: str) -> Path:
        """The exact mask."""
        return self.root / "voc" / "SegmentationClass" / f"{image_id}.png"

    def tags(self) -> dict[str, np.ndarray]:
        """The classes of each exact mask as ones, float32 (C,)."""
        return {i: tags_of(read_mask(self.mask_path(i))) for i in self.ids}

    def batch_of(self, crops: torch.utils.data.Dataset[dict[str, Tensor]]) -> dict[str, Tensor]:
        """A batch of crops from the first photographs."""
        return default_collate([crops[0, i % len(self.ids)] for i in range(self.batch)])


@dataclass(frozen=True)
class Timing:
    """Seconds of one unit of work (a photograph, an update), and what they were measured on."""

    seconds: float
    measured_on: str


def tags_of(mask: np.ndarray) -> np.ndarray:
    present = np.isin(np.arange(1, NUM_CLASSES + 1), mask)
    return present.astype(np.float32)


def write_photographs(root: Path, count: int, scale: float) -> tuple[str, ...]:
    """The first photographs as a dataset `voc` below `root`, and `cam`; returns their ids."""
    ids = tuple((PHOTOGRAPHS / "ImageSets/Segmentation/train.txt").read_text().split()[:count])
    lists = root / "voc" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "train_aug", "val"):
        (lists / f"{split}.txt").write_text("\n".join(ids) + "\n")
    (root / "cam").mkdir()
    for folder, suffix in (("JPEGImages", "jpg"), ("Sal", "png"), ("SegmentationClass", "png")):
        (root / "voc" / folder).mkdir()
        for image_id in ids:
            name = f"{folder}/{image_id}.{suffix}"
            shutil.copyfile(PHOTOGRAPHS / name, root / "voc" / name)
            if scale != 1:
                make_smaller(root / "voc" / name, scale)
    for image_id in ids:
        mask = read_mask(root / "voc" / "SegmentationClass" / f"{image_id}.png")
        with open(root / "cam" / f"{image_id}.npy", "wb") as file:
            write_irn(file, blurred_cams(mask))
    return ids


def make_smaller(path: Path, scale: float) -> None:
    """Resize a picture of a dataset in place, classes of a mask included."""
    picture = Image.open(path)
    pixels = np.asarray(picture)
    small = resize(
        pixels, (round(pixels.shape[0] * scale), round(pixels.shape[1] * scale)), NEAREST
    )
    if picture.mode == "P":
        write_palette_png(path, small)
    else:
        Image.fromarray(small).save(path, quality=95)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def of_updates(update: Callable[[], object]) -> Timing:
    """The median of some updates, after one in which oneDNN chooses kernels."""
    update()
    return Timing(float(np.median([seconds_of(update) for _ in range(UPDATES)])), AN_UPDATE)


def of_all(chain: Chain, seconds: float) -> Timing:
    """That of one photograph, where all took so many seconds."""
    return Timing(seconds / len(chain.ids), f"{len(chain.ids)} photographs")


def crf_backend() -> str:
    return "pydensecrf" if importlib.util.find_spec("pydensecrf") else "torch"


def our_step(chain: Chain, step: str, *flags: str, out_dir: str = "") -> Timing:
    """A step over the command line on all photographs, with the usual worker processes."""
    machine = ("--device=cpu", f"--backbone={chain.backbone}")
    folder = chain.ours(out_dir or step)
    said = run_steps(STEPS_OF.get(step, (step,)), chain.root, folder, *machine, *flags)
    return of_all(chain, sum(made["seconds"] for made in said.values()))


# The classifier and its CAMs


def classifier_update(
    classifier: CamClassifier, optimizer: PolySgd, batch: dict[str, Tensor]
) -> None:
    scores = classifier(normalize_crops(batch["image"], batch["box"]))
    loss = F.multilabel_soft_margin_loss(scores, batch["tags"])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train_cam(chain: Chain, *, is_reference: bool) -> Timing:
    """An update; the reference detaches what it has computed up to layer2."""
    kind = CamClassifier
    if is_reference:
        classifier = reference_network(kind, chain.backbone).train()
        for stage in (1, 2):
            for module in classifier.backbone.stage(stage):
                module.requires_grad_(True)
        classifier.backbone.forward = partial(detached_forward, classifier.backbone)
    else:
        keep_freed_memory()
        classifier = build_network(kind, chain.backbone).train()
    crops = ClassificationCrops(
        chain.dataset, chain.ids, chain.tags(), chain.crop, (chain.crop * 0.6, chain.crop), 0
    )
    batch = chain.batch_of(crops)
    optimizer = PolySgd(classifier.parameters(), lr=0.1, weight_decay=1e-4, max_step=1000)
    return of_updates(lambda: classifier_update(classifier, optimizer, batch))


def detached_forward(backbone: Backbone, x: Tensor) -> list[Tensor]:
    """The outputs of all stages, where no gradient passes from the fourth to the third."""
    features = []
    for index in range(5):
        for module in backbone.stage(index):
            x = module(x)
        features.append(x.detach() if index == 2 else x)
        x = features[-1]
    return features


def reference_make_cam(chain: Chain) -> Timing:
    classifier = reference_network(CamClassifier, chain.backbone)

    def make(image_id: str) -> str:
        picture = chain.picture(image_id)
        levels = [torch.from_numpy(level) for level in image_pyramid(picture.image, SCALES)]
        cam, high_res = reference_cams(classifier, levels, picture)
        file = chain.reference("make_cam") / f"{image_id}.npz"
        np.savez(file, cam=cam.numpy(), high_res=high_res.numpy())
        return image_id

    make(chain.ids[0])  # while oneDNN chooses kernels
    timed = chain.ids[:CAMS_TIMED]
    seconds = seconds_of(lambda: list(map(make, timed)))
    return Timing(seconds / len(timed), f"{len(timed)} photographs, extrapolated")


def our_make_cam(chain: Chain, precision: str = "fp32") -> Timing:
    flags = [f"--cam_weights_name={chain.root / 'cam.pth'}", f"--precision={precision}"]
    return our_step(chain, "make_cam", *flags, out_dir=f"make_cam_{precision}")


def cam_error(chain: Chain) -> float:
    """The largest difference between the CAMs of both ways."""
    worst = 0.0
    for file in chain.reference("make_cam").iterdir():
        size = read_mask(chain.mask_path(file.stem)).shape
        ours = read_cams(
            chain.ours("make_cam_fp32") / "cam" / f"{file.stem}.npy", size,
            num_classes=NUM_CLASSES, parts=["cam", "high_res"],
        )  # fmt: skip
        with np.load(file) as theirs:
            for part in ("cam", "high_res"):
                worst = max(worst, float(np.abs(getattr(ours, part) - theirs[part]).max()))
    return worst


# Boundary labels and the boundary network


def reference_make_boundary_label(chain: Chain) -> Timing:
    with WorkerPool(available_cpus()) as pool:
        work = partial(write_reference_label, chain)
        return of_all(chain, seconds_of(lambda: list(pool.map(work, chain.ids))))


def write_reference_label(chain: Chain, image_id: str) -> None:
    codes = reference_label(chain.picture(image_id), crf_backend())
    Image.fromarray(codes).save(chain.reference("make_boundary_label") / f"{image_id}.png")


def our_make_boundary_label(chain: Chain) -> Timing:
    return our_step(chain, "make_boundary_label", f"--cam_out_dir={chain.root / 'cam'}")


def our_label_path(chain: Chain, image_id: str) -> Path:
    return chain.ours("make_boundary_label") / "boundary_label" / f"{image_id}.png"


def codes_differing(chain: Chain) -> float:
    """The share of pixels whose codes differ between both ways."""
    shares = []
    for image_id in chain.ids:
        theirs = chain.reference("make_boundary_label") / f"{image_id}.png"
        shares.append(np.mean(read_mask(our_label_path(chain, image_id)) != read_mask(theirs)))
    return float(np.mean(shares))


def train_boundaries(chain: Chain, *, is_reference: bool) -> Timing:
    if not is_reference:
        keep_freed_memory()
    form = train_bes.reference_form if is_reference else train_bes.our_form
    network = form(chain.backbone, "cpu")
    path = partial(our_label_path, chain)
    batch = chain.batch_of(BoundaryCrops(chain.dataset, chain.ids, path, chain.crop, 0.0, 0))
    optimizer = train_bes.optimizer_of(network)
    return of_updates(lambda: train_bes.step(network, optimizer, batch))


# Masks and scores


def reference_make_sem_seg(chain: Chain) -> Timing:
    network = reference_network(BoundaryNetwork, chain.backbone)
    seconds = [write_reference_masks(chain, network, i) for i in chain.ids[:WALKS_TIMED]]
    note = f"{len(seconds)} photographs, 1 of {EXP_TIMES} squarings each, extrapolated"
    return Timing(float(np.mean(seconds)), note)


@torch.no_grad()
def write_reference_masks(chain: Chain, network: BoundaryNetwork, image_id: str) -> float:
    """Seconds of a photograph; one of the squarings is timed for all, which are alike."""
    start = time.perf_counter()
    picture = chain.picture(image_id)
    boundary = predict(network, picture)
    transition = dense_transition(boundary)
    before = time.perf_counter()
    transition = square(transition, 1)
    squaring = time.perf_counter() - before
    cam = torch.from_numpy(small_cam(picture, boundary))
    scores = dense_walk(cam, boundary, transition).numpy()
    regions = scores_to_regions(scores, picture.mask.shape, BACKGROUND_SCORE)
    smoothed = smooth(picture, regions, crf_backend())
    for suffix, labels in zip(MASK_SUFFIXES, (regions, smoothed), strict=True):
        file = chain.reference("make_sem_seg") / f"{image_id}{suffix}.png"
        write_palette_png(file, regions_to_mask(labels, picture.class_ids))
    return time.perf_counter() - start + (EXP_TIMES - 1) * squaring


def our_make_sem_seg(chain: Chain) -> Timing:
    weights, cams = chain.root / "bes.pth", chain.root / "cam"
    flags = [f"--bes_weights_name={weights}", f"--cam_out_dir={cams}"]
    return our_step(chain, "make_sem_seg", *flags)


def our_masks(chain: Chain) -> Path:
    return chain.ours("make_sem_seg") / "sem_seg"


def reference_eval_sem_seg(chain: Chain) -> Timing:
    pairs = [
        (chain.mask_path(i), our_masks(chain) / f"{i}{suffix}.png")
        for suffix in MASK_SUFFIXES
        for i in chain.ids
    ]
    return of_all(chain, seconds_of(lambda: all_in_memory(pairs)))


def our_eval_sem_seg(chain: Chain) -> Timing:
    return our_step(chain, "eval_sem_seg", f"--sem_seg_out_dir={our_masks(chain)}")


# The table


class Row(NamedTuple):
    """A step, both ways; how they differ and may at most; how much faster ours should be."""

    step: str
    unit: str
    reference: Callable[[Chain], Timing]
    ours: Callable[[Chain], Timing]
    differing: Callable[[Chain], float] | None = None
    at_most: float = 0
    times_faster: float | None = None


ROWS = (
    Row("train_cam", "an update", partial(train_cam, is_reference=True),
        partial(train_cam, is_reference=False)),
    Row("make_cam", "a photograph", reference_make_cam, our_make_cam, cam_error, 1e-4, 1.5),
    Row("make_boundary_label", "a photograph", reference_make_boundary_label,
        our_make_boundary_label, codes_differing, 1e-3, 3),
    Row("train_bes", "an update", partial(train_boundaries, is_reference=True),
        partial(train_boundaries, is_reference=False), times_faster=3),
    Row("make_sem_seg", "a photograph", reference_make_sem_seg, our_make_sem_seg,
        times_faster=100),
    Row("eval_sem_seg", "a photograph", reference_eval_sem_seg, our_eval_sem_seg),
)  # fmt: skip


def add_row(report: Report, chain: Chain, row: Row) -> Timing:
    """Measure both ways, ours first, since later steps of both read its files; the reference's."""
    chain.reference(row.step).mkdir()
    measured = call_here if report.quick else call_alone
    ours, theirs = measured(row.ours, chain), measured(row.reference, chain)
    faster = theirs.result.seconds / ours.result.seconds
    columns: dict[str, object] = {
        "reference_s": theirs.result.seconds, "ours_s": ours.result.seconds,
        "times_faster": faster, "reference_mib": theirs.peak_mib, "ours_mib": ours.peak_mib,
        "reference_timed_on": theirs.result.measured_on,
    }  # fmt: skip
    if row.differing is not None:
        columns["differing"] = differing = row.differing(chain)
        what = f"{row.step}: difference between both ways"
        report.target(what, differing, at_most=row.at_most)
    report.add(f"{row.step}, {row.unit}", **columns)
    if row.times_faster is not None:
        told = None if report.quick else faster
        report.target(f"{row.step}: times faster", told, at_least=row.times_faster)
    return theirs.result


def add_bfloat16(report: Report, chain: Chain, reference: Timing) -> None:
    """make_cam once more, in the precision that a newer processor has instructions for."""
    measured = call_here if report.quick else call_alone
    ours = measured(our_make_cam, chain, "bf16")
    report.add(
        "make_cam --precision bf16, a photograph", reference_s=reference.seconds,
        ours_s=ours.result.seconds, times_faster=reference.seconds / ours.result.seconds,
        ours_mib=ours.peak_mib, reference_timed_on="the row of make_cam",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=50, help="photographs (default: 50)")
    args: argparse.Namespace = parser.parse_args(arguments)
    name, count = backbone_name(args.quick), 2 if args.quick else args.images
    report = Report(f"The whole chain, {count} photographs", quick=args.quick)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        ids = write_photographs(root, count, QUICK_SCALE if args.quick else 1)
        write_weights(build_network(CamClassifier, name), root / "cam.pth")
        write_weights(build_network(BoundaryNetwork, name), root / "bes.pth")
        batch, crop = (QUICK_BATCH, QUICK_CROP) if args.quick else (FULL_BATCH, FULL_CROP)
        chain = Chain(root, ids, name, batch, crop)
        timings = {row.step: add_row(report, chain, row) for row in ROWS}
        add_bfloat16(report, chain, timings["make_cam"])
    report.finish(args.json)


if __name__ == "__main__":
    main()
