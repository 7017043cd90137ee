"""Named sets of settings: the published ones of a dataset or a method, set at once."""

import argparse
import dataclasses
import logging
from typing import Any

from misc.config.settings import typed
from misc.errors import UserError

logger = logging.getLogger(__name__)

SOFT_SALIENCY = 0.1  # `--sal_bg_thres` for the maps of networks, which are hardly ever exactly 0

# Source: the usual DeepLab-v2, net/README.md.
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
        **_DEEPLAB,
        "seg_batch_size": 5,
        "seg_accumulation": 2,
        "seg_iters": 20_000,
        "seg_crf": True,
    },
    # Source: the script published with WSSS-BED. It scores val every 100 updates and reports the
    # best, and trains in float16; bfloat16 needs no scaling of the loss and runs on a CPU too.
    "wsss_bed": {
        "train_aug_list": "train_aug",
        **_DEEPLAB,
        "seg_batch_size": 10,
        "seg_accumulation": 2,
        "seg_iters": 10_000,
        "seg_val_every": 100,
        "seg_crf": True,
        "precision": "bf16",
    },
    "coco14": {
        "train_aug_list": "train",
        **_DEEPLAB,
        "seg_batch_size": 20,
        "seg_accumulation": 1,
        "seg_iters": 50_000,
        "seg_crf": False,
    },
    # Source: the code published with BES (ECCV 2020).
    "bes": {"saliency": "none", "cam_eval_thres": 0.11, "sem_seg_bg_thres": 0.25},
    # Source: experiments on 30, 100 and 200 photographs, tests/benchmarks/README.md.
    "small": {
        "cam_batch_size": 8,
        "cam_num_epoches": 20,
        "cam_learning_rate": 0.01,
        "cam_momentum": 0.9,
        "cam_crop_size": 256,
        "cam_resize_long": (256.0, 400.0),
        "bes_batch_size": 8,
        "bes_num_epoches": 12,
        "bes_crop_size": 256,
        "bes_momentum": 0.9,
    },
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


def apply_made_saliency(args: argparse.Namespace) -> None:
    """Set what maps of a network want in parsed flags, and say so; a flag that was given wins.

    Args:
        args: parsed flags; those that were not given are not in it.
    """
    if getattr(args, "saliency", "") == "make" and "sal_bg_thres" not in args:
        args.sal_bg_thres = SOFT_SALIENCY
        logger.info(
            "--saliency make sets --sal_bg_thres %g, since its maps are soft", SOFT_SALIENCY
        )
