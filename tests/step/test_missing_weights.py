"""Weights that were deleted, plugged in or never finished, through the command line."""

import shutil
from pathlib import Path

import pytest

from misc.workspace import WeightsFile, read_json, write_json
from tests.tiny import Run, contents, copy_run, run, states


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
    assert f"What {out_dir / 'cam'} holds was made otherwise" in stopped.stderr
    assert f"{flag.split('=')[0]} was" in stopped.stderr
    assert "Pass --overwrite to redo it, name another --cam_out_dir" in stopped.stderr
    assert states(out_dir) == before


def test_without_weights_overwrite_trains_anew(
    tiny_dataset: Path, finished_run: Run, out_dir: Path
) -> None:
    steps = "--steps=train_cam,make_cam"
    done = run(tiny_dataset, out_dir, steps, "--overwrite", "--cam_num_epoches=1")
    assert done.status == 0, done.stderr
    assert "train_cam: loss" in done.stderr
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
    assert f"none is trained where CAMs were put into {theirs}" in stopped.stderr
    assert (
        "Name its weights with --cam_weights_name, or leave out --bes_backbone cam"
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
        patch.setattr(f"step.train_{network}.train", interrupt)
        assert run(tiny_dataset, out_dir, *flags).status == 130
    assert not weights.exists()
    assert weights.with_name(f"{weights.name}.json").exists()
    weights.write_bytes(theirs)
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert weights.read_bytes() == theirs


def test_a_stopped_training_goes_on_although_older_cams_are_all_there(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    flags = ["--steps=train_cam", "--seed=6"]
    with monkeypatch.context() as patch:
        patch.setattr("step.train_cam.save_weights", interrupt)
        assert run(tiny_dataset, out_dir, *flags, "--overwrite").status == 130
    done = run(tiny_dataset, out_dir, *flags)
    assert done.status == 0
    assert "train_cam goes on after step 3 of 4" in done.stderr
    assert (out_dir / "weights" / "cam.pth").exists()


def test_a_training_state_that_a_kill_left_behind_is_removed(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    states_left = [out_dir / "weights" / f"{name}.pth.checkpoint" for name in ("cam", "bes")]
    for path in states_left:
        path.write_bytes(b"state")
    assert run(tiny_dataset, out_dir, "--steps=train_cam,train_bes").status == 0
    assert not any(path.exists() for path in states_left)


def test_weights_of_a_record_without_a_seal_are_ours(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    """As earlier versions wrote it."""
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    weights = WeightsFile(out_dir / "weights" / "cam.pth", "--cam_weights_name")
    content = read_json(weights.record_path)
    assert content.pop("weights") == weights.state_digest()
    write_json(weights.record_path, content)
    assert not weights.is_foreign()
    stopped = run(tiny_dataset, out_dir, "--steps=train_cam", "--seed=6")
    assert stopped.status == 2
    assert "--seed was 5, is 6" in stopped.stderr
