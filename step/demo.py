"""What `--demo` runs: its settings, its dataset, its comparisons and their one table."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from misc.config import Config
from step.report import ScoreFile, percent, spread_text, table

DEMO_SETTINGS: dict[str, Any] = {
    "out_dir": Path("demo_result"),
    "backbone": "resnet18",
    "backbone_weights": "none",
    "bes_backbone": "cam",
    "cam_crop_size": 128,
    "cam_resize_long": (128.0, 192.0),
    "cam_batch_size": 10,
    "cam_num_epoches": 11,
    "cam_momentum": 0.9,
    "cam_learning_rate": 0.05,
    "cam_classifier_rate": 1.0,
    "cam_scales": (1.0, 0.5, 1.5),
    "bes_crop_size": 160,
    "bes_batch_size": 5,
    "bes_num_epoches": 10,
    "bes_learning_rate": 0.02,
    "sem_seg_bg_thres": 0.4,
    "bes_momentum": 0.9,
    "seg_backbone": "resnet18",
    "seg_init": "cam",
    "seg_crop": 96,
    "seg_batch_size": 5,
    "seg_accumulation": 1,
    "seg_iters": 32,
    "seg_val_every": 0,
    "seg_learning_rate": 1.5e-4,
    "seg_pyramid": (1.0, 0.5),
    "seg_test_scales": (1.0, 0.5),
    "seed": 0,
    "panels": 6,
}
DEMO_DATASET = {"num_train": 80, "num_val": 20, "size": 192, "empty_every": 5}
BES_ENDING, GT_ENDING = "_bes", "_gt"
STEPS_WITH_SALIENCY = ("make_boundary_label", "train_bes", "make_sem_seg", "eval_sem_seg")
STEPS_WITH_LABELS = ("train_seg", "make_seg", "eval_seg")


def without_saliency(sbe: Config) -> Config:
    """BES: the same CAMs, everything after them in folders of its own."""
    return dataclasses.replace(
        sbe,
        saliency="none",
        boundary_label_dir=sbe.out_dir / "bes" / "boundary_label",
        bes_weights_name=sbe.out_dir / "bes" / "weights.pth",
        sem_seg_out_dir=sbe.out_dir / "bes" / "sem_seg",
        panels=0,
    )


def with_exact_masks(sbe: Config) -> Config:
    """Full supervision: the upper bound of the segmentation network."""
    return dataclasses.replace(
        sbe,
        seg_label_dir="gt",
        seg_weights_name=sbe.out_dir / "gt" / "seg.pth",
        seg_out_dir=sbe.out_dir / "gt" / "seg",
        panels=0,
    )


def comparison_table(scores: ScoreFile) -> str:
    """CAM, BES, SBE and what DeepLab-v2 learnt side by side: mIoU in percent, seconds a step."""
    cam = scores.step("eval_cam")
    rows = []
    if cam:
        name = f"CAM (best threshold, {cam['best_threshold']:g})"
        seconds = _seconds(scores, ("train_cam", "make_cam", "eval_cam"))
        rows.append([name, percent(cam["best"]["miou"]), "-", seconds])
    for name, ending in (("BES (no saliency)", BES_ENDING), ("SBE", "")):
        result = scores.step(f"eval_sem_seg{ending}")
        if result:
            seconds = _seconds(scores, STEPS_WITH_SALIENCY, ending)
            rows.append([name, percent(result["miou"]), percent(result["miou_crf"]), seconds])
    for masks, ending in (("SBE's masks", ""), ("exact masks", GT_ENDING)):
        last = scores.step(f"eval_seg{ending}").get("last")
        if last:
            mious = [spread_text(last.get(key, {})) for key in ("miou", "miou_crf")]
            seconds = _seconds(scores, STEPS_WITH_LABELS, ending)
            rows.append([f"DeepLab-v2 on val, from {masks}", *mious, seconds])
    return table(["masks of", "mIoU", "mIoU after CRF", "seconds a step"], rows)


def _seconds(scores: ScoreFile, names: Iterable[str], ending: str = "") -> str:
    """What each of the steps took, where it ran."""
    took = {name: scores.step(f"{name}{ending}").get("seconds") for name in names}
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items() if seconds)
