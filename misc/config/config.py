"""The settings of every run, and how those of its steps and results join them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from misc.cam_files import CAM_FORMATS, CAM_IDS, CONTIGUOUS
from misc.config.settings import INPUT, NO_EFFECT, a_seed, broken_rules, plain, setting
from misc.errors import UserError
from misc.runtime import available_cpus
from misc.workspace import LONGEST_NAME

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "squeezenet1_0")
SALIENCY_FLAG = "saliency_out_dir"  # of the maps that are made here
MOST_WORKERS = 4096
OVERWRITE_NOTHING, OVERWRITE_STALE, OVERWRITE_ALL = "no", "stale", "all"


@dataclass(frozen=True)
class DataSettings:
    """Which data are read."""

    heading: ClassVar[str] = "data"

    voc12_root: Path | None = setting(
        None,
        "dataset in VOC layout (JPEGImages, ImageSets, tags, Sal ...), VOC's or your own",
        alias="data_root",
        decides=INPUT,
        in_short_help=True,
    )
    preset: str = setting(
        "none",
        "set the published defaults of a dataset, WSSS-BED's or BES's own, or what suits a few "
        "hundred images; other flags override them",
        ("none", "voc12", "wsss_bed", "coco14", "bes", "small"),
        decides=NO_EFFECT,
        in_short_help=True,
    )
    train_list: str = setting(
        "train", "split with ground-truth masks: a list file or its name", decides=INPUT
    )
    train_aug_list: str = setting(
        "train_aug", "images that the networks train on", decides=INPUT, in_short_help=True
    )
    val_list: str = setting("val", "images that validation losses are reported on", decides=INPUT)
    infer_list: str = setting(
        "train", "images that get pseudo masks", decides=INPUT, in_short_help=True
    )
    chainer_eval_set: str = setting(
        "train", "images that are scored", decides=INPUT, in_short_help=True
    )
    tags_from: str = setting(
        "auto",
        "image tags: xml, csv (tags.csv in the dataset), masks, or a file: a .csv, a "
        "cls_labels.npy ({id: 0/1 per class}) or a list of WSSS-BED's (.txt: id and classes from "
        "0); auto: xml where there are any, else csv",
        decides=INPUT,
        in_short_help=True,
    )
    saliency: str = setting(
        "maps",
        "maps: files of yours; make: maps that a network makes here; none: BES, the ablation",
        ("maps", "make", "none"),
        in_short_help=True,
    )
    sal_root: Path | None = setting(
        None,
        "folder of saliency maps <id>.png (default: <data_root>/Sal)",
        decides=INPUT,
        in_short_help=True,
    )
    sal_bg_thres: float = setting(
        0.0,
        "saliency (divided by its maximum) up to this is background; use 0.1 for soft maps, as "
        "--saliency make does",
        at_least=0,
        at_most=1,
        in_short_help=True,
    )
    cam_format: str = setting(
        "auto", "format of the files in --cam_out_dir", CAM_FORMATS, in_short_help=True
    )
    cam_ids: str = setting(
        CONTIGUOUS,
        "how files that you put into --cam_out_dir number the classes; coco91: by COCO's category "
        "ids up to 90, as WeakTr does",
        CAM_IDS,
    )
    eval_classes: tuple[str, ...] = setting(
        (), "also report the mIoU over background and these classes: cat,dog"
    )

    def problems(self) -> list[str]:
        """Settings that contradict each other."""
        if self.saliency == "maps" or self.sal_root is None:
            return []
        if self.saliency == "none":
            return [
                f"--sal_root {self.sal_root}: --saliency none (or --preset bes) reads no maps. "
                "Leave out one of the two"
            ]
        return [
            f"--sal_root {self.sal_root}: --saliency make makes maps instead of reading any. Leave "
            f"it out to read those, or pass --{SALIENCY_FLAG} {self.sal_root} to have them made "
            "there"
        ]


@dataclass(frozen=True)
class NetworkSettings:
    """What several networks and files have in common."""

    heading: ClassVar[str] = "networks"

    backbone: str = setting(
        "resnet50", "backbone of the classifier and of the boundary network", BACKBONES,
        in_short_help=True,
    )  # fmt: skip
    backbone_weights: str = setting(
        "imagenet",
        "imagenet (torchvision's, downloaded once), a file, or none (from scratch)",
        decides=INPUT,
        in_short_help=True,
    )
    precision: str = setting(
        "fp32",
        "precision of the networks; bf16 and fp16 are mixed precision",
        ("fp32", "bf16", "fp16"),
    )
    crf: str = setting("torch", "implementation of the dense CRF", ("torch", "pydensecrf"))


@dataclass(frozen=True)
class RunSettings:
    """How to run."""

    heading: ClassVar[str] = "how to run"

    out_dir: Path = setting(
        Path("result"), "folder for everything that is written", decides=INPUT, in_short_help=True
    )
    log_name: Path | None = setting(
        None, "log file, without .log (default: below --out_dir)", decides=NO_EFFECT
    )
    seed: int = setting(
        5, "random seed (report several seeds, never one)", at_least=0, rule=a_seed,
        in_short_help=True,
    )  # fmt: skip
    num_workers: int = setting(
        available_cpus,
        "processes for CPU work",
        at_least=0,
        decides=NO_EFFECT,
        in_short_help=True,
        at_most=MOST_WORKERS,
    )
    device: str = setting(
        "auto", "where networks run", ("auto", "cpu", "cuda"), decides=NO_EFFECT, in_short_help=True
    )
    deterministic: bool = setting(
        False,
        "on a GPU, give the same bits each time, which is slower; a CPU always does",
        decides=NO_EFFECT,
    )
    checkpoint_every: float = setting(
        60.0,
        "seconds of training between checkpoints",
        at_least=0,
        decides=NO_EFFECT,
        at_most=10**9,
    )
    panels: int = setting(
        12, "contact sheets to write, one per image; 0: none", at_least=0, decides=NO_EFFECT,
        in_short_help=True, at_most=10**6,
    )  # fmt: skip
    tensorboard: bool = setting(
        False,
        "also show the curves of trainings and some contact sheets to TensorBoard, below --out_dir",
        decides=NO_EFFECT,
    )


@dataclass(frozen=True)
class Config(DataSettings, NetworkSettings, RunSettings):
    """All settings of a run; `config_class` adds those of the steps and the paths of results.

    Spellings and defaults are the reference's where it has them.
    """

    # Not a flag by itself: `--overwrite` is parsed with its optional word.
    overwrite: str = setting(OVERWRITE_NOTHING, "what to redo", decides=NO_EFFECT)

    def require_root(self) -> Path:
        """The dataset's root.

        Raises:
            UserError: if it was not given or is not a folder.
        """
        if self.voc12_root is None:
            raise UserError("No dataset: pass --data_root DIR, or --demo to draw one.")
        if not self.voc12_root.is_dir():
            raise UserError(f"--data_root {self.voc12_root} is not a folder.")
        return self.voc12_root

    def path(self, flag: str) -> Path:
        """The path that `flag` names, or its default below `out_dir`."""
        chosen = getattr(self, flag)
        if chosen is not None:
            return chosen
        fields = {field.name: field for field in dataclasses.fields(self)}
        return self.out_dir / fields[flag].metadata["below_out_dir"]

    @property
    def log_path(self) -> Path:
        """The log file."""
        stem = self.out_dir / "sample_train_eval" if self.log_name is None else self.log_name
        return Path(f"{stem}.log")

    def saliency_root(self) -> Path | None:
        """Folder of saliency maps; None for BES."""
        if self.saliency == "none":
            return None
        if self.saliency == "make":
            return self.path(SALIENCY_FLAG)
        return self.sal_root if self.sal_root is not None else self.require_root() / "Sal"

    def recorded(self, name: str) -> Any:
        """A setting as records of results hold it.

        Who made the saliency maps is no part of it: they are told apart by what they are.
        """
        value = getattr(self, name)
        return "maps" if (name, value) == ("saliency", "make") else plain(value)

    def to_dict(self) -> dict[str, Any]:
        """Settings as JSON can hold them."""
        return {k: plain(v) for k, v in dataclasses.asdict(self).items()}


@dataclass(frozen=True)
class ResultPath:
    """A flag that names where a result goes: its help, and where it is by default."""

    flag: str
    help: str
    below_out_dir: str


SHARED_SETTINGS = (DataSettings, NetworkSettings, RunSettings)


def paths_class(paths: Sequence[ResultPath]) -> type:
    """A dataclass of settings with a field for each of `paths`."""
    fields: list[Any] = []
    for path in paths:
        field = setting(None, path.help, decides=INPUT)
        field.metadata = {**field.metadata, "below_out_dir": path.below_out_dir}
        fields.append((path.flag, Path | None, field))
    heading = {"heading": "where results go (default: below --out_dir)"}
    return dataclasses.make_dataclass("ResultPaths", fields, frozen=True, namespace=heading)


def config_class(settings: Sequence[type]) -> type[Config]:
    """The class of configurations with the fields of further dataclasses of settings.

    Raises:
        ValueError: if two of them declare the same field.
    """
    names: dict[str, type] = {}
    for each in (*SHARED_SETTINGS, *settings):
        for field in dataclasses.fields(each):
            if field.name in names:
                raise ValueError(f"{field.name} is declared by {names[field.name]} and {each}")
            names[field.name] = each
    return dataclasses.make_dataclass("Config", [], bases=(*settings, Config), frozen=True)


def config_from(values: Mapping[str, Any], kind: type[Config]) -> Config:
    """A checked configuration.

    Args:
        values: some settings; other entries are left out.
        kind: what `config_class` made.

    Raises:
        UserError: naming every invalid setting.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    config = kind(**{name: value for name, value in values.items() if name in names})
    check_config(config)
    return config


def check_config(config: Config) -> None:
    """Refuse invalid settings, all in one message.

    Raises:
        UserError: naming each of them.
    """
    broken = broken_rules(config)
    for part in type(config).__mro__:
        if "problems" in vars(part):
            broken += part.problems(config)  # type: ignore[attr-defined]
    for name in ("log_name", *_result_paths(config)):
        path = getattr(config, name)
        if path is not None and len(os.fsencode(path.name)) > LONGEST_NAME:
            broken.append(f"--{name} {path}: the name has at most {LONGEST_NAME} bytes")
    owners: dict[Path, str] = {}
    for name in _result_paths(config):
        # Of one place there may be many names: zz/../a, and links.
        path = Path(os.path.realpath(config.path(name)))
        if path in owners:
            broken.append(f"--{name} {config.path(name)}: --{owners[path]} names {path} too")
        owners[path] = name
    if broken:
        raise UserError("Invalid settings:\n  " + "\n  ".join(broken))


def _result_paths(config: Config) -> list[str]:
    """The flags that name where results go."""
    return [field.name for field in dataclasses.fields(config) if "below_out_dir" in field.metadata]
