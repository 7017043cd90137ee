"""Named sets of settings: the published ones of a dataset or a method, set at once."""

import argparse
import dataclasses
import logging
from typing import Any

from misc.config.settings import typed
from misc.errors import UserError

logger = logging.getLogger(__name__)

# Source: WSSS-BED (arXiv 2404.00918) for its plain CAMs; the usual DeepLab-v2, net/README.md.
_WSSS_BED: dict[str, Any] = {
    "wsss_bed_act_thres": 0.1,
    "wsss_bed_sal_thres": 0.2,
    "wsss_bed_ignore": True,
}
_DEEPLAB: dict[str, Any] = {
    "seg_backbone": "resnet101",
    "seg_crop": 321,
    "seg_rescale": (0.5, 0.75, 1.0, 1.25, 1.5),
    "seg_pyramid": (1.0, 0.75, 0.5),
    "seg_test_scales": (1.0, 0.75, 0.5),
    "seg_learning_rate": 2.5e-4,
    "seg_weight_decay": 5e-4,
    "seg_momentum": 0.9,
}
PRESETS: dict[str, dict[str, Any]] = {
    "voc12": {
        "train_aug_list": "train_aug",
        **_WSSS_BED,
        **_DEEPLAB,
        "seg_batch_size": 5,
        "seg_accumulation": 2,
        "seg_iters": 20_000,
        "seg_crf": True,
    },
    "coco14": {
        "train_aug_list": "train",
        **_WSSS_BED,
        **_DEEPLAB,
        "seg_batch_size": 20,
        "seg_accumulation": 1,
        "seg_iters": 50_000,
        "seg_crf": False,
    },
    # Source: the code published with BES (ECCV 2020).
    "bes": {"saliency": "none", "cam_eval_thres": 0.11, "sem_seg_bg_thres": 0.25},
}


def apply_preset(args: argparse.Namespace, settings: type) -> None:
    """Set what `--preset` stands for in parsed flags, and say so; flags that were given win.

    Args:
        args: parsed flags; those that were not given are not in it.
        settings: the dataclass with their defaults.

    Raises:
        UserError: together with `--demo`, which has settings of its own.
    """
    name = getattr(args, "preset", "none")
    if name == "none":
        return
    if args.demo:
        raise UserError("--demo has settings of its own: leave out --preset, or --demo.")
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    lines = []
    for flag, value in PRESETS[name].items():
        if flag in args:
            lines.append(f"--{flag} stays {typed(getattr(args, flag))}, not {typed(value)}")
            continue
        setattr(args, flag, value)
        usual = "" if value == defaults[flag] else f" (default: {typed(defaults[flag])})"
        lines.append(f"--{flag} {typed(value)}{usual}")
    logger.info("--preset %s sets:\n  %s", name, "\n  ".join(lines))
