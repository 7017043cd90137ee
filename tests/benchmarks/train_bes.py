"""A training step of the boundary network: the backbone with and without gradients.

python -m tests.benchmarks.train_bes [--quick] [--json FILE] [--device cuda]
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from misc.boundary_label import make_boundary_label
from misc.training import PolySgd
from misc.transforms import normalize_crops
from net.boundary import BoundaryNetwork
from net.losses import boundary_loss
from tests.benchmarks.common import (
    Report,
    count_flops,
    make_parser,
    matmul_rate,
    measure_once,
    time_call,
)
from tests.benchmarks.inputs import (
    QUICK_SCALE,
    backbone_name,
    build_network,
    read_picture,
    reference_network,
    write_dataset,
)
from tests.helpers.memory import MIB
from voc12.dataloader import BoundaryCrops
from voc12.files import VocDataset

FULL_CROP, QUICK_CROP, BATCH, STRIDE = 512, 64, 2, 4
CODES = (0, 50, 100, 150, 200, 250)
Batch = dict[str, Tensor]


def make_batch(size: int, count: int, device: str) -> Batch:
    """Random crops (count,3,size,size), codes and saliency, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    small = size // STRIDE
    drawn = torch.randint(len(CODES), (count, small, small), generator=generator)
    batch = {
        "image": torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator),
        "box": torch.tensor([[0, size, 0, size]] * count),
        "codes": torch.tensor(CODES, dtype=torch.uint8)[drawn],
        "saliency": torch.rand(count, size, size, generator=generator).round(),
    }
    return {name: value.to(device) for name, value in batch.items()}


def reference_form(name: str, device: str) -> BoundaryNetwork:
    """The network as the reference trains it: gradients flow into the backbone and lie there."""
    network = reference_network(BoundaryNetwork, name).to(device).train()
    network.backbone.requires_grad_(True)
    return network


def our_form(name: str, device: str) -> BoundaryNetwork:
    return build_network(BoundaryNetwork, name).to(device).train()


def optimizer_of(network: BoundaryNetwork) -> PolySgd:
    """Over what learns in both forms: the side branches."""
    learning = [p for n, p in network.named_parameters() if not n.startswith("backbone.")]
    return PolySgd(learning, lr=0.1, weight_decay=1e-4, max_step=1000)


def step(
    network: BoundaryNetwork, optimizer: PolySgd, batch: Batch, *, in_bf16: bool = False
) -> None:
    """An update; like `misc.training`'s, mixed precision ends before the gradients."""
    with torch.autocast(batch["image"].device.type, torch.bfloat16, enabled=in_bf16):
        logits = network(normalize_crops(batch["image"], batch["box"]))
        loss = boundary_loss(logits, batch["codes"], batch["saliency"]).total
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def side_gradients(network: BoundaryNetwork) -> Tensor:
    grads = [p.grad for n, p in network.named_parameters() if not n.startswith("backbone.")]
    return torch.cat([grad.flatten() for grad in grads if grad is not None])


def backbone_buffers_mib(network: BoundaryNetwork) -> float:
    grads = [parameter.grad for parameter in network.backbone.parameters()]
    return sum(grad.nbytes for grad in grads if grad is not None) / MIB


def compare(report: Report, args: argparse.Namespace, name: str, size: int, repeats: int) -> None:
    """Both forms on one batch: time, memory, gradient buffers, and that the gradients agree."""
    batch = make_batch(size, BATCH, args.device)
    forms: dict[str, Callable[[str, str], BoundaryNetwork]] = {
        "ours: backbone without gradients": our_form,
        "reference: backbone with gradients": reference_form,
    }
    seconds: dict[str, float] = {}
    gradients: dict[str, Tensor] = {}
    buffers: dict[str, float] = {}
    for what, build in forms.items():
        network = build(name, args.device)
        measured = measure_once(partial(step, network, optimizer_of(network), batch), args.device)
        gradients[what] = side_gradients(network).clone()
        work = partial(step, network, optimizer_of(network), batch)
        seconds[what] = time_call(work, repeats)
        buffers[what] = backbone_buffers_mib(network)
        report.add(
            f"{what}, batch {BATCH}, crop {size}",
            seconds=seconds[what],
            peak_mib=measured.peak_mib,
            backbone_gradients_mib=buffers[what],
        )
    ours, reference = forms
    difference = (gradients[ours] - gradients[reference]).abs().max()
    error = float(difference / gradients[reference].abs().max())
    report.add("ours against the reference", error=error,
               times_faster=seconds[reference] / seconds[ours])  # fmt: skip
    if not report.quick:
        report.target("a step, seconds", seconds[ours], at_most=0.9)
    report.target("gradient buffers of the backbone, MiB", buffers[ours], at_most=0)
    report.target("error of the gradients, of the largest", error, at_most=1e-3)
    network = our_form(name, args.device)
    flops = count_flops(partial(step, network, optimizer_of(network), batch))
    rate = matmul_rate(device=args.device)
    report.add_floor(
        f"a step's {flops / 1e9:.0f} GFLOP at {rate / 1e9:.0f} GFLOP/s", flops / rate,
        seconds[ours],
    )  # fmt: skip


def add_reading(report: Report, size: int, scale: float, repeats: int) -> None:
    """What a worker process needs for one image's crop, which the step must not wait for."""
    picture = read_picture(scale)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        ids = write_dataset(root, 1, picture)
        regions = np.zeros(picture.mask.shape, np.uint8)
        saliency = (picture.saliency / 255).astype(np.float32)
        codes = make_boundary_label(regions, 1, saliency)
        Image.fromarray(codes).save(root / "codes.png")
        dataset = VocDataset.open(root / "voc", root / "voc" / "Sal")
        crops = BoundaryCrops(dataset, ids, lambda _: root / "codes.png", size, 0.0, 0)
        seconds = time_call(lambda: crops[0, 0], repeats)
    report.add("reading one crop, in a worker process", seconds=seconds)


def grow(report: Report, args: argparse.Namespace, name: str, size: int, repeats: int) -> None:
    """How a step grows with the crop's area and with the batch."""
    network = our_form(name, args.device)
    optimizer = optimizer_of(network)
    shapes = [(f"area x{area}", round(size * area**0.5 / 32) * 16, BATCH) for area in (1, 2, 4)]
    shapes += [(f"images {count}", size // 2, count) for count in (1, 4, 16)]
    for what, side, count in shapes:
        batch = make_batch(side, count, args.device)
        seconds = time_call(partial(step, network, optimizer, batch), repeats)
        report.add(f"{what}, batch {count}, crop {side}", seconds=seconds, each=seconds / count)


def main(arguments: Sequence[str] | None = None) -> None:
    args = make_parser(__doc__).parse_args(arguments)
    name, repeats = backbone_name(args.quick), 1 if args.quick else 7
    size = QUICK_CROP if args.quick else FULL_CROP
    report = Report("Boundary network, a training step", quick=args.quick)
    compare(report, args, name, size, repeats)
    add_reading(report, size, QUICK_SCALE if args.quick else 1.0, repeats)
    grow(report, args, name, size, 1 if args.quick else 3)
    report.finish(args.json)


if __name__ == "__main__":
    main()
