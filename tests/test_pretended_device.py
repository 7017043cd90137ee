"""The pipeline on a pretended accelerator: the CPU's bytes, and few waits for the device.

Each wait costs a GPU its whole queue: all that it has still to do is waited for, and nothing new
comes meanwhile. `WAITS` says how often each step waits; a change that adds one has to say so there.
"""

import contextlib
import gc
import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from misc.training import PolySgd, train
from misc.weights import load_weights
from tests.helpers.cuda_kernels import without_kernel
from tests.helpers.pretended_device import Record, pretended_machine
from tests.helpers.segmentation import SEG_FLAGS, SEG_STEPS
from tests.helpers.tiny import Run, contents, copy_run, run

pytestmark = pytest.mark.slow

# Waits before the first image or batch, from each to the next, and after the last. Where a network
# begins to work, each of its tensors is copied to the device; what is kept comes to the CPU alike,
# but for DeepLab's buffer, which is none of its weights.
CLASSIFIER, BOUNDARY_NETWORK, DEEPLAB = 121, 137, 59
NORMALISED = 2  # mean and standard deviation of images: copied once
COPIED = 1  # a result comes to the CPU
LOSS = 1  # of an update, for the curve, with the word whether to stop
FINITE = 1  # all weights are looked at together
EVALUATED = 1  # all batches are summed up on the device
NOT_FINITE = 1  # an image's logits are looked at
NEIGHBOURS = 2  # of a grid's pixels: numbered once for each size
LATTICE = 1  # how many vertices it has
CRF = 2 * LATTICE + COPIED  # one lattice for the image, one for its size
SEGMENTED = NOT_FINITE + COPIED
MASKS = NOT_FINITE + 1 + CRF  # which classes can win is looked at
WAITS = {
    # It goes on after its first update: the second and the last end an epoch, where val is
    # evaluated, after the last also the training images.
    "train_cam": [0, LOSS + FINITE + EVALUATED, LOSS, LOSS + FINITE + 2 * EVALUATED],
    "make_cam": [CLASSIFIER + 2 * COPIED, *[2 * COPIED] * 7, 0],
    "make_confident_regions": [*[CRF] * 8, 0],
    "make_boundary_label": [0] * 9,
    "train_bes": [0, LOSS, LOSS + FINITE, LOSS, LOSS + FINITE],
    # Four images are walked on together; whether all are finite is asked once.
    "make_walk": [
        BOUNDARY_NETWORK + NEIGHBOURS + 1 + 2 * COPIED, *[2 * COPIED] * 3,
        1 + 2 * COPIED, *[2 * COPIED] * 3, 0,
    ],
    "make_sem_seg": [*[CRF] * 8, 0],
    "contact sheets": [0, *[1 + COPIED] * 2],  # of the boundary network: a photograph, and back
}  # fmt: skip
VAL = FINITE + 3 * SEGMENTED + 2  # of three images; processes sum up their matrices on the device
SEG_WAITS = {
    # Two batches make an update. The second update is the best on val, and kept.
    "train_seg": [
        0, NORMALISED + LOSS, LOSS, LOSS, LOSS + VAL + DEEPLAB - 1, LOSS, LOSS + VAL,
    ],
    # The second time the sizes are known.
    "make_seg": [DEEPLAB + MASKS, MASKS, MASKS, 0],
    "make_seg (best)": [DEEPLAB + MASKS - LATTICE, *[MASKS - LATTICE] * 2, 0],
}  # fmt: skip
RARE_CHECKPOINTS = "--checkpoint_every=600"  # each copies all weights to the CPU


def files(out_dir: Path) -> dict[str, bytes]:
    """What the steps made, DeepLab's masks and the contact sheets among them."""
    others = [path for name in ("seg", "panels") for path in (out_dir / name).rglob("*.png")]
    return contents(out_dir) | {str(p.relative_to(out_dir)): p.read_bytes() for p in others}


class Pretended(NamedTuple):
    """A run on the pretended device, what was done there, and which networks lived too long."""

    run: Run
    record: Record
    alive: list[str]

    def demand(self, on_cpu: Run, waits: dict[str, list[int]]) -> None:
        """Compare it with a run on the CPU, and with the waits that are stated."""
        made, expected = files(self.run.out_dir), files(on_cpu.out_dir)
        assert made.keys() == expected.keys()
        assert [name for name in expected if made[name] != expected[name]] == []
        assert not self.record.races
        of_items = self.record.of_items
        places = [f"{n} {kind}: {place}" for (kind, place), n in self.record.waits.most_common()]
        assert {step: of_items.get(step) for step in waits} == waits, "\n".join(places)
        others = {name: counts for name, counts in of_items.items() if name not in waits}
        assert sum(map(sum, others.values())) == 0, others
        if torch.backends.cuda.is_built():
            assert without_kernel(self.record.operators) == []


@contextlib.contextmanager
def stopped_by_the_first_update() -> Iterator[None]:
    """A training obeys after that, and keeps a checkpoint."""
    step = PolySgd.step

    def step_and_stop(self: PolySgd, closure: Any = None) -> float | None:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PolySgd, "step", step_and_stop)
        yield


@contextlib.contextmanager
def networks_watched() -> Iterator[list[str]]:
    """Kinds of the networks that are still there when the next one begins to work.

    Python's own collections are off: what is freed is freed by the run, at that time.
    """
    alive: list[str] = []
    earlier: list[weakref.ref[nn.Module]] = []

    def note(network: nn.Module) -> None:
        alive.extend(type(each()).__name__ for each in earlier if each() is not None)
        earlier[:] = [weakref.ref(network)]

    def watched_train(runtime: Any, learning: Any, *args: Any, **options: Any) -> Any:
        note(learning.network)
        return train(runtime, learning, *args, **options)

    def watched_load(network: nn.Module, *args: Any, **options: Any) -> None:
        note(network)
        load_weights(network, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("misc.training.train", watched_train)
        patch.setattr("step.common.networks.load_weights", watched_load)
        gc.disable()
        try:
            yield alive
        finally:
            gc.enable()


@pytest.fixture(scope="module")
def pretended(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Pretended:
    """All steps; the first training was stopped, and went on."""
    out_dir = tmp_path_factory.mktemp("pretended") / "out"
    with pretended_machine() as record, pytest.MonkeyPatch.context() as patch:
        with stopped_by_the_first_update():
            stopped = run(tiny_dataset, out_dir, RARE_CHECKPOINTS)
        assert stopped.status == 143
        assert "stopped at step 1 of 4; a checkpoint is kept" in stopped.stderr
        patch.setattr("step.make_walk.IMAGES_A_WALK", 4)
        with networks_watched() as alive:
            done = run(tiny_dataset, out_dir, RARE_CHECKPOINTS, "--panels=2")
    assert done.status == 0, done.stderr
    return Pretended(done, record, alive)


def test_stopped_and_resumed_it_leaves_the_cpus_bytes_and_seldom_waits(
    pretended: Pretended, finished_run: Run
) -> None:
    pretended.demand(finished_run, WAITS)
    trained = ("aten::convolution_backward", "CUDA")
    walked = ("aten::mm", "SparseCsrCUDA")
    assert {trained, walked} <= pretended.record.operators


def test_each_network_is_freed_before_the_next_one_works(pretended: Pretended) -> None:
    assert pretended.alive == []


def test_in_mixed_precision_too(tiny_dataset: Path, tmp_path: Path) -> None:
    flags = ["--steps=train_cam,make_cam", "--precision=bf16", "--cam_num_epoches=1"]
    with networks_watched() as alive:
        done = run(tiny_dataset, tmp_path / "out", *flags, RARE_CHECKPOINTS)
    assert done.status == 0, done.stderr
    assert alive == []


@pytest.mark.parametrize(
    ("flags", "waits"),
    [
        (["--sem_seg_scores=cam"], [*[CRF] * 8, 0]),
        (["--sem_seg_scores=cam", "--sem_seg_rule=saliency"], [*[CRF] * 8, 0]),
    ],
)
def test_masks_of_other_scores_and_rules(
    pretended: Pretended,
    finished_run: Run,
    tiny_dataset: Path,
    tmp_path: Path,
    flags: list[str],
    waits: list[int],
) -> None:
    words = ["--steps=make_sem_seg", "--overwrite", *flags]
    on_cpu = run(tiny_dataset, copy_run(finished_run.out_dir, tmp_path / "cpu"), *words)
    with pretended_machine() as record:
        done = run(tiny_dataset, copy_run(finished_run.out_dir, tmp_path / "out"), *words)
    assert done.status == on_cpu.status == 0, done.stderr
    Pretended(done, record, []).demand(on_cpu, {"make_sem_seg": waits})


def test_deeplab(tiny_dataset: Path, tmp_path: Path) -> None:
    flags = [SEG_STEPS, *SEG_FLAGS, RARE_CHECKPOINTS, "--seg_iters=3"]
    on_cpu = run(tiny_dataset, tmp_path / "cpu", *flags)
    with pretended_machine() as record, networks_watched() as alive:
        done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == on_cpu.status == 0, done.stderr
    Pretended(done, record, alive).demand(on_cpu, SEG_WAITS)
    assert alive == []
