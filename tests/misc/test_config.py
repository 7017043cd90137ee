import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from misc.config import (
    BACKBONES,
    DEFAULT_PATHS,
    Config,
    add_settings,
    check_config,
    config_from_args,
)
from misc.errors import UserError
from net.backbone import ARCHITECTURES

REFERENCE = {
    "backbone": "resnet50",
    "cam_crop_size": 512,
    "cam_resize_long": (320, 512),
    "cam_batch_size": 16,
    "cam_num_epoches": 5,
    "cam_learning_rate": 0.1,
    "cam_weight_decay": 1e-4,
    "cam_momentum": 1e-4,
    "cam_scales": (1.0, 0.5, 1.5, 2.0),
    "cam_eval_thres": 0.21,
    "conf_fg_thres": 0.30,
    "conf_bg_thres": 0.07,
    "window_size": 13,
    "theta_scale": 0.30,
    "theta_diff": 0.10,
    "salbound_thres": 0.5,
    "sal_bg_thres": 0,
    "bes_crop_size": 512,
    "bes_batch_size": 16,
    "bes_num_epoches": 3,
    "bes_learning_rate": 0.1,
    "bes_weight_decay": 1e-4,
    "bes_momentum": 1e-4,
    "beta": 5,
    "exp_times": 8,
    "sem_seg_bg_thres": 0.21,
    "saliency": "maps",
    "seed": 5,
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="sbe", allow_abbrev=False)
    add_settings(made)
    return made


def config_of(*arguments: str) -> Config:
    return config_from_args(parser().parse_args(arguments))


@pytest.mark.parametrize("name", REFERENCE)
def test_defaults_are_the_references(name: str) -> None:
    assert getattr(Config(), name) == REFERENCE[name]


def test_the_classifier_learns_at_the_references_rate() -> None:
    assert Config().cam_learning_rate * Config().cam_classifier_rate == 1.0


def test_the_defaults_are_allowed() -> None:
    assert config_of() == Config()


def test_every_backbone_can_be_chosen() -> None:
    assert tuple(ARCHITECTURES) == BACKBONES


def test_the_help_names_every_flag_its_meaning_and_its_default() -> None:
    shown = re.sub(r"\s+", " ", parser().format_help().replace("-\n", "-"))
    for field in dataclasses.fields(Config):
        assert f"--{field.name} " in shown
        assert field.metadata["help"].split()[0] in shown
    for default in ("(default: 0.21)", "(default: 1,0.5,1.5,2)", "(default: all CPUs)"):
        assert default in shown


BAD: dict[str, Any] = {
    "cam_eval_thres": 1.1,
    "conf_fg_thres": -0.1,
    "sal_bg_thres": float("nan"),
    "sem_seg_bg_thres": 21.0,
    "theta_scale": 30.0,
    "cam_batch_size": 0,
    "bes_crop_size": 0,
    "checkpoint_every": 0,
    "num_workers": -1,
    "seed": -1,
    "cam_learning_rate": float("nan"),
    "bes_momentum": -0.9,
    "beta": 0.0,
    "exp_times": 21,
    "window_size": 12,
    "cam_scales": (),
    "cam_resize_long": (512.0, 320.0),
    "cam_train_from": 6,
}


@pytest.mark.parametrize("name", BAD)
def test_a_setting_that_cannot_work_is_named(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name} "):
        check_config(Config(**{name: BAD[name]}))


def test_all_settings_that_cannot_work_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        check_config(Config(**BAD))
    named = set(re.findall(r"^  --(\w+)", str(caught.value), re.MULTILINE))
    assert named >= BAD.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"cam_scales": (1.0, 0.0)},
        {"cam_resize_long": (320.0,)},
        {"cam_resize_long": (0.0, 320.0)},
        {"conf_bg_thres": 0.31},
        {"window_size": -1},
        {"exp_times": -1},
    ],
)
def test_other_values_that_cannot_work(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(UserError, match=f"--{name} "):
        check_config(Config(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"num_workers": 0}, {"seed": 0}, {"exp_times": 0}, {"window_size": 1}, {"conf_bg_thres": 0.3}],
)
def test_extreme_values_that_can_work(changes: dict[str, Any]) -> None:
    check_config(Config(**changes))


@pytest.mark.parametrize("name", DEFAULT_PATHS)
def test_results_go_below_out_dir_unless_they_are_given_a_place(name: str) -> None:
    changes: dict[str, Any] = {name: Path("here")}
    assert Config(out_dir=Path("there")).path(name) == Path("there") / DEFAULT_PATHS[name]
    assert Config(out_dir=Path("there"), **changes).path(name) == Path("here")


def test_default_places_differ() -> None:
    assert len(set(DEFAULT_PATHS.values())) == len(DEFAULT_PATHS)


def test_saliency_lies_in_the_dataset_unless_it_is_given_a_place(tmp_path: Path) -> None:
    config = Config(voc12_root=tmp_path)
    assert config.saliency_root() == tmp_path / "Sal"
    assert dataclasses.replace(config, sal_root=Path("maps")).saliency_root() == Path("maps")
    assert Config(saliency="none").saliency_root() is None


def test_the_dataset_must_be_named_and_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pass --data_root DIR, or --demo"):
        Config().require_root()
    with pytest.raises(UserError, match="none is no folder"):
        Config(voc12_root=tmp_path / "none").require_root()
    assert Config(voc12_root=tmp_path).require_root() == tmp_path


def test_settings_survive_json(tmp_path: Path) -> None:
    config = Config(voc12_root=tmp_path, eval_classes=("cat",))
    content = config.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content.keys() == {field.name for field in dataclasses.fields(Config)}
    names = ("voc12_root", "cam_scales")
    assert config.subset(names) == {name: content[name] for name in names}
