"""Places of results that are one under two names, or not theirs; flags that contradict."""

from pathlib import Path

import pytest

from tests.helpers.tiny import Run, copy_run, run, states


def planned(root: Path, out_dir: Path, *flags: str) -> str:
    """What the plan, or the refusal before it, says."""
    done = run(root, out_dir, "--plan", *flags)
    assert not out_dir.exists()
    return done.stdout + done.stderr


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """`a`, and `link` to it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path


@pytest.mark.parametrize("other", ["a", "zz/../a", "a/", "./a", "link", "link/../link"])
def test_two_results_do_not_go_to_one_place(tiny_dataset: Path, places: Path, other: str) -> None:
    flags = [f"--sem_seg_out_dir={places}/a", f"--cam_vis_dir={places}/{other}"]
    said = planned(tiny_dataset, places / "out", *flags)
    assert "--sem_seg_out_dir" in said
    assert f"--cam_vis_dir names {places / 'a'} too" in said


def test_so_it_is_with_the_usual_places(tiny_dataset: Path, places: Path) -> None:
    said = planned(tiny_dataset, places / "out", f"--cam_vis_dir={places}/zz/../out/sem_seg")
    assert f"--cam_vis_dir names {places / 'out' / 'sem_seg'} too" in said


@pytest.mark.parametrize(
    ("flag", "place", "told"),
    [
        ("sem_seg_out_dir", "{root}/zz/../Sal", "{root}/Sal belongs to the dataset"),
        ("cam_out_dir", "{tmp}/data/JPEGImages", "{root}/JPEGImages belongs to the dataset"),
        ("bes_weights_name", "{root}/ImageSets/x.pth", "{root}/ImageSets belongs to the dataset"),
        ("out_dir", "{tmp}/data/Sal/new", "{root}/Sal belongs to the dataset"),
        ("cam_weights_name", "{out}/scores.json", "scores.json is for the scores"),
        ("sem_seg_out_dir", "{out}/panels", "panels is for the contact sheets"),
        ("cam_weights_name", "{out}/sample_train_eval.log", ".log is for the log"),
        ("cam_vis_dir", "{out}/.sbe/x", ".sbe is for the notes"),
        (
            "bes_weights_name", "{out}/weights/cam.pth.json",
            "cam.pth.json is for the record of classifier's weights",
        ),
        ("cam_vis_dir", "{out}/sem_seg/.new", "sem_seg/.new is for the unfinished pseudo masks"),
    ],
)  # fmt: skip
def test_a_place_that_is_somebody_else_s_is_refused(
    tiny_dataset: Path, places: Path, flag: str, place: str, told: str
) -> None:
    (places / "data").symlink_to(tiny_dataset)
    names = {"root": tiny_dataset, "tmp": places, "out": places / "out"}
    before = states(tiny_dataset)
    flags = [f"--{flag}={place.format(**names)}"]
    said = planned(tiny_dataset, places / "out", *flags)
    assert "and nothing was started" in said
    assert f"--{flag} {place.format(**names)}: " in said
    assert told.format(**names) in said
    assert states(tiny_dataset) == before


@pytest.mark.parametrize("below", ["", "/sub/cam"])
@pytest.mark.parametrize("target", ["loop", "nothing"])
def test_a_link_that_leads_nowhere_is_no_place(
    tiny_dataset: Path, places: Path, target: str, below: str
) -> None:
    (places / "dead").symlink_to(places / target)
    said = planned(tiny_dataset, places / "out", f"--cam_out_dir={places / 'dead'}{below}")
    assert f"--cam_out_dir {places / 'dead'}{below}: {places / 'dead'} is a link" in said
    assert "1 problem, and nothing was started" in said


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--steps=train_cam", "--train_cam_pass=no"], "what --train_cam_pass no switches off"),
        (
            ["--steps=make_cam,eval_cam", "--make_cam_pass=no", "--eval_cam_pass=no"],
            "--steps make_cam,eval_cam asks for what --make_cam_pass no --eval_cam_pass no",
        ),
        (["--train_list=nowhere"], "nowhere.txt. Write one image id per line, or choose"),
        (["--saliency=none", "--sal_root=maps"], "--saliency none (or --preset bes) reads no maps"),
        (["--preset=bes", "--sal_root=maps"], "--saliency none (or --preset bes) reads no maps"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    tiny_dataset: Path, tmp_path: Path, flags: list[str], told: str
) -> None:
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


def test_some_of_the_named_steps_may_be_switched_off(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    done = run(tiny_dataset, out_dir, "--steps=make_cam,eval_cam", "--make_cam_pass=no")
    assert done.status == 0
    assert "make_cam" not in done.stderr
