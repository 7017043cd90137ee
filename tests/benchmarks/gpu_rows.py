"""What each row of the benchmark `gpu` measures, each in a process of its own."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from misc.boundary_label import make_confident_regions
from misc.cam_files import stride4_size
from misc.crf import SEED_CRF, DenseCrf
from misc.images import read_mask
from misc.random_walk import random_walk_many
from misc.runtime import Runtime, make_runtime
from misc.transforms import image_pyramid
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from step.make_walk import IMAGES_A_WALK
from tests.benchmarks import random_walk, train_bes
from tests.benchmarks.common import count_flops, matmul_rate, measure_once, time_call
from tests.benchmarks.inputs import (
    LABEL_SYNTHESIS,
    QUICK_SCALE,
    Picture,
    backbone_name,
    build_network,
    read_picture,
    resize_picture,
    run_steps,
    write_backbone_weights,
    write_weights,
)
from tests.benchmarks.make_cam import SCALES
from tests.benchmarks.many_sizes import draw_sizes, write_many

Numbers = Mapping[str, float]
"""`value`, which the row is about, and further columns."""

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CHAIN = (
    "train_cam", "make_cam", "eval_cam", "make_boundary_label", "train_bes", "make_walk",
    "eval_walk", "make_sem_seg", "eval_sem_seg",
)  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """Where and on what to measure.

    Attributes:
        root: has the dataset, CAMs and weights of `prepare`; steps write below it.
        device: cpu or cuda.
        images: of a step.
        quick: tiny sizes, for CI.
    """

    root: Path
    device: str
    images: int
    quick: bool

    def prepare(self, photographs: Path | None) -> None:
        """Write what the rows read."""
        ids = write_many(self.root, self.images, scale=self.scale, photographs=photographs)
        self.few.write_text("\n".join(ids[:2]) + "\n")
        write_weights(build_network(BoundaryNetwork, self.backbone), self.root / "bes.pth")
        write_weights(build_network(CamClassifier, self.backbone), self.root / "cam.pth")
        write_backbone_weights(self.backbone, self.root / "backbone.pth")

    @property
    def scale(self) -> float:
        """Of both sides of all images."""
        return QUICK_SCALE if self.quick else 1.0

    @property
    def backbone(self) -> str:
        """Of all networks but DeepLab-v2."""
        return backbone_name(self.quick)

    @property
    def crop(self) -> int:
        """Side of training crops, in pixels."""
        return train_bes.QUICK_CROP if self.quick else train_bes.FULL_CROP

    @property
    def batch(self) -> int:
        """Images of a training batch."""
        return 2 if self.quick else 16

    @property
    def repeats(self) -> int:
        """How often a short work is timed."""
        if self.quick:
            return 1
        return 2 if self.device == "cpu" else 10

    def pictures(self, most: int) -> list[Picture]:
        """So many images of many sizes, of one photograph."""
        picture = read_picture(self.scale)
        sizes = draw_sizes(2 if self.quick else most, self.scale)
        return [resize_picture(picture, *size) for size in sizes]

    def runtime(self, precision: str = "fp32") -> Runtime:
        """The machine as steps see it."""
        return make_runtime(self.device, precision, 0)

    @property
    def few(self) -> Path:
        """A list of two images."""
        return self.root / "few.txt"

    def run(self, folder: str, steps: Sequence[str], *flags: str) -> dict[str, Any]:
        """Run steps over the command line; what each says of itself, and the peak of memory."""
        by_step: dict[str, Sequence[str]] = {
            "train_cam": ("--cam_num_epoches=1", f"--cam_batch_size={self.batch}",
                          f"--val_list={self.few}",  # evaluated after the epoch
                          f"--cam_crop_size={self.crop}", "--cam_learning_rate=0.001"),
            "train_bes": ("--bes_num_epoches=1", f"--bes_batch_size={self.batch}",
                          f"--bes_crop_size={self.crop}", "--bes_learning_rate=0.001"),
        }  # fmt: skip
        arguments = [
            f"--device={self.device}", f"--backbone={self.backbone}",
            f"--backbone_weights={self.root / 'backbone.pth'}",
            *itertools.chain.from_iterable(by_step.get(step, ()) for step in steps),
            *(["--num_workers=0"] if self.quick else []), *flags,
        ]  # fmt: skip
        work = partial(run_steps, steps, self.root, self.root / folder, *arguments)
        measured = measure_once(work, self.device)
        return measured.result | {"peak_mib": measured.peak_mib}


@dataclass(frozen=True)
class Row:
    """A line of the list: what is measured, and what was asked for (bounds as `Report.target`).

    `needs` is the row whose files it reads.
    """

    what: str
    measure: Callable[[Bench], Numbers]
    target: Mapping[str, float] = field(default_factory=dict)
    precision: str = "fp32"
    needs: str = ""


def walk(bench: Bench) -> Numbers:
    """As make_walk walks: several images of many sizes in one product on a GPU."""
    sizes = draw_sizes(4 if bench.quick else 64, bench.scale)
    pairs = [
        random_walk.make_input(*stride4_size(size), classes=2, device=bench.device)
        for size in sizes
    ]
    together = 1 if bench.device == "cpu" else IMAGES_A_WALK

    def walk_all() -> None:
        for start in range(0, len(pairs), together):
            random_walk_many(pairs[start : start + together])

    return {"value": 1000 * time_call(walk_all, bench.repeats) / len(pairs)}


def dense_walk(bench: Bench) -> Numbers:
    """The reference's way: eight squarings of one image's dense matrix."""
    grid = random_walk.QUICK_GRID if bench.quick else random_walk.FULL_GRID
    _, boundary = random_walk.make_input(*grid, 2, bench.device)
    transition = random_walk.dense_transition(boundary)
    square = partial(random_walk.square, transition, random_walk.EXP_TIMES)
    measured = measure_once(square, bench.device)
    return {"value": measured.seconds, "peak_mib": measured.peak_mib}


def both_crfs(picture: Picture, device: str) -> Tensor:
    crf = DenseCrf(picture.image, SEED_CRF, backend="torch", device=device)
    cam = torch.from_numpy(picture.cam).to(device)
    return torch.as_tensor(make_confident_regions(picture.image, cam, crf=crf))


def crfs(bench: Bench) -> Numbers:
    """Lattices, both CRFs and the confident regions, and whether they are the CPU's."""
    pictures = bench.pictures(16)

    def all_of_them() -> list[Tensor]:
        return [both_crfs(picture, bench.device) for picture in pictures]

    seconds = time_call(all_of_them, bench.repeats)
    differing = [
        float((ours.cpu() != both_crfs(picture, "cpu")).float().mean())
        for ours, picture in zip(all_of_them(), pictures, strict=True)
    ]
    return {"value": 1000 * seconds / len(pictures), "differing": float(np.mean(differing))}


def labels(bench: Bench) -> Numbers:
    """Label synthesis, both of its steps; its labels are those that train_bes learns."""
    said = bench.run("labels", ["make_boundary_label"], f"--cam_out_dir={bench.root / 'cam'}")
    seconds = sum(said[step]["seconds"] for step in LABEL_SYNTHESIS)
    return {"value": bench.images / seconds, "peak_mib": said["peak_mib"]}


def masks(bench: Bench, precision: str) -> Numbers:
    """Walk and pseudo masks, and the share of pixels that the precision moves."""
    steps = ("make_walk", "make_sem_seg")
    said = bench.run(
        f"masks_{precision}", steps, f"--cam_out_dir={bench.root / 'cam'}",
        f"--bes_weights_name={bench.root / 'bes.pth'}", f"--precision={precision}",
    )  # fmt: skip
    seconds = sum(said[step]["seconds"] for step in steps)
    numbers = {"value": bench.images / seconds, "peak_mib": said["peak_mib"]}
    exact = sorted((bench.root / "masks_fp32" / "sem_seg").glob("*_crf.png"))
    if precision != "fp32" and exact:
        found = bench.root / f"masks_{precision}" / "sem_seg"
        shares = [np.mean(read_mask(path) != read_mask(found / path.name)) for path in exact]
        numbers["differing"] = float(np.mean(shares))
    return numbers


@torch.no_grad()
def make_cam(bench: Bench) -> Numbers:
    """The step's time over that of its forwards alone, an image each."""
    said = bench.run("cams", ["make_cam"], f"--cam_weights_name={bench.root / 'cam.pth'}")
    classifier = bench.runtime().place(build_network(CamClassifier, bench.backbone))
    forwards = 0.0
    pictures = bench.pictures(min(bench.images, 100))
    for picture in pictures:
        levels = [
            torch.from_numpy(x).to(bench.device) for x in image_pyramid(picture.image, SCALES)
        ]

        def forward(levels: list[Tensor] = levels) -> None:
            for level in levels:
                classifier.cams_of_pair(level)

        forwards += time_call(forward, 1)
    each = said["make_cam"]["seconds"] / bench.images
    return {
        "value": each / (forwards / len(pictures)), "images_a_second": 1 / each,
        "peak_mib": said["peak_mib"],
    }  # fmt: skip


def training(bench: Bench, step: str, precision: str) -> Numbers:
    """Images a second with their input pipeline, memory, share of the matrix products' rate.

    In train_cam's time is also the look at its training images at the end, 500 at most.
    """
    said = bench.run(
        f"{step}_{precision}", [step], f"--precision={precision}",
        f"--boundary_label_dir={bench.root / 'labels' / 'boundary_label'}",
    )  # fmt: skip
    rate = said[step]["images"] / said[step]["seconds"]
    kind = CamClassifier if step == "train_cam" else BoundaryNetwork
    network = build_network(kind, bench.backbone).to(bench.device).train()
    x = torch.randn(2, 3, bench.crop, bench.crop, device=bench.device)
    flops = count_flops(lambda: network(x).sum().backward()) / len(x)
    peak = matmul_rate(512 if bench.device == "cpu" else 4096, bench.device, TYPES[precision])
    return {"value": rate, "peak_mib": said["peak_mib"], "share_of_peak": rate * flops / peak}


def step_of_train_bes(bench: Bench) -> Numbers:
    """A step as the reference writes it, over ours in fp32 and in bf16.

    The reference leaves torch's default, which lets a GPU round to TF32; ours in fp32 does not.
    """
    batch = train_bes.make_batch(bench.crop, bench.batch, bench.device)
    place = bench.runtime().place
    reference = train_bes.reference_form(bench.backbone, bench.device)
    without_tf32 = seconds_of_step(bench, reference, batch)
    torch.backends.cudnn.allow_tf32 = True
    theirs = seconds_of_step(bench, reference, batch)
    torch.backends.cudnn.allow_tf32 = False
    ours = place(build_network(BoundaryNetwork, bench.backbone)).train()
    fp32 = seconds_of_step(bench, ours, batch)
    channels_last = train_bes.our_form(bench.backbone, bench.device)
    bf16 = seconds_of_step(bench, channels_last, batch, in_bf16=True)
    return {
        "value": theirs / fp32, "in_bf16": theirs / bf16, "reference_ms": 1000 * theirs,
        "reference_without_tf32_ms": 1000 * without_tf32, "ours_ms": 1000 * fp32,
    }  # fmt: skip


def seconds_of_step(
    bench: Bench, network: BoundaryNetwork, batch: train_bes.Batch, *, in_bf16: bool = False
) -> float:
    optimizer = train_bes.optimizer_of(network)
    step = partial(train_bes.step, network, optimizer, batch, in_bf16=in_bf16)
    return time_call(step, bench.repeats)


def layouts_in_train_bes(bench: Bench) -> Numbers:
    """A training step of the boundary network with each memory layout of its weights."""
    batch = train_bes.make_batch(bench.crop, bench.batch, bench.device)

    def seconds(network: nn.Module, in_bf16: bool) -> float:
        assert isinstance(network, BoundaryNetwork)
        return seconds_of_step(bench, network.train(), batch, in_bf16=in_bf16)

    return both_layouts(bench, BoundaryNetwork, seconds)


@torch.no_grad()
def layouts_in_make_cam(bench: Bench) -> Numbers:
    """The classifier's forward of an image and its mirror image at scale 1, with each layout."""
    x = torch.from_numpy(image_pyramid(read_picture(bench.scale).image, (1.0,))[0])
    x = x.to(bench.device)

    def seconds(network: nn.Module, in_bf16: bool) -> float:
        assert isinstance(network, CamClassifier)
        with torch.autocast(bench.device, torch.bfloat16, enabled=in_bf16):
            return time_call(partial(network.cams_of_pair, x), bench.repeats)

    return both_layouts(bench, CamClassifier, seconds)


def both_layouts(
    bench: Bench, kind: type[BoundaryNetwork] | type[CamClassifier],
    seconds: Callable[[nn.Module, bool], float],
) -> Numbers:  # fmt: skip
    """Time of channels-last over that of the usual layout: below 1, channels-last is faster."""
    bench.runtime()  # fp32 without TF32
    over = []
    for in_bf16 in (False, True):
        channels_last, usual = (
            build_network(kind, bench.backbone).to(bench.device, memory_format=layout)
            for layout in (torch.channels_last, torch.contiguous_format)
        )
        over.append(seconds(channels_last, in_bf16) / seconds(usual, in_bf16))
    return {"value": over[0], "in_bf16": over[1]}


def segmentation(bench: Bench) -> Numbers:
    """make_seg with its CRF, images a second, after so few updates of train_seg.

    Such a network is sure of nothing, so that its CRF has all labels: the slowest case.
    """
    crop, updates = (64, 1) if bench.quick else (321, 20)
    backbone = "squeezenet1_0" if bench.quick else "resnet101"
    said = bench.run(
        "seg", ["train_seg", "make_seg"], "--seg_label_dir=gt", "--seg_init=none",
        f"--seg_backbone={backbone}", f"--seg_crop={crop}", f"--seg_iters={updates}",
        "--seg_val_every=0", "--seg_learning_rate=1e-5",
        *(["--seg_batch_size=2", "--seg_accumulation=1"] if bench.quick else []),
    )  # fmt: skip
    train, make = said["train_seg"], said["make_seg"]
    return {
        "value": bench.images / make["seconds"],
        "train_seg_images_a_second": train["images"] / train["seconds"],
        "peak_mib": said["peak_mib"],
    }


def whole_chain(bench: Bench) -> Numbers:
    """From photographs to scored masks, an epoch of each training, and each step's share."""
    said = bench.run("chain", CHAIN)
    peak = said.pop("peak_mib")
    each = {f"{step}_ms": 1000 * how["seconds"] / bench.images for step, how in said.items()}
    return {"value": sum(each.values()), "peak_mib": peak, **each}


ROWS: dict[str, Row] = {
    "walk": Row("walk, ms an image", walk, {"at_most": 5}),
    "dense_walk": Row("dense squarings of one image, seconds", dense_walk),
    "crfs": Row("both CRFs of label synthesis, ms an image", crfs, {"at_most": 15}),
    "labels": Row("label synthesis, images a second", labels, {"at_least": 60}),
    **{
        f"masks_{precision}": Row(
            f"make_walk and make_sem_seg, {precision}, images a second",
            partial(masks, precision=precision),
            {"at_least": 60} if precision == "fp32" else {},
            precision,
            needs="" if precision == "fp32" else "masks_fp32",
        )
        for precision in TYPES
    },
    "make_cam": Row("make_cam over its forwards alone", make_cam, {"at_most": 1.15}),
    **{
        f"{step}_{precision}": Row(
            f"{step}, {precision}, images a second",
            partial(training, step=step, precision=precision),
            precision=precision,
            needs="labels" if step == "train_bes" else "",
        )
        for step in ("train_cam", "train_bes")
        for precision in TYPES
    },
    "step": Row(
        "a step of train_bes: the reference's over ours, fp32", step_of_train_bes, {"at_least": 4}
    ),
    "layouts_bes": Row("a step of train_bes: channels-last over the usual layout, fp32",
                       layouts_in_train_bes),
    "layouts_cam": Row("a forward of make_cam: channels-last over the usual layout, fp32",
                       layouts_in_make_cam),
    "seg": Row("make_seg with its CRF of all labels, images a second", segmentation),
    "chain": Row("the whole chain, ms an image", whole_chain),
}  # fmt: skip
