"""Weights that were deleted, plugged in or never finished, through the command line."""

import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.tiny import Run, contents, copy_run, run, states


@pytest.fixture
def out_dir(finished_run: Run, tmp_path: Path) -> Path:
    """A copy of the finished run whose weights are gone."""
    copy = copy_run(finished_run.out_dir, tmp_path / "out")
    shutil.rmtree(copy / "weights")
    return copy


def test_without_weights_cams_of_the_same_settings_are_current(
    tiny_dataset: Path, out_dir: Path
) -> None:
    before = states(out_dir)
    done = run(tiny_dataset, out_dir, "--steps=train_cam,make_cam")
    assert done.status == 0, done.stderr
    assert states(out_dir) == before


@pytest.mark.parametrize("flag", ["--cam_num_epoches=3", "--seed=6", "--cam_scales=1,0.5"])
def test_without_weights_cams_of_other_settings_are_refused_by_name(
    tiny_dataset: Path, out_dir: Path, flag: str
) -> None:
    before = states(out_dir)
    stopped = run(tiny_dataset, out_dir, flag)
    assert stopped.status == 2
    assert re.search(rf"make_cam: .*{flag.split('=')[0]} was", stopped.stderr)
    elsewhere = f"to keep them and make new ones elsewhere: --cam_out_dir {out_dir / 'cam_new'}"
    assert elsewhere in stopped.stderr
    assert states(out_dir) == before


def test_without_weights_overwrite_trains_anew(
    tiny_dataset: Path, finished_run: Run, out_dir: Path
) -> None:
    steps = "--steps=train_cam,make_cam"
    done = run(tiny_dataset, out_dir, steps, "--overwrite", "--cam_num_epoches=1")
    assert done.status == 0, done.stderr
    assert "train_cam: 2 updates" in done.stderr
    for name, data in contents(finished_run.out_dir).items():
        if name.startswith("cam/2007"):
            assert (out_dir / name).read_bytes() != data
    assert run(tiny_dataset, out_dir, steps, "--cam_num_epoches=1").status == 0


def test_weights_that_another_network_starts_from_are_trained_again(
    tiny_dataset: Path, finished_run: Run, out_dir: Path
) -> None:
    done = run(tiny_dataset, out_dir, "--steps=train_cam,make_cam,train_bes")
    assert done.status == 0, done.stderr
    assert contents(out_dir) == contents(finished_run.out_dir)


def test_plugged_in_cams_give_no_weights_to_the_boundary_network(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    theirs = tmp_path / "cams"
    shutil.copytree(finished_run.out_dir / "cam", theirs, ignore=lambda *_: ["settings.json"])
    flags = [f"--cam_out_dir={theirs}", "--bes_backbone=cam"]
    stopped = run(tiny_dataset, tmp_path / "out", *flags)
    assert stopped.status == 2
    assert f"none is trained, since you put CAMs into {theirs}" in stopped.stderr
    assert (
        "Pass its weights with --cam_weights_name, or leave out --bes_backbone cam"
        in stopped.stderr
    )
    shutil.copy(finished_run.out_dir / "weights" / "cam.pth", tmp_path)
    flags += [f"--cam_weights_name={tmp_path / 'cam.pth'}", "--steps=train_cam,make_cam,"
              "make_boundary_label,train_bes"]  # fmt: skip
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0


def interrupt(*_args: object, **_kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("network", ["cam", "bes"])
def test_a_file_put_where_a_training_was_stopped_is_the_users(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, network: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    weights = out_dir / "weights" / f"{network}.pth"
    theirs = weights.read_bytes()
    flags = [f"--steps=train_{network}", "--overwrite"]
    with monkeypatch.context() as patch:
        patch.setattr("misc.training.train", interrupt)
        assert run(tiny_dataset, out_dir, *flags, "--seed=7").status == 130
    weights.unlink()
    weights.write_bytes(theirs + b"\0")
    done = run(tiny_dataset, out_dir, *flags, "--seed=7")
    assert done.status == 0
    assert re.search(rf"^train_{network} +taken as they are", done.stderr, re.MULTILINE)
    assert weights.read_bytes() == theirs + b"\0"


def test_a_stopped_training_goes_on_although_older_cams_are_all_there(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    shutil.rmtree(out_dir / "weights")
    flags = ["--steps=train_cam", "--seed=6"]
    with monkeypatch.context() as patch:
        patch.setattr("misc.weights.save_weights", interrupt)
        assert run(tiny_dataset, out_dir, *flags).status == 130
    done = run(tiny_dataset, out_dir, *flags)
    assert done.status == 0
    assert "resumes the training that was stopped" in done.stderr
    assert "train_cam: resuming at step 3 of 4" in done.stderr
    assert (out_dir / "weights" / "cam.pth").exists()


@pytest.mark.parametrize("network", ["cam", "bes"])
def test_old_weights_stay_whole_until_a_new_training_has_ended(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, network: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    before = states(out_dir)
    flags = [f"--steps=train_{network}", "--overwrite", "--seed=6"]
    with monkeypatch.context() as patch:
        patch.setattr("misc.weights.save_weights", interrupt)
        stopped = run(tiny_dataset, out_dir, *flags)
    assert stopped.status == 130
    assert stopped.stderr.endswith("Stopped. Run the same command again to resume.\n")
    assert states(out_dir).items() >= before.items()
    assert run(tiny_dataset, out_dir, f"--steps=train_{network}").status == 0  # the old settings
    done = run(tiny_dataset, out_dir, *flags)
    assert done.status == 0
    assert f"train_{network}: resuming at step 3 of 4" in done.stderr
    names = {path.name for path in (out_dir / "weights").iterdir()}
    own = {"cam.pth", "cam.pth.json", "cam.curve.csv"}
    assert names == own | {name.replace("cam", "bes") for name in own}


def test_a_stopped_training_of_other_settings_is_not_thrown_away_unasked(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = "--steps=train_cam"
    with monkeypatch.context() as patch:
        patch.setattr("misc.weights.save_weights", interrupt)
        assert run(tiny_dataset, tmp_path, steps).status == 130
    refused = run(tiny_dataset, tmp_path, steps, "--seed=6")
    assert refused.status == 2
    assert "train_cam: stopped training: --seed was 5, is 6" in refused.stderr
    assert "--train_cam_pass no" not in refused.stderr  # there are no weights to use
    assert run(tiny_dataset, tmp_path, steps, "--seed=6", "--overwrite").status == 0


def test_a_training_that_failed_before_it_began_is_no_obstacle(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    """Following `pass --backbone_weights FILE` must not end in another refusal."""
    spoiled = tmp_path / "spoiled.pth"
    spoiled.write_bytes(b"no weights")
    flags = ["--steps=train_cam", "--cam_num_epoches=1"]
    failed = run(tiny_dataset, tmp_path / "out", *flags, f"--backbone_weights={spoiled}")
    assert failed.status == 2
    assert "--backbone_weights: Cannot read weights from" in failed.stderr
    assert not (tmp_path / "out").exists()
    assert run(tiny_dataset, tmp_path / "out", *flags).status == 0
