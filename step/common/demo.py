"""What `--demo` runs: its settings, its dataset, its comparisons and their one table."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from misc.config import Config
from step.artefacts import BES_WEIGHTS, BOUNDARY_LABELS, PSEUDO_MASKS, WALKS
from step.common.runfile import SECONDS, read_run
from step.common.scorefile import ScoreFile
from step.common.scores import percent, spread_text
from step.common.table import table
from step.graph import Node, Step
from step.run import Run

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
    "seg_iters": 64,
    "seg_val_every": 0,
    "seg_learning_rate": 1.5e-4,
    "seg_pyramid": (1.0, 0.5),
    "seg_test_scales": (1.0, 0.5),
    "seed": 0,
    "panels": 6,
}
DEMO_DATASET = {"num_train": 80, "num_val": 20, "size": 192, "empty_every": 5, "seed": 0}
BES_ENDING, GT_ENDING = "_bes", "_gt"
SALIENT_CAM_ENDING, SALIENT_WALK_ENDING = "_salient_cam", "_salient_walk"
STEPS_TO_CAMS = ("train_cam", "make_cam", "eval_cam")
STEPS_WITH_SALIENCY = (
    "make_boundary_label", "train_bes", "make_walk", "make_sem_seg", "eval_sem_seg",
)  # fmt: skip
STEPS_OF_MASKS = ("make_sem_seg", "eval_sem_seg")
STEPS_WITH_LABELS = ("train_seg", "make_seg", "eval_seg")


def demo_nodes(run: Run, steps: Sequence[Step]) -> list[Node]:
    """SBE; BES on the same CAMs; masks by the rule of saliency; DeepLab-v2 on exact masks."""
    folder = run.config.out_dir
    bes = run.variant(
        saliency="none",
        **{
            BOUNDARY_LABELS.flag: folder / "bes" / "boundary_label",
            BES_WEIGHTS.flag: folder / "bes" / "weights.pth",
            WALKS.flag: folder / "bes" / "walk",
            PSEUDO_MASKS.flag: folder / "bes" / "sem_seg",
        },
    )
    salient = {
        ending: run.variant(
            sem_seg_scores=scores,
            sem_seg_rule="saliency",
            **{PSEUDO_MASKS.flag: folder / ending.removeprefix("_")},
        )
        for scores, ending in (("cam", SALIENT_CAM_ENDING), ("walk", SALIENT_WALK_ENDING))
    }
    supervised = run.variant(
        seg_label_dir="gt",
        seg_weights_name=folder / "gt" / "seg.pth",
        seg_out_dir=folder / "gt" / "seg",
    )
    return [
        *(node for step in steps for node in step.nodes(run)),
        *_variant(bes, steps, STEPS_WITH_SALIENCY, "BES", BES_ENDING),
        *_variant(
            salient[SALIENT_CAM_ENDING], steps, STEPS_OF_MASKS, "salient CAM", SALIENT_CAM_ENDING
        ),
        *_variant(
            salient[SALIENT_WALK_ENDING], steps, STEPS_OF_MASKS, "salient walk", SALIENT_WALK_ENDING
        ),
        *_variant(supervised, steps, STEPS_WITH_LABELS, "exact masks", GT_ENDING),
    ]


def _variant(
    run: Run, steps: Sequence[Step], names: Sequence[str], variant: str, ending: str
) -> list[Node]:
    return [
        Node(node.step, node.run, ", ".join(filter(None, (variant, node.variant))),
             node.ending + ending)
        for step in steps
        if step.name in names
        for node in step.nodes(run)
    ]  # fmt: skip


def comparison_table(config: Config) -> str:
    """CAM, BES, SBE and what DeepLab-v2 learnt side by side: mIoU in percent, seconds per step.

    "" if nothing of it is known.
    """
    scores = ScoreFile.of(config)
    steps = read_run(config.out_dir)["steps"]
    cam = scores.step("eval_cam")
    rows = []
    if cam:
        name = f"CAM (best threshold, {cam['best_threshold']:g})"
        seconds = _seconds(steps, STEPS_TO_CAMS)
        rows.append([name, percent(cam["best"]["miou"]), "-", seconds])
    for name, ending in (
        ("BES (no saliency)", BES_ENDING),
        ("SBE", ""),
        ("salient CAM (WSSS-BED)", SALIENT_CAM_ENDING),
        ("salient walk", SALIENT_WALK_ENDING),
    ):
        result = scores.step(f"eval_sem_seg{ending}")
        if result:
            seconds = _seconds(steps, STEPS_WITH_SALIENCY, ending)
            rows.append([name, percent(result["miou"]), percent(result["miou_crf"]), seconds])
    for masks, ending in (("SBE's masks", ""), ("exact masks", GT_ENDING)):
        last = scores.step(f"eval_seg{ending}").get("last")
        if last:
            mious = [spread_text(last.get(key, {})) for key in ("miou", "miou_crf")]
            seconds = _seconds(steps, STEPS_WITH_LABELS, ending)
            rows.append([f"DeepLab-v2 on val, from {masks}", *mious, seconds])
    header = ["masks of", "mIoU", "mIoU after CRF", "seconds per step"]
    return table(header, rows, width=100) if rows else ""


def _seconds(steps: Mapping[str, Any], names: Iterable[str], ending: str = "") -> str:
    """What each of the steps took, where it ran."""
    took = {name: steps.get(f"{name}{ending}", {}).get(SECONDS) for name in names}
    return ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items() if seconds)
