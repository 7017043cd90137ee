"""Commands of the published code work: each of its flags is understood as it is meant."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

import run_sample
from misc.config import apply_reference_flags, config_from
from misc.errors import UserError
from run_sample import make_parser
from step.graph import full_config_class
from tests.helpers.pascal import images_to_do
from tests.helpers.tiny import Run

Config: Any = full_config_class()

# Every flag of the published code that no pass flag is, with its default; only paths of machines
# are others.
REFERENCE = {
    "voc12_root": "VOCdevkit/VOC2012",
    "train_list": "voc12/train.txt",
    "train_aug_list": "voc12/train_aug.txt",
    "val_list": "voc12/val.txt",
    "test_list": "voc12/test.txt",
    "infer_list": "voc12/train.txt",
    "chainer_eval_set": "train",
    "cam_network": "net.resnet50_cam",
    "cam_crop_size": "512",
    "cam_batch_size": "16",
    "cam_num_epoches": "5",
    "cam_learning_rate": "0.1",
    "cam_weight_decay": "1e-4",
    "cam_eval_thres": "0.21",
    "cam_scales": "(1.0, 0.5, 1.5, 2.0)",
    "conf_fg_thres": "0.30",
    "conf_bg_thres": "0.07",
    "window_size": "13",
    "theta_scale": "0.30",
    "theta_diff": "0.10",
    "salbound_thres": "0.5",
    "bes_network": "net.resnet50_bes",
    "bes_crop_size": "512",
    "bes_batch_size": "16",
    "bes_num_epoches": "3",
    "bes_learning_rate": "0.1",
    "bes_weight_decay": "1e-4",
    "beta": "5",
    "exp_times": "8",
    "sem_seg_bg_thres": "0.21",
    "log_name": "sample_train_eval",
    "cam_weights_name": "sess/res50_cam.pth",
    "bes_weights_name": "sess/res50_bes.pth",
    "cam_out_dir": "result/cam",
    "cam_vis_dir": "result/cam_vis",
    "boundary_labels": "result/boundary_label",
    "sem_seg_out_dir": "result/sem_seg",
    "seed": "5",
    "num_workers": "4",
}
STEPS = (
    "train_cam", "make_cam", "eval_cam", "make_boundary_label", "train_bes", "make_sem_seg",
    "eval_sem_seg",
)  # fmt: skip
NAMED_OTHERWISE = {
    "test_list": "make_seg_split", "boundary_labels": "boundary_label_dir",
    "cam_network": "backbone", "bes_network": "backbone",
}  # fmt: skip
COMMAND = [f"--{flag}={value}" for flag, value in REFERENCE.items()]


def config_of(*flags: str) -> Any:
    args = make_parser().parse_args(flags)
    apply_reference_flags(args)
    return config_from(vars(args), Config)


def test_every_flag_with_its_default_leaves_our_defaults_but_for_lists_and_places() -> None:
    config, usual = config_of(*COMMAND, *(f"--{step}_pass=True" for step in STEPS)), Config()
    changed = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(Config)
        if getattr(config, field.name) != getattr(usual, field.name)
    }
    changed.pop("num_workers", None)  # by default, as many as there are CPUs
    assert changed == {
        "voc12_root": Path("VOCdevkit/VOC2012"),
        "train_list": "voc12/train.txt",
        "train_aug_list": "voc12/train_aug.txt",
        "val_list": "voc12/val.txt",
        "make_seg_split": "voc12/test.txt",
        "infer_list": "voc12/train.txt",
        "log_name": Path("sample_train_eval"),
        "cam_weights_name": Path("sess/res50_cam.pth"),
        "bes_weights_name": Path("sess/res50_bes.pth"),
        "cam_out_dir": Path("result/cam"),
        "cam_vis_dir": Path("result/cam_vis"),
        "boundary_label_dir": Path("result/boundary_label"),
        "sem_seg_out_dir": Path("result/sem_seg"),
    }


@pytest.mark.parametrize("flag", REFERENCE)
def test_every_flag_alone_sets_what_it_names(flag: str) -> None:
    name = NAMED_OTHERWISE.get(flag, flag)
    value = getattr(config_of(f"--{flag}={REFERENCE[flag]}"), name)
    if name == "backbone":
        assert value == "resnet50"
    elif isinstance(value, str | Path):
        assert str(value) == REFERENCE[flag]
    elif isinstance(value, tuple):
        assert value == (1.0, 0.5, 1.5, 2.0)
    else:
        assert float(value) == float(REFERENCE[flag])


@pytest.mark.slow
def test_the_references_command_starts_on_voc_2012_as_unpacked(
    pascal_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "VOCdevkit").mkdir()
    os.symlink(pascal_voc, tmp_path / "VOCdevkit" / "VOC2012")
    status = run_sample.main([*COMMAND, "--saliency=none", "--plan", "--device=cpu"])
    shown = capfd.readouterr()
    assert images_to_do(Run(status, tmp_path, shown.out, shown.err)) == {
        "train_cam": 10_582, "make_cam": 10_582, "eval_cam": 1464, "make_confident_regions": 10_582,
        "make_boundary_label": 10_582, "train_bes": 10_582, "make_walk": 1464,
        "eval_walk": 1464, "make_sem_seg": 1464, "eval_sem_seg": 1464, "report": 1464,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "backbone"),
    [
        ("--cam_network=net.resnet101_cam", "resnet101"),
        ("--bes_network=net.resnet18_bes_variant", "resnet18"),
        ("--cam_network=net.squeezenet1_0_cam", "squeezenet1_0"),
    ],
)
def test_a_networks_name_is_its_backbone(flag: str, backbone: str) -> None:
    assert config_of(flag).backbone == backbone
    assert config_of(flag, f"--backbone={backbone}").backbone == backbone


@pytest.mark.parametrize("name", ["net.vgg16_cam", "resnet50_cam", "net.resnet50", "os.system"])
def test_an_unknown_network_is_refused_with_the_choices(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_sample.main([f"--cam_network={name}"])
    assert exit_info.value.code == 2
    said = capsys.readouterr().err
    assert f"'{name}' is no network here; pass --backbone, one of resnet18, resnet34" in said


@pytest.mark.parametrize(
    "flags",
    [
        ["--cam_network=net.resnet101_cam", "--bes_network=net.resnet50_bes"],
        ["--cam_network=net.resnet101_cam", "--backbone=resnet50"],
    ],
)
def test_two_backbones_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_sample.main(flags) == 2
    said = capsys.readouterr().err
    assert "resnet101), --" in said or "resnet50), --" in said
    assert "Classifier and boundary network have the same backbone here" in said


@pytest.mark.parametrize("words", [["--newL"], ["--newL", "True"], ["--newL=False"]])
def test_the_unpublished_loss_is_refused_with_a_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_sample.main(words)
    assert exit_info.value.code == 2
    assert "Only the paper's loss is here: leave the flag out." in capsys.readouterr().err
    with pytest.raises(UserError, match="Only the paper's loss is here"):
        run_sample.run(newL=True)
