"""Settings that only the dataset, the disk or the machine show to be wrong are refused first."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.tiny import ARTEFACTS, Run, copy_dataset, copy_run, run, run_of

IDS = [f"2007_{number:06d}" for number in range(1, 9)]


def said(stopped: Run) -> str:
    """What a run said that was refused before anything was made."""
    assert stopped.status == 2
    assert "and nothing was started" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not any((stopped.out_dir / name).exists() for name in ARTEFACTS)
    return stopped.stderr


def test_an_unknown_class_to_score_is_refused_with_its_flag(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    text = said(run(tiny_dataset, tmp_path / "out", "--eval_classes=cat,unicorn"))
    assert "--eval_classes: Unknown class unicorn" in text


@pytest.mark.parametrize(
    ("flag", "name", "message"),
    [
        ("cam_weights_name", "folder", "is a folder. Name a file in it"),
        ("bes_weights_name", "file/bes.pth", "file is a file. Choose another path"),
        ("cam_out_dir", "file", "is a file. Name a folder"),
        ("sem_seg_out_dir", "file/masks", "file is a file. Choose another path"),
        ("train_aug_list", "folder", "folder is a folder. Write one image id per line"),
        ("train_aug_list", "nolists/train_aug.txt", "No list"),
        ("val_list", "nolists/val.txt", "No list"),
    ],
)
def test_a_path_of_the_wrong_kind_is_refused_with_its_flag(
    tiny_dataset: Path, tmp_path: Path, flag: str, name: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    text = said(run(tiny_dataset, tmp_path / "out", f"--{flag}={tmp_path / name}"))
    assert message in text
    assert str(tmp_path / name) in text


def test_a_crf_that_is_not_installed_is_refused(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "misc.crf.dense_crf.importlib.util.find_spec",
        lambda name: None if name == "pydensecrf" else find(name),
    )
    text = said(run(tiny_dataset, tmp_path / "out", "--crf=pydensecrf"))
    assert "--crf pydensecrf: The CRF backend pydensecrf is not installed" in text


@pytest.mark.parametrize("folder", ["boundary_label", "sem_seg"])
def test_plugged_in_pictures_of_a_wrong_size_are_refused_by_the_full_run(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, folder: str
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    shutil.rmtree(out_dir / "weights")
    theirs = tmp_path / "theirs"
    shutil.copytree(out_dir / folder, theirs, ignore=lambda *_: ["settings.json"])
    path = theirs / f"{IDS[2]}.png"
    Image.new("L", (10, 12)).save(path)
    flag = {"boundary_label": "boundary_label_dir", "sem_seg": "sem_seg_out_dir"}[folder]
    stopped = run(tiny_dataset, out_dir, f"--{flag}={theirs}")
    assert stopped.status == 2
    assert f"{path} is 10x12, but" in stopped.stderr
    assert f"Replace it, or choose another --{flag}" in stopped.stderr
    assert not (out_dir / "weights").exists()


def test_without_masks_nothing_is_scored_unless_that_is_asked_for(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    voc = copy_dataset(tiny_dataset, tmp_path / "voc")
    shutil.rmtree(voc / "SegmentationClass")
    planned = run(voc, tmp_path / "out", "--plan")
    assert planned.status == 0
    assert "eval_" not in planned.stdout
    assert f"Nothing is scored: {voc} has no folder SegmentationClass" in planned.stderr
    asked = said(run(voc, tmp_path / "out", "--steps=make_cam,eval_cam"))
    assert f"(first: 2007_000001): there is no folder {voc}/SegmentationClass." in asked


def test_with_some_masks_it_is_told_how_to_go_without_scores(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    voc = copy_dataset(tiny_dataset, tmp_path / "voc")
    (voc / "SegmentationClass" / "2007_000001.png").unlink()
    flags = "--eval_cam_pass no --eval_walk_pass no --eval_sem_seg_pass no"
    assert f"pass {flags}" in said(run(voc, tmp_path / "out"))
    assert run(voc, tmp_path / "out", *flags.split(), "--plan").status == 0


def test_training_the_classifier_needs_no_list_but_its_own(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    voc = copy_dataset(tiny_dataset, tmp_path / "voc")
    (voc / "ImageSets" / "Segmentation" / "train.txt").unlink()
    flags = ["--steps=train_cam", "--cam_num_epoches=1"]
    assert run(voc, tmp_path / "out", *flags).status == 0
    assert "No list" in run(voc, tmp_path / "out", "--steps=make_cam").stderr


def test_each_step_keeps_its_own_settings_and_seed(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = ["--steps=train_cam,eval_cam", "--seed=6", "--cam_num_epoches=1"]
    assert run(tiny_dataset, out_dir, *flags, "--overwrite", "all").status == 0
    assert run_of(out_dir)["settings"]["seed"] == 6
    steps = run_of(out_dir)["steps"]
    for step, seed in (("train_cam", 6), ("eval_cam", 6), ("train_bes", 5), ("make_cam", 5)):
        assert steps[step]["seed"] == seed, step
    assert steps["train_cam"]["settings"]["cam_num_epoches"] == 1
    assert steps["train_bes"]["settings"]["bes_num_epoches"] == 2
    assert steps["make_cam"]["settings"]["cam_dtype"] == "float32"
