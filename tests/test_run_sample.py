import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

import run_sample
from misc.config import config_from
from misc.errors import UserError
from run_sample import make_parser, requested_steps
from step import STEPS
from step.common.runner import DONE, KEPT, SKIPPED, Outcome, results_table
from step.graph import Node, all_steps, full_config_class, step_named
from tests.helpers.tiny import ROOT, run

Config: Any = full_config_class()
PIPELINE = [
    "train_cam", "make_cam", "eval_cam", "make_boundary_label", "train_bes", "make_walk",
    "eval_walk", "make_sem_seg", "eval_sem_seg", "report",
]  # fmt: skip
REFERENCE_FLAGS = [
    "voc12_root", "train_list", "train_aug_list", "val_list", "infer_list", "chainer_eval_set",
    "cam_crop_size", "cam_batch_size", "cam_num_epoches", "cam_learning_rate", "cam_weight_decay",
    "cam_eval_thres", "cam_scales", "conf_fg_thres", "conf_bg_thres", "window_size", "theta_scale",
    "theta_diff", "salbound_thres", "bes_crop_size", "bes_batch_size", "bes_num_epoches",
    "bes_learning_rate", "bes_weight_decay", "beta", "exp_times", "sem_seg_bg_thres", "cam_out_dir",
    "cam_vis_dir", "boundary_label_dir", "sem_seg_out_dir", "cam_weights_name", "bes_weights_name",
    "log_name", "seed", "num_workers", "test_list", "cam_network", "bes_network", "boundary_labels",
]  # fmt: skip
OUR_FLAGS = [
    "out_dir", "sal_root", "saliency", "sal_bg_thres", "backbone", "backbone_weights", "overwrite",
    "device", "precision", "checkpoint_every", "panels", "tags_from", "cam_format", "bes_backbone",
    "steps", "demo", "data_root",
]  # fmt: skip


def names(*flags: str) -> list[str]:
    """The steps that are asked for, without those that only run with another one."""
    args = make_parser().parse_args(flags)
    passes = {s: value for s in STEPS if (value := getattr(args, f"{s}_pass", None)) is not None}
    config = config_from(vars(args), full_config_class())
    return [s.name for s in requested_steps(config, args.steps, passes) if not s.runs_with]


def help_text(*, is_short: bool = False) -> str:
    parser = make_parser(is_short=is_short)
    parser.formatter_class = lambda prog: run_sample.argparse.HelpFormatter(prog, width=200)
    return parser.format_help()


def test_all_steps_of_the_pipeline_are_on_by_default() -> None:
    assert names() == PIPELINE


@pytest.mark.parametrize("step", PIPELINE)
@pytest.mark.parametrize("word", ["False", "false", "no", "NO", "0", "off"])
def test_a_pass_flag_switches_its_step_off(step: str, word: str) -> None:
    assert names(f"--{step}_pass", word) == [name for name in PIPELINE if name != step]


@pytest.mark.parametrize("step", PIPELINE)
@pytest.mark.parametrize("value", [[], ["True"], ["yes"], ["1"], ["on"]])
def test_a_pass_flag_switches_its_step_on(step: str, value: list[str]) -> None:
    # In the reference any value, True as well, switched it off.
    assert step in names(f"--{step}_pass", *value)


def test_a_pass_flag_that_is_neither_yes_nor_no_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_sample.main(["--make_cam_pass", "perhaps"])
    assert exit_info.value.code == 2
    assert "'perhaps' is neither yes nor no" in capsys.readouterr().err


def test_numbers_on_the_command_line_are_numbers() -> None:
    # In the reference --beta, --exp_times and --cam_scales stayed strings.
    flags = ["--beta", "10", "--exp_times", "4", "--cam_scales", "1,0.5"]
    config: Any = config_from(vars(make_parser().parse_args(flags)), Config)
    for value, expected in (
        (config.beta, 10.0), (config.exp_times, 4), (config.cam_scales, (1.0, 0.5)),
    ):  # fmt: skip
        assert type(value) is type(expected)
        assert value == expected


def test_steps_runs_just_those_named_in_the_order_of_the_pipeline() -> None:
    assert names("--steps", "eval_sem_seg,make_sem_seg") == ["make_sem_seg", "eval_sem_seg"]
    steps = ["--steps", "make_cam,eval_cam"]
    assert names(*steps, "--make_cam_pass", "no") == ["eval_cam"]
    with pytest.raises(UserError, match="--steps make_cam asks for what --make_cam_pass no"):
        names("--steps", "make_cam", "--make_cam_pass", "no")


def test_a_step_that_only_runs_with_another_has_no_flag() -> None:
    steps = [step.name for step in requested_steps(full_config_class()(), ["make_boundary_label"])]
    assert steps == ["make_confident_regions", "make_boundary_label"]
    assert "--make_confident_regions_pass" not in help_text()


@pytest.mark.parametrize("value", ["make_cams", "make_cam,evaluate", "", ",", "make_submission"])
def test_unknown_or_no_steps_are_refused_by_name(value: str) -> None:
    with pytest.raises(
        UserError, match=f"{value.split(',')[-1]}.*The steps are make_saliency, train_cam, make_cam"
    ):
        names("--steps", value)


def test_the_short_help_has_the_steps_and_about_twenty_flags() -> None:
    text = help_text(is_short=True)
    shown = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    switches = [flag for flag in shown if flag.endswith("_pass")]
    assert len(switches) == len([step for step in all_steps() if not step.runs_with])
    assert 15 <= len(shown) - len(switches) <= 30
    assert "--help all shows every flag" in text
    assert "--theta_scale" not in text


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--sem_seg_bg_tresh=0.3", "Did you mean --sem_seg_bg_thres"),
        ("--step=make_cam", "Did you mean --steps"),
        ("--bet=3", "There is no flag --bet. Did you mean --beta"),  # no abbreviations
        ("--zzz", "There is no flag --zzz.\n"),
        ("make_cam", "There is no flag make_cam."),
    ],
)
def test_a_mistyped_flag_is_answered_in_a_few_lines(
    flag: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run_sample.main([flag])
    assert exit_info.value.code == 2
    text = capsys.readouterr().err
    assert said in text
    assert len(text.splitlines()) <= 3


@pytest.mark.parametrize("flag", REFERENCE_FLAGS + OUR_FLAGS + [f"{s}_pass" for s in PIPELINE])
def test_help_lists_every_flag(flag: str) -> None:
    assert f"--{flag} " in help_text() or f"--{flag}]" in help_text()


def test_every_setting_is_a_flag_with_a_sentence_of_help() -> None:
    actions = {action.dest: action for action in make_parser()._actions}
    for field in dataclasses.fields(Config):
        assert len(actions[field.name].help or "") > 5, field.name
    assert all(len(action.help or "") > 5 for action in actions.values())


def test_help_is_instant_it_never_loads_torch() -> None:
    code = "import sys, run_sample\ntry: run_sample.main(['--help'])\nfinally: print(*sys.modules)"
    environment = {**os.environ, "COLUMNS": "100"}
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0
    assert "--sem_seg_bg_thres" in finished.stdout
    assert "torch" not in finished.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("demo", [False, True])
def test_workers_get_ready_while_torch_is_loaded(tmp_path: Path, demo: bool) -> None:
    code = f"""
import sys, run_sample
run_sample.require_photographs = lambda root: None
def prepare(num_workers):
    print(num_workers, "torch" in sys.modules)
    sys.exit(0)
run_sample.prepare_workers = prepare
data = ["--demo"] if {demo} else ["--voc12_root", {str(tmp_path)!r}]
run_sample.main([*data, "--out_dir", {str(tmp_path / "out")!r}, "--num_workers=3"])
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "3 False\n"
    assert not (tmp_path / "out").exists()


def test_workers_that_read_do_not_wait_for_torchvision() -> None:
    modules = ", ".join(f"step.{name}" for name in STEPS)
    code = f"import sys, {modules}, step.common.predict; sys.exit('torchvision' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert finished.returncode == 0, finished.stderr


def test_no_path_of_anybodys_machine_is_a_default() -> None:
    for value in Config().to_dict().values():
        assert not str(value).startswith("/"), value
    assert Config().path("sem_seg_out_dir") == Path("result/sem_seg")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--data_root"),
        (["--voc12_root", "no/such/folder"], "--data_root no/such/folder is not a folder"),
        (["--steps", "make_masks"], "unknown step make_masks"),
        (["--window_size", "12"], "--window_size 12"),
        (["--sem_seg_out_dir", "a", "--cam_vis_dir", "a"], "--sem_seg_out_dir"),
        (["--demo", "--voc12_root", "a"], "--demo draws its own dataset"),
    ],
)
def test_mistakes_in_flags_end_with_status_2_and_one_message(
    flags: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_sample, "prepare_workers", lambda _: pytest.fail("too early"))
    out_dir = tmp_path / "out"
    assert run_sample.main([f"--out_dir={out_dir}", *flags]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not out_dir.exists()


def test_a_gpu_that_is_not_there_is_the_users_mistake(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for flag, remedy in (("--device=cuda", "--device cpu"), ("--precision=fp16", "fp32 or bf16")):
        finished = run(tiny_dataset, tmp_path, flag)
        assert finished.status == 2
        assert remedy in finished.stderr


def test_processes_without_a_gpu_of_their_own_are_the_users_mistake(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    finished = run(tiny_dataset, tmp_path, "--device=auto")
    assert finished.status == 2
    assert "4 processes were started on this machine, which has 2 GPUs" in finished.stderr
    assert "--nproc_per_node=2" in finished.stderr
    assert not any(tmp_path.iterdir())


def test_ctrl_c_ends_with_status_130_and_says_how_to_go_on(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("step.common.networks.pretrained_backbone", interrupt)
    finished = run(tiny_dataset, tmp_path)
    assert finished.status == 130
    assert finished.stderr.endswith("Run the same command again to resume.\n")
    finished = run(tiny_dataset, tmp_path, "--overwrite")
    assert finished.stderr.endswith("Run the same command again to resume.\n")


def test_a_full_disk_is_the_users_to_mend(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device", "cam.pth")

    monkeypatch.setattr("misc.weights.save_weights", fail)
    finished = run(tiny_dataset, tmp_path, "--steps=train_cam", "--cam_num_epoches=1")
    assert finished.status == 2
    assert "No space left on device: 'cam.pth'. Free some space" in finished.stderr


def test_what_may_not_be_read_is_named_and_no_room_asked_for(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("voc12.lists.read_lines", refuse)
    finished = run(tiny_dataset, tmp_path)
    assert finished.status == 2
    path = tiny_dataset / "ImageSets" / "Segmentation" / "train_aug.txt"
    assert f"Check {path} and its permissions" in finished.stderr
    assert "room" not in finished.stderr


def test_a_programming_error_keeps_its_traceback(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError("not of the disk")

    monkeypatch.setattr("misc.weights.save_weights", fail)
    with pytest.raises(OSError, match="not of the disk"):
        run(tiny_dataset, tmp_path, "--steps=train_cam", "--cam_num_epoches=1")


def test_the_table_says_what_became_of_each_step() -> None:
    cam, maps, bes = (
        Node(step_named(name), cast(Any, None)) for name in ("train_cam", "make_cam", "train_bes")
    )
    outcomes = [
        Outcome(cam, DONE, {"loss": 0.5}, 80, 2.0),
        Outcome(maps, SKIPPED),
        Outcome(bes, KEPT, {"loss": 0.25, "images": 80, "seconds": 9.0}),
    ]
    assert results_table(outcomes).splitlines()[2:] == [
        "train_cam  done     80      2.0      loss 0.5000",
        "make_cam   skipped  -       -",
        "train_bes  kept     -       -        loss 0.2500",
    ]


def test_every_step_has_a_name_a_line_of_help_and_a_make() -> None:
    assert [step.name for step in all_steps()] == list(STEPS)
    for step in all_steps():
        assert 5 < len(step.help) < 60, step.name
        assert callable(step.make), step.name
