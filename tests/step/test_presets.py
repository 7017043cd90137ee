import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

import run_sample
from misc.config import PRESETS, apply_made_saliency, apply_preset, config_from
from step.graph import full_config_class
from tests.helpers.tiny import run

Config: Any = full_config_class()


def config_of(*flags: str) -> Any:
    args = run_sample.make_parser().parse_args(flags)
    apply_preset(args, Config)
    return config_from(vars(args), Config)


def test_coco_trains_longer_on_larger_batches_and_without_a_crf() -> None:
    config = config_of("--preset=coco14")
    assert config.seg_batch_size * config.seg_accumulation == 20
    assert config.seg_iters == 50_000
    assert not config.seg_crf
    assert config.train_aug_list == "train"


def test_voc_is_as_without_a_preset() -> None:
    assert dataclasses.replace(config_of("--preset=voc12"), preset="none") == config_of()


def test_wsss_beds_script_trains_half_as_long_on_larger_batches_in_mixed_precision() -> None:
    config, usual = config_of("--preset=wsss_bed"), config_of()
    assert config == dataclasses.replace(
        usual, preset="wsss_bed", seg_batch_size=10, seg_accumulation=2, seg_iters=10_000,
        seg_val_every=100, precision="bf16",
    )  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_settings_that_there_are(name: str) -> None:
    assert PRESETS[name].keys() <= {field.name for field in dataclasses.fields(Config)}


def test_flags_override_the_preset_wherever_they_stand() -> None:
    for flags in (["--preset=coco14", "--seg_iters=9"], ["--seg_iters=9", "--preset=coco14"]):
        config = config_of(*flags)
        assert (config.seg_iters, config.seg_batch_size) == (9, 20)


def test_what_was_set_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config_of("--preset=coco14", "--seg_crop=100")
    for line in (
        "--preset coco14 sets:", "--seg_iters 50000 (default: 20000)", "--seg_backbone resnet101\n",
        "--seg_crop stays 100, not 321", "--seg_crf no (default: yes)", "--seg_pyramid 1,0.75,0.5",
    ):  # fmt: skip
        assert line in caplog.text


def test_bes_has_its_own_thresholds_and_no_saliency(tiny_dataset: Path, tmp_path: Path) -> None:
    config, usual = config_of("--preset=bes"), config_of()
    assert config == dataclasses.replace(
        usual, preset="bes", saliency="none", sem_seg_bg_thres=0.25, cam_eval_thres=0.11
    )
    assert config_of("--preset=bes", "--sem_seg_bg_thres=0.3").sem_seg_bg_thres == 0.3
    planned = run(tiny_dataset, tmp_path, "--preset=bes", "--plan")
    for line in (
        "--preset bes sets:", "--saliency none (default: maps)",
        "--cam_eval_thres 0.11 (default: 0.21)", "--sem_seg_bg_thres 0.25 (default: 0.21)",
    ):  # fmt: skip
        assert line in planned.stderr


def test_the_demo_takes_no_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--demo", "--preset=coco14", f"--out_dir={tmp_path / 'out'}"]
    assert run_sample.main(flags) == 2
    assert "leave out --preset, or --demo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "threshold"),
    [
        ([], 0),
        (["--saliency=none"], 0),
        (["--saliency=make"], 0.1),
        (["--saliency=make", "--sal_bg_thres=0"], 0),
    ],
)
def test_made_saliency_is_soft_unless_a_threshold_is_given(
    flags: list[str], threshold: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    args = run_sample.make_parser().parse_args(flags)
    apply_made_saliency(args)
    assert config_from(vars(args), Config).sal_bg_thres == threshold
    assert ("--saliency make sets --sal_bg_thres 0.1" in caplog.text) == (threshold > 0)
