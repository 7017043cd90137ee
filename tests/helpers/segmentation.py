"""Tiny trainings of the segmentation network from the command line."""

import json
from pathlib import Path
from typing import Any

from tests.helpers.tiny import Run, run

SEG_STEPS = "--steps=train_seg,make_seg,eval_seg"
SEG_FLAGS = [
    "--seg_backbone=squeezenet1_0",
    "--seg_init=none",
    "--seg_label_dir=gt",
    "--seg_crop=48",
    "--seg_batch_size=2",
    "--seg_iters=4",
    "--seg_learning_rate=0.002",
    "--seg_pyramid=1,0.5",
    "--seg_test_scales=1,0.5",
    "--seg_val_every=2",
]
TRAIN_ONLY = ("--steps=train_seg", "--seg_val_every=0")
VAL_IDS = [f"2007_{number:06d}" for number in range(9, 12)]


def run_seg(root: Path, out_dir: Path, *flags: str) -> Run:
    """The three steps, unless `flags` name others."""
    return run(root, out_dir, SEG_STEPS, *SEG_FLAGS, *flags)


def scores_of(done: Run, step: str = "eval_seg") -> dict[str, Any]:
    return json.loads((done.out_dir / "scores.json").read_text())[step]


def notes_of(done: Run, name: str = "seg.pth") -> dict[str, Any]:
    return json.loads((done.out_dir / "weights" / f"{name}.notes.json").read_text())


def weights_of(done: Run, name: str = "seg.pth") -> bytes:
    return (done.out_dir / "weights" / name).read_bytes()
