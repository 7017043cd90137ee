"""What is asked of one GPU; says "not measured" where there is none.

python -m tests.benchmarks.gpu [--quick] [--json FILE] [--images 512]
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from misc.boundary_label import make_confident_regions
from misc.crf import SEED_CRF, DenseCrf
from misc.images import read_mask
from misc.random_walk import random_walk_many
from net.boundary import BoundaryNetwork
from net.cam import CamClassifier
from tests.benchmarks import random_walk
from tests.benchmarks.common import (
    NOT_MEASURED,
    Report,
    count_flops,
    make_parser,
    matmul_rate,
    measure_once,
    time_call,
)
from tests.benchmarks.inputs import (
    QUICK_SCALE,
    Picture,
    backbone_name,
    build_network,
    read_picture,
    run_step,
    write_backbone_weights,
    write_dataset,
    write_weights,
)
from tests.helpers.memory import MIB

TARGETS: dict[str, dict[str, float]] = {
    "walk, ms an image": {"at_most": 5},
    "both CRFs of label synthesis, ms an image": {"at_most": 15},
    "make_boundary_label, images a second": {"at_least": 30},
    "make_walk and make_sem_seg, images a second": {"at_least": 30},
}
OTHERS = (
    "dense squarings, N = 11,750, float32",
    "walk and masks in bf16",
    "train_cam",
    "train_bes",
)
PRECISIONS = ("fp32", "bf16")


def say_not_measured(report: Report) -> None:
    """The whole list without a number."""
    for what in (*TARGETS, *OTHERS):
        report.add(what, value=NOT_MEASURED)
    for what, bound in TARGETS.items():
        report.target(what, None, **bound)


def forward_and_backward(network: nn.Module, x: torch.Tensor) -> None:
    network(x).sum().backward()


class Measurer:
    """Fills the list on the card at hand."""

    def __init__(self, report: Report, root: Path, images: int, *, quick: bool) -> None:
        """Prepare a dataset of `images` images and weights below `root`."""
        self.report = report
        self.root = root
        self.images = images
        self.repeats = 1 if quick else 10
        self.picture: Picture = read_picture(QUICK_SCALE if quick else 1.0)
        self.backbone = backbone_name(quick)
        self.grid = random_walk.QUICK_GRID if quick else random_walk.FULL_GRID
        write_dataset(root, images, self.picture)
        write_weights(build_network(BoundaryNetwork, self.backbone), root / "bes.pth")

    def reached(self, what: str, value: float) -> None:
        """Add a row and hold it against its target."""
        self.report.add(what, value=value)
        self.report.target(what, value, **TARGETS[what])

    def walk(self) -> None:
        """64 images in one product, and the dense way on this card."""
        pair = random_walk.make_input(*self.grid, 2, "cuda")
        pairs = [pair] * 64
        seconds = time_call(partial(random_walk_many, pairs), self.repeats)
        self.reached("walk, ms an image", 1000 * seconds / len(pairs))
        transition = random_walk.dense_transition(pair[1])
        times = random_walk.EXP_TIMES
        dense = measure_once(partial(random_walk.square, transition, times), "cuda")
        self.report.add(
            f"{times} dense squarings, N = {pair[1].numel():,}, float32",
            value=dense.seconds, peak_mib=dense.peak_mib,
        )  # fmt: skip

    def crf(self) -> None:
        """Lattice, both CRFs and the confident regions of one image."""
        cam = torch.from_numpy(self.picture.cam).cuda()
        image = self.picture.image

        def both() -> torch.Tensor:
            crf = DenseCrf(image, SEED_CRF, backend="torch", device="cuda")
            return make_confident_regions(image, cam, crf=crf)

        seconds = time_call(both, self.repeats, warmup=2)
        self.reached("both CRFs of label synthesis, ms an image", 1000 * seconds)
        on_cpu = make_confident_regions(image, self.picture.cam)
        differing = float(np.mean(both().cpu().numpy() != on_cpu))
        self.report.target("share of regions that differ from the CPU's", differing, at_most=1e-4)

    def labels(self) -> None:
        """The whole step of label synthesis."""
        said = self._run("make_boundary_label", "labels")
        each = self.images / said["seconds"]
        self.reached("make_boundary_label, images a second", each)

    def masks(self) -> None:
        """Walk and pseudo masks in both precisions, and whether bf16 moves a mask."""
        for precision in PRECISIONS:
            flags = (f"--bes_weights_name={self.root / 'bes.pth'}", f"--precision={precision}")
            said = [self._run(s, precision, *flags) for s in ("make_walk", "make_sem_seg")]
            rate = self.images / sum(step["seconds"] for step in said)
            if precision == "fp32":
                self.reached("make_walk and make_sem_seg, images a second", rate)
        masks = [read_mask(self.root / p / "sem_seg" / "000000_crf.png") for p in PRECISIONS]
        self.report.add(
            "both in bf16, images a second", value=rate,
            differing=float(np.mean(masks[0] != masks[1])),
        )  # fmt: skip

    def train(self) -> None:
        """Both trainings: images a second with their input pipeline, memory, share of peak."""
        size = (3, 512, 512) if self.backbone == "resnet50" else (3, 64, 64)
        kinds: dict[str, type[BoundaryNetwork] | type[CamClassifier]] = {
            "train_cam": CamClassifier,
            "train_bes": BoundaryNetwork,
        }
        for step, kind in kinds.items():
            network = build_network(kind, self.backbone).cuda().train()
            x = torch.randn(2, *size, device="cuda")
            flops = count_flops(partial(forward_and_backward, network, x)) / len(x)
            for precision in PRECISIONS:
                torch.cuda.reset_peak_memory_stats()
                said = self._train(step, precision, size[-1])
                rate = said["images"] / said["seconds"]
                kind_of_number = torch.float32 if precision == "fp32" else torch.bfloat16
                peak = matmul_rate(4096, "cuda", kind_of_number)
                self.report.add(
                    f"{step}, {precision}, batch 16, images a second", value=rate,
                    peak_mib=torch.cuda.max_memory_allocated() / MIB,
                    share_of_peak=rate * flops / peak,
                )  # fmt: skip

    def _train(self, step: str, precision: str, crop: int) -> dict[str, float]:
        name = step.removeprefix("train_")
        labels = self.root / "labels" / "boundary_label"
        weights = write_backbone_weights(self.backbone, self.root / "backbone.pth")
        return run_step(
            step, self.root, self.root / f"{step}_{precision}", "--device=cuda",
            f"--backbone={self.backbone}", f"--backbone_weights={weights}",
            f"--precision={precision}", f"--{name}_num_epoches=1", f"--{name}_crop_size={crop}",
            f"--{name}_learning_rate=0.001", f"--boundary_label_dir={labels}",
        )  # fmt: skip

    def _run(self, step: str, folder: str, *flags: str) -> dict[str, float]:
        return run_step(
            step, self.root, self.root / folder, "--device=cuda", f"--backbone={self.backbone}",
            f"--cam_out_dir={self.root / 'cam'}", *flags,
        )  # fmt: skip


def measure(report: Report, images: int, *, quick: bool) -> None:
    """Everything on the list, in an order in which later rows find what they need."""
    with TemporaryDirectory() as folder:
        measurer = Measurer(report, Path(folder), images, quick=quick)
        rows: list[Callable[[], None]] = [
            measurer.walk, measurer.crf, measurer.labels, measurer.masks, measurer.train,
        ]  # fmt: skip
        for row in rows:
            row()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=512, help="images of a step (default: 512)")
    args: argparse.Namespace = parser.parse_args(arguments)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no card"
    report = Report(f"On a GPU: {card}", quick=args.quick)
    if torch.cuda.is_available():
        measure(report, 20 if args.quick else args.images, quick=args.quick)
    else:
        say_not_measured(report)
    report.finish(args.json)


if __name__ == "__main__":
    main()
