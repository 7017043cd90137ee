"""Every setting once: name, type, default and the sentence that becomes its help."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misc.benchmark_settings import BENCH, BenchmarkSettings
from misc.cam_files import CAM_DTYPES, CAM_FORMATS
from misc.errors import UserError
from misc.presets import PRESETS
from misc.segmentation_settings import SEG, SegmentationSettings
from misc.settings import add_flags, available_cpus, out_of_range, plain, setting

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "squeezenet1_0")


DATA, CAM, LABELS, BES, WALK, OUTPUT, RUN = (
    "data",
    "class activation maps",
    "boundary labels",
    "boundary network",
    "random walk and scores",
    "where results go (default: below --out_dir)",
    "how to run",
)
GROUPS = (DATA, CAM, LABELS, BES, WALK, SEG, BENCH, OUTPUT, RUN)

DEFAULT_PATHS = {
    "cam_out_dir": "cam",
    "cam_vis_dir": "cam_vis",
    "boundary_label_dir": "boundary_label",
    "sem_seg_out_dir": "sem_seg",
    "cam_weights_name": "weights/cam.pth",
    "bes_weights_name": "weights/bes.pth",
    "seg_out_dir": "seg",
    "seg_weights_name": "weights/seg.pth",
    "wsss_bed_out_dir": "wsss_bed",
    "log_name": "sample_train_eval",
}

FOLDERS = (
    "cam_out_dir", "cam_vis_dir", "boundary_label_dir", "sem_seg_out_dir", "seg_out_dir",
    "wsss_bed_out_dir",
)  # fmt: skip
WEIGHTS = ("cam_weights_name", "bes_weights_name", "seg_weights_name")
SCALES = ("cam_scales", "seg_rescale", "seg_pyramid", "seg_test_scales")


@dataclass(frozen=True)
class Config(SegmentationSettings, BenchmarkSettings):
    """All settings of a run; spellings and defaults are the reference's where it has them."""

    voc12_root: Path | None = setting(
        None,
        DATA,
        "dataset in VOC layout (JPEGImages, ImageSets, tags, Sal ...), VOC's or your own",
        alias="data_root",
    )
    preset: str = setting(
        "none",
        DATA,
        "set the published defaults of a dataset; other flags override them",
        ("none", *PRESETS),
    )
    train_list: str = setting("train", DATA, "split with exact masks: a list file or its name")
    train_aug_list: str = setting("train_aug", DATA, "images that the networks train on")
    val_list: str = setting("val", DATA, "images that the classifier's loss is reported on")
    infer_list: str = setting("train", DATA, "images that get pseudo masks")
    chainer_eval_set: str = setting("train", DATA, "images that are scored")
    tags_from: str = setting(
        "auto",
        DATA,
        "image tags: xml, csv (tags.csv in the dataset), masks, or a file: a .csv or a "
        "cls_labels.npy ({id: 0/1 per class}); auto: xml where there are any, else csv",
    )
    saliency: str = setting(
        "maps", DATA, "maps, or none: BES, the ablation without saliency", ("maps", "none")
    )
    sal_root: Path | None = setting(
        None, DATA, "folder of saliency maps <id>.png (default: <data_root>/Sal)"
    )
    sal_bg_thres: float = setting(
        0.0,
        DATA,
        "saliency (divided by its maximum) up to this is background; soft maps: 0.1",
        at_least=0,
        at_most=1,
    )

    backbone: str = setting("resnet50", CAM, "network of features", BACKBONES)
    backbone_weights: str = setting(
        "imagenet", CAM, "imagenet (torchvision's, downloaded once), a file, or none (from scratch)"
    )
    cam_crop_size: int = setting(512, CAM, "crop in pixels", at_least=1)
    cam_resize_long: tuple[float, ...] = setting(
        (320.0, 512.0), CAM, "the long side is resized at random to this range"
    )
    cam_batch_size: int = setting(16, CAM, "images a step, over all processes", at_least=1)
    cam_num_epoches: int = setting(5, CAM, "passes over the images", at_least=1)
    cam_learning_rate: float = setting(0.1, CAM, "rate of the backbone", at_least=0)
    cam_classifier_rate: float = setting(
        10.0, CAM, "rate of the classifier, times the backbone's", at_least=0
    )
    cam_weight_decay: float = setting(1e-4, CAM, "weight decay", at_least=0)
    cam_momentum: float = setting(
        1e-4, CAM, "SGD momentum (the reference's, in effect none)", at_least=0
    )
    cam_train_from: int = setting(
        3,
        CAM,
        "first backbone stage that learns: 0 stem, 1 to 4 layers (from scratch: always 0)",
        at_least=0,
        at_most=5,
    )
    cam_scales: tuple[float, ...] = setting((1.0, 0.5, 1.5, 2.0), CAM, "scales of make_cam")
    cam_eval_thres: float = setting(
        0.21, CAM, "background threshold of eval_cam", at_least=0, at_most=1
    )
    cam_format: str = setting("auto", CAM, "dialect of the files in cam_out_dir", CAM_FORMATS)
    cam_dtype: str = setting(
        "float32", CAM, "numbers in the CAM files that make_cam writes", CAM_DTYPES
    )
    cam_high_res: bool = setting(
        True, CAM, "write full-size CAMs too; no: they are derived from stride 4 on reading"
    )

    conf_fg_thres: float = setting(
        0.30, LABELS, "background threshold for confident foreground", at_least=0, at_most=1
    )
    conf_bg_thres: float = setting(
        0.07, LABELS, "background threshold for confident background", at_least=0, at_most=1
    )
    window_size: int = setting(13, LABELS, "window of the class proportions, pixels, odd")
    theta_scale: float = setting(0.30, LABELS, "least share of a window", at_least=0, at_most=1)
    theta_diff: float = setting(
        0.10, LABELS, "greatest difference of shares at a boundary", at_least=0, at_most=1
    )
    salbound_thres: float = setting(
        0.5, LABELS, "Sobel magnitude of a saliency boundary", at_least=0
    )

    bes_backbone: str = setting(
        "pretrained",
        BES,
        "pretrained: --backbone with --backbone_weights; cam: the classifier's",
        ("pretrained", "cam"),
    )
    bes_crop_size: int = setting(512, BES, "crop in pixels", at_least=1)
    bes_batch_size: int = setting(16, BES, "images a step, over all processes", at_least=1)
    bes_num_epoches: int = setting(3, BES, "passes over the images", at_least=1)
    bes_learning_rate: float = setting(0.1, BES, "learning rate", at_least=0)
    bes_weight_decay: float = setting(1e-4, BES, "weight decay", at_least=0)
    bes_momentum: float = setting(
        1e-4, BES, "SGD momentum (the reference's, in effect none)", at_least=0
    )

    beta: float = setting(5.0, WALK, "power of the affinity")
    exp_times: int = setting(8, WALK, "the walk takes 2^exp_times steps", at_least=0, at_most=20)
    sem_seg_bg_thres: float = setting(
        0.21, WALK, "background score of the pseudo masks", at_least=0, at_most=1
    )
    walk: str = setting(
        "chebyshev",
        WALK,
        "chebyshev (fast), or exact: 2^exp_times products",
        ("chebyshev", "exact"),
    )
    crf: str = setting("auto", WALK, "dense CRF", ("auto", "pydensecrf", "torch"))
    eval_classes: tuple[str, ...] = setting(
        (), WALK, "also report the mIoU over background and these classes: cat,dog"
    )

    out_dir: Path = setting(Path("result"), OUTPUT, "root of everything written")
    cam_out_dir: Path | None = setting(None, OUTPUT, "CAMs, made here or put here by you")
    cam_vis_dir: Path | None = setting(None, OUTPUT, "confident regions as pictures")
    boundary_label_dir: Path | None = setting(None, OUTPUT, "boundary labels")
    sem_seg_out_dir: Path | None = setting(None, OUTPUT, "pseudo masks")
    cam_weights_name: Path | None = setting(None, OUTPUT, "weights of the classifier")
    bes_weights_name: Path | None = setting(None, OUTPUT, "weights of the boundary network")
    seg_out_dir: Path | None = setting(None, OUTPUT, "masks of the segmentation network")
    seg_weights_name: Path | None = setting(None, OUTPUT, "weights of the segmentation network")
    log_name: Path | None = setting(None, OUTPUT, "log file, without .log")

    seed: int = setting(5, RUN, "seed of all randomness (report several, never one)", at_least=0)
    num_workers: int = setting(available_cpus, RUN, "processes for CPU work", at_least=0)
    device: str = setting("auto", RUN, "auto, cpu or cuda", ("auto", "cpu", "cuda"))
    precision: str = setting(
        "fp32", RUN, "arithmetic of the networks; bf16 and fp16 mix", ("fp32", "bf16", "fp16")
    )
    checkpoint_every: int = setting(50, RUN, "training steps between checkpoints", at_least=1)
    overwrite: bool = setting(False, RUN, "redo the requested steps, replacing what they made")
    panels: int = setting(12, RUN, "contact sheets to write, one an image; 0: none", at_least=0)

    def require_root(self) -> Path:
        """The dataset's root.

        Raises:
            UserError: if it was not given or is no folder.
        """
        if self.voc12_root is None:
            raise UserError("No dataset: pass --data_root DIR, or --demo to draw one.")
        if not self.voc12_root.is_dir():
            raise UserError(f"--data_root {self.voc12_root} is no folder.")
        return self.voc12_root

    def path(self, name: str) -> Path:
        """The path that a setting names, or its default below `out_dir`."""
        return getattr(self, name) or self.out_dir / DEFAULT_PATHS[name]

    def saliency_root(self) -> Path | None:
        """Folder of saliency maps; None for BES."""
        if self.saliency == "none":
            return None
        return self.sal_root if self.sal_root is not None else self.require_root() / "Sal"

    def to_dict(self) -> dict[str, Any]:
        """Settings as JSON can hold them."""
        return {k: plain(v) for k, v in dataclasses.asdict(self).items()}

    def subset(self, names: Sequence[str]) -> dict[str, Any]:
        """The named settings as JSON can hold them."""
        return {name: plain(getattr(self, name)) for name in names}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each setting to `parser`, in groups."""
    add_flags(parser, Config, GROUPS)


def config_from_args(args: argparse.Namespace) -> Config:
    """The checked configuration in `args`.

    Raises:
        UserError: naming every setting out of its range.
    """
    names = {field.name for field in dataclasses.fields(Config)}
    config = Config(**{name: value for name, value in vars(args).items() if name in names})
    check_config(config)
    return config


def check_config(config: Config) -> None:
    """Refuse settings that cannot work, all in one message.

    Raises:
        UserError: naming every setting out of its range.
    """
    bad = out_of_range(config)

    def demand(holds: bool, name: str, rule: str) -> None:
        if not holds:
            bad.append(f"--{name} {getattr(config, name)}: {rule}")

    demand(config.beta > 0, "beta", "must be above 0")
    demand(config.window_size >= 1 and config.window_size % 2 == 1, "window_size", "must be odd")
    for name in SCALES:
        scales = getattr(config, name)
        holds = bool(scales) and all(scale > 0 for scale in scales)
        demand(holds, name, "must be numbers above 0, such as 1,0.5,1.5")
    for name in ("seg_seeds", "benchmark_seeds", "benchmark_act_thres", "benchmark_sal_thres"):
        values = getattr(config, name)
        demand(len({*values}) == len(values), name, "one is named twice")
    for name in ("benchmark_act_thres", "benchmark_sal_thres"):
        demand(bool(getattr(config, name)), name, "must be one number or more")
    demand(
        len(config.cam_resize_long) == 2
        and 0 < config.cam_resize_long[0] <= config.cam_resize_long[1],
        "cam_resize_long",
        "must be two numbers LEAST,GREATEST",
    )
    demand(
        config.conf_bg_thres <= config.conf_fg_thres,
        "conf_bg_thres",
        f"must not be above --conf_fg_thres {config.conf_fg_thres}",
    )
    for names in (FOLDERS, WEIGHTS):
        paths = [config.path(name).absolute() for name in names]
        for i, name in enumerate(names):
            if paths[i] in paths[:i]:
                bad.append(f"--{name} {paths[i]}: another setting names this path too")
    if bad:
        raise UserError("Settings that cannot work:\n  " + "\n  ".join(bad))
