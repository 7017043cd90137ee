"""The plan: the state of every step, what is refused with what to type, and what is kept."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.workspace import ImageFolder, Record
from tests.helpers.paths import ROOT
from tests.helpers.tiny import (
    Run,
    arguments,
    contents,
    copy_dataset,
    copy_run,
    run,
    run_of,
    scores_of,
    start,
    states,
)

IDS = [f"2007_{number:06d}" for number in range(1, 9)]
STEPS = [
    "train_cam", "make_cam", "eval_cam", "make_confident_regions", "make_boundary_label",
    "train_bes", "make_walk", "eval_walk", "make_sem_seg", "eval_sem_seg",
]  # fmt: skip


@pytest.fixture
def out_dir(finished_run: Run, tmp_path: Path) -> Path:
    return copy_run(finished_run.out_dir, tmp_path / "out")


@pytest.fixture
def own_dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return copy_dataset(tiny_dataset, tmp_path / "voc")


def plan_of(text: str) -> dict[str, list[str]]:
    """Step -> state, why, images to do, of a plan's table."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if re.match(r"step +state +why", line))
    columns = [lines[first].index(name) for name in ("step", "state", "why", "images to do")]
    rows: dict[str, list[str]] = {}
    name = ""
    for line in lines[first + 2 :]:
        if not line.strip():
            break
        bounds = [*columns, None]
        cells = [line[a:b].strip() for a, b in itertools.pairwise(bounds)]
        if cells[0]:
            name = cells[0]
            rows[name] = cells[1:]
        else:  # a wrapped line
            rows[name] = [
                f"{was} {cell}".strip() for was, cell in zip(rows[name], cells[1:], strict=True)
            ]
    return rows


def planned(root: Path, out_dir: Path, *flags: str) -> dict[str, list[str]]:
    done = run(root, out_dir, "--plan", *flags)
    assert done.status == 0, done.stderr
    return plan_of(done.stdout.partition("\n\n")[0])


def to_type(stderr: str, what: str) -> list[str]:
    """The flags that a refusal proposes."""
    (line,) = (line for line in stderr.splitlines() if line.startswith(f"  to {what}"))
    return line.rpartition(": ")[2].split()


def test_a_first_plan_is_all_to_do_and_writes_nothing(tiny_dataset: Path, tmp_path: Path) -> None:
    rows = planned(tiny_dataset, tmp_path / "out")
    assert list(rows) == STEPS
    assert {row[0] for row in rows.values()} == {"missing"}
    assert rows["make_cam"] == ["missing", "8 of 8 missing", "8"]
    assert not (tmp_path / "out").exists()


def test_a_finished_run_is_current_and_a_plan_touches_nothing(
    tiny_dataset: Path, out_dir: Path
) -> None:
    files = {path: path.stat().st_mtime_ns for path in out_dir.rglob("*")}
    rows = planned(tiny_dataset, out_dir)
    assert rows == {step: ["current", "", ""] for step in STEPS}
    assert {path: path.stat().st_mtime_ns for path in out_dir.rglob("*")} == files


def test_what_is_missing_is_counted(tiny_dataset: Path, out_dir: Path) -> None:
    for image_id in IDS[:3]:
        (out_dir / "sem_seg" / f"{image_id}_crf.png").unlink()
    rows = planned(tiny_dataset, out_dir)
    assert rows["make_sem_seg"] == ["missing", "3 of 8 missing", "3"]
    assert rows["train_bes"] == ["current", "", ""]


CHANGES = {
    "--sem_seg_bg_thres=0.3": ["eval_walk", "make_sem_seg", "eval_sem_seg"],
    "--beta=10": STEPS[6:],
    "--bes_learning_rate=0.2": STEPS[5:],
    "--theta_scale=0.2": STEPS[4:],
    "--conf_fg_thres=0.4": STEPS[3:],
    "--cam_scales=1": STEPS[1:],
    "--seed=6": STEPS[:],
    "--cam_eval_thres=0.3": ["eval_cam"],
    "--eval_classes=cat": ["eval_cam", "eval_walk", "eval_sem_seg"],
    "--num_workers=1": [],
    "--deterministic=yes": [],
}


@pytest.mark.parametrize("flag", CHANGES)
def test_a_changed_setting_makes_stale_what_depends_on_it_and_nothing_else(
    tiny_dataset: Path, out_dir: Path, flag: str
) -> None:
    rows = planned(tiny_dataset, out_dir, flag)
    stale = [step for step, row in rows.items() if row[0] == "stale"]
    assert stale == CHANGES[flag]
    if stale:
        name, value = flag.split("=")
        assert re.search(rf"{name} was \S+, is {value}", rows[stale[0]][1])
        assert all("follows" in rows[step][1] for step in stale[1:] if "--" not in rows[step][1])


@pytest.mark.parametrize(
    "flag", ["--sem_seg_bg_thres=0.3", "--theta_scale=0.2", "--conf_fg_thres=0.4"]
)
def test_a_refusal_names_exactly_what_to_type(tiny_dataset: Path, out_dir: Path, flag: str) -> None:
    before = states(out_dir)
    refused = run(tiny_dataset, out_dir, flag)
    assert refused.status == 2
    assert states(out_dir) == before
    words = to_type(refused.stderr, "redo")
    only_planned = run(tiny_dataset, out_dir, flag, "--plan")
    assert only_planned.status == 0
    assert to_type(only_planned.stdout, "redo") == words
    of_help = [step for step in CHANGES[flag] if step != "make_confident_regions"]
    assert words == ["--steps", ",".join(of_help), "--overwrite"]
    done = run(tiny_dataset, out_dir, flag, *words)
    assert done.status == 0, done.stderr
    assert run(tiny_dataset, out_dir, flag).status == 0
    assert {row[0] for row in planned(tiny_dataset, out_dir, flag).values()} == {"current"}


def test_taking_what_is_there_as_it_is_works_as_proposed(tiny_dataset: Path, out_dir: Path) -> None:
    refused = run(tiny_dataset, out_dir, "--conf_fg_thres=0.4", "--beta=10")
    words = to_type(refused.stderr, "use")
    assert words == ["--make_boundary_label_pass", "no", "--make_walk_pass", "no"]
    before = states(out_dir)
    done = run(tiny_dataset, out_dir, "--conf_fg_thres=0.4", "--beta=10", *words)
    assert done.status == 0, done.stderr
    assert states(out_dir) == before


def test_taking_what_is_there_works_for_a_replaced_photograph_too(
    own_dataset: Path, out_dir: Path
) -> None:
    path = own_dataset / "JPEGImages" / f"{IDS[0]}.jpg"
    with Image.open(path) as image:
        image.rotate(180).save(path)
    words = to_type(run(own_dataset, out_dir).stderr, "use")
    done = run(own_dataset, out_dir, *words)
    assert done.status == 0, done.stderr


@pytest.mark.parametrize("how", ["--from=make_sem_seg", "--steps=make_sem_seg,eval_sem_seg"])
@pytest.mark.parametrize("what", ["redo", "use", "keep them"])
def test_what_is_proposed_works_with_the_steps_that_were_named(
    tiny_dataset: Path, out_dir: Path, how: str, what: str
) -> None:
    flags = [how, "--sem_seg_bg_thres=0.3"]
    words = to_type(run(tiny_dataset, out_dir, *flags).stderr, what)
    done = run(tiny_dataset, out_dir, *flags, *words)
    assert done.status == 0, done.stderr


def test_making_the_new_beside_the_old_works_as_proposed(tiny_dataset: Path, out_dir: Path) -> None:
    refused = run(tiny_dataset, out_dir, "--bes_learning_rate=0.2")
    words = to_type(refused.stderr, "keep them")
    weights, masks = out_dir / "weights" / "bes_new.pth", out_dir / "sem_seg_new"
    walks = out_dir / "walk_new"
    assert words == [
        "--bes_weights_name", str(weights), "--walk_out_dir", str(walks), "--sem_seg_out_dir",
        str(masks),
    ]  # fmt: skip
    before = contents(out_dir)
    done = run(tiny_dataset, out_dir, "--bes_learning_rate=0.2", *words)
    assert done.status == 0, done.stderr
    assert contents(out_dir).items() > before.items()
    assert weights.is_file()
    assert len(list(masks.glob("*.png"))) == 16


def test_overwrite_redoes_what_is_stale_and_what_follows_and_keeps_the_rest(
    tiny_dataset: Path, out_dir: Path
) -> None:
    before = contents(out_dir)
    done = run(tiny_dataset, out_dir, "--theta_scale=0.2", "--overwrite")
    assert done.status == 0, done.stderr
    kept = {row.split()[0] for row in done.stdout.splitlines() if row.split()[1:2] == ["kept"]}
    assert kept == {"train_cam", "make_cam", "eval_cam", "make_confident_regions"}
    after = contents(out_dir)
    unchanged = {Path(name).parts[0] for name in before if after[name] == before[name]}
    assert unchanged >= {"cam", "cam_vis"}
    assert after["weights/cam.pth"] == before["weights/cam.pth"]
    assert after["weights/bes.pth"] != before["weights/bes.pth"]


def test_a_changed_background_threshold_trains_nothing_whatever_is_overwritten(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("misc.training.train", None)
    flags = ["--sem_seg_bg_thres=0.3", "--overwrite"]
    assert run(tiny_dataset, out_dir, *flags).status == 0


def test_overwrite_all_redoes_all_that_was_asked_for_to_the_same_bytes(
    tiny_dataset: Path, out_dir: Path
) -> None:
    before, old = contents(out_dir), states(out_dir)
    flags = ["--steps=make_boundary_label,make_sem_seg", "--overwrite", "all"]
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert contents(out_dir) == before
    redone = {name for name, state in states(out_dir).items() if old.get(name) != state}
    assert {Path(name).parts[0] for name in redone} == {
        "cam_vis", "boundary_label", "sem_seg", "scores.json",
    }  # fmt: skip


def test_overwrite_all_goes_on_where_it_was_stopped(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--steps=make_boundary_label,make_sem_seg", "--overwrite", "all"]

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("misc.pseudo_mask.scores_to_regions", interrupt)
        stopped = run(tiny_dataset, out_dir, *flags)
    assert stopped.status == 130
    assert stopped.stderr.endswith("Stopped. Run the same command again to resume.\n")
    rows = planned(tiny_dataset, out_dir, *flags)
    assert [rows[step][0] for step in ("make_boundary_label", "make_sem_seg")] == ["current"] * 2
    assert [rows[step][2] for step in ("make_boundary_label", "make_sem_seg")] == ["", "8"]
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert planned(tiny_dataset, out_dir, *flags)["make_boundary_label"][2] == "8"  # begins anew


def test_stopped_while_results_take_their_place_any_later_run_finishes_it(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def stop_at_the_fourth(source: Path, target: Path) -> None:
        if str(target) == str(out_dir / "cam" / f"{IDS[3]}.npy"):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_the_fourth)
        stopped = run(tiny_dataset, out_dir, "--steps=make_cam", "--cam_scales=1.0", "--overwrite")
    assert stopped.status == 130
    assert (out_dir / "cam" / ".new" / f"{IDS[3]}.npy").exists()
    told = run(tiny_dataset, out_dir, "--steps=make_cam", "--cam_scales=1.0", "--plan")
    assert re.search(r"^make_cam +current", told.stdout, re.MULTILINE)
    scored = run(tiny_dataset, out_dir, "--steps=eval_cam", "--cam_scales=1.0")
    assert scored.status == 0, scored.stderr
    assert not (out_dir / "cam" / ".new").exists()
    rows = planned(tiny_dataset, out_dir, "--steps=make_cam,eval_cam", "--cam_scales=1.0")
    assert {row[0] for row in rows.values()} == {"current"}


def test_what_was_left_half_replaced_of_a_variant_is_finished_too(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = ImageFolder(out_dir / "seg/val/last_seed1", (".png", "_crf.png"), "--seg_out_dir")
    record = Record({}, {}, {IDS[0]: "1"})
    staging = masks.begin(record, [IDS[0]], anew=True)
    for suffix in masks.suffixes:
        staging.file(IDS[0], suffix).write_bytes(b"new")
    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "recover", lambda _: None)
        masks.complete(whole=True)
    assert run(tiny_dataset, out_dir, "--steps=eval_cam", "--seg_seeds=0,1").status == 0
    assert masks.missing([IDS[0]]) == []
    assert not staging.path.exists()


def test_from_asks_for_a_step_and_all_that_follow_it(tiny_dataset: Path, out_dir: Path) -> None:
    rows = planned(tiny_dataset, out_dir, "--from=train_bes")
    assert list(rows) == STEPS[5:]
    rows = planned(tiny_dataset, out_dir, "--from=make_boundary_label", "--overwrite=all")
    assert list(rows) == STEPS[3:]
    assert all(row[2] == "8" for row in rows.values())
    assert rows["train_bes"][1] == "--overwrite all"
    refused = run(tiny_dataset, out_dir, "--from=make_boundary")
    assert refused.status == 2
    assert (
        "--from: unknown step make_boundary. Did you mean make_boundary_label? The steps"
        in refused.stderr
    )
    both = ["--from=make_boundary_label", "--steps=make_cam,train_bes,make_walk"]
    assert list(planned(tiny_dataset, out_dir, *both)) == ["train_bes", "make_walk"]
    rows = planned(tiny_dataset, out_dir, *both, "--train_bes_pass=no")
    assert list(rows) == ["make_walk"]
    rows = planned(tiny_dataset, out_dir, "--from=train_seg", "--seg_val_every=0")
    assert list(rows) == ["train_seg", "make_seg", "make_submission", "eval_seg"]
    rows = planned(tiny_dataset, out_dir, "--from=train_seg", "--seg_seeds=0,1")
    assert list(rows)[-1] == "eval_seg"
    nothing = run(tiny_dataset, out_dir, "--from=eval_cam", "--steps=make_sem_seg")
    assert nothing.status == 2
    assert "No step is left to run." in nothing.stderr


def test_steps_that_were_not_asked_for_and_go_stale_are_shown(
    tiny_dataset: Path, out_dir: Path
) -> None:
    flags = ["--steps=make_boundary_label", "--theta_diff=0.2", "--overwrite"]
    rows = planned(tiny_dataset, out_dir, *flags)
    assert list(rows) == [
        "make_confident_regions", "make_boundary_label", "train_bes", "make_walk", "eval_walk",
        "make_sem_seg", "eval_sem_seg",
    ]  # fmt: skip
    assert rows["make_confident_regions"][0] == "current"
    for step in STEPS[5:]:
        assert rows[step][0] == "stale"
        assert rows[step][1].endswith("(not asked for)")


def test_what_goes_without_a_successor_is_told(
    tiny_dataset: Path, out_dir: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n".join(IDS[:2]))
    flags = ["--steps=make_sem_seg", f"--infer_list={few}", "--sem_seg_bg_thres=0.3"]
    row = planned(tiny_dataset, out_dir, *flags)["make_sem_seg"]
    assert row == [
        "stale",
        "--sem_seg_bg_thres was 0.21, is 0.3; removes those of 6 other images",
        "2",
    ]


def test_weights_that_cannot_be_read_are_found_before_work_begins(
    tiny_dataset: Path, out_dir: Path
) -> None:
    junk = out_dir / "junk.pth"
    junk.write_bytes(b"no weights")
    flags = [f"--bes_weights_name={junk}", "--out_dir", str(out_dir.with_name("new"))]
    refused = run(tiny_dataset, out_dir, *flags)
    assert refused.status == 2
    assert f"Cannot read weights from {junk}" in refused.stderr
    assert "Choose others with --bes_weights_name" in refused.stderr
    assert not out_dir.with_name("new").exists()


def test_what_was_put_there_is_taken_as_it_is(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = tmp_path / "out"
    for name in ("cam", "boundary_label"):
        shutil.copytree(finished_run.out_dir / name, out_dir / name)
        (out_dir / name / "settings.json").unlink()
    rows = planned(tiny_dataset, out_dir, "--bes_backbone=pretrained")
    for step in ("make_cam", "make_boundary_label"):
        assert rows[step] == ["taken as they are (put there by you)", "", ""]
    assert rows["train_cam"][0] == "off"
    assert rows["train_cam"][1].startswith("CAMs were put into ")
    assert rows["make_confident_regions"][:2] == [
        "not needed", "no step with work to do reads it",
    ]  # fmt: skip
    assert rows["train_bes"][0] == "missing"


def test_a_network_is_not_trained_again_for_results_that_are_all_there(
    tiny_dataset: Path, out_dir: Path
) -> None:
    (out_dir / "weights" / "bes.pth").unlink()
    shutil.rmtree(out_dir / "cam_vis")
    rows = planned(tiny_dataset, out_dir)
    assert rows["train_bes"][0] == rows["make_confident_regions"][0] == "not needed"
    assert rows["make_sem_seg"][0] == rows["make_boundary_label"][0] == "current"
    assert rows["make_walk"][0] == "current"
    shutil.rmtree(out_dir / "walk")
    assert planned(tiny_dataset, out_dir, "--eval_walk_pass=no")["make_walk"][0] == "not needed"
    (out_dir / "sem_seg" / f"{IDS[0]}.png").unlink()
    rows = planned(tiny_dataset, out_dir)
    assert rows["train_bes"] == ["missing", "4 updates", "8"]
    assert rows["make_walk"] == ["missing", "8 of 8 missing", "8"]
    why = "1 of 8 missing; all, if the walked scores come out differently"
    assert rows["make_sem_seg"] == ["missing", why, "1"]
    before = contents(out_dir)
    assert run(tiny_dataset, out_dir).status == 0  # the same network to the bit: nothing is mixed
    after = contents(out_dir)
    assert {n for n in before if after[n] != before[n]} == set()


# What the content decides, and what it does not.


def test_a_replaced_photograph_is_noticed_and_redone_alone(
    own_dataset: Path, tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    out_dir = tmp_path / "out"
    assert run(own_dataset, out_dir, "--steps=train_cam,make_cam").status == 0
    photograph = own_dataset / "JPEGImages" / f"{IDS[2]}.jpg"
    with Image.open(photograph) as picture:
        darker = picture.point(lambda value: value // 2)
    darker.save(photograph, quality=95)
    rows = planned(own_dataset, out_dir, "--steps=train_cam,make_cam")
    assert rows["train_cam"][:2] == ["stale", "the photographs changed"]
    assert rows["make_cam"][0] == "stale"
    rows = planned(own_dataset, out_dir, "--steps=make_cam")
    assert rows["make_cam"] == ["stale", "the photographs of 1 image changed", "1"]
    before = states(out_dir / "cam")
    done = run(own_dataset, out_dir, "--steps=make_cam", "--overwrite")
    assert done.status == 0, done.stderr
    redone = {n for n, state in states(out_dir / "cam").items() if before[n] != state}
    assert redone == {f"{IDS[2]}.npy", "settings.json"}
    assert planned(own_dataset, out_dir, "--steps=make_cam")["make_cam"][0] == "current"


def test_a_copied_dataset_changes_nothing(
    tiny_dataset: Path, out_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_dataset, copy, copy_function=shutil.copyfile)  # new times, new inodes
    assert {row[0] for row in planned(copy, out_dir).values()} == {"current"}


def test_changed_tags_and_class_names_are_noticed(own_dataset: Path, tmp_path: Path) -> None:
    out_dir, steps = tmp_path / "out", "--steps=make_cam,eval_cam"
    assert run(own_dataset, out_dir, "--steps=train_cam,make_cam,eval_cam").status == 0
    xml = own_dataset / "Annotations" / f"{IDS[1]}.xml"
    text = xml.read_text()
    name = re.search(r"<name>(\w+)</name>", text)[1]  # type: ignore[index]
    xml.write_text(text.replace(f"<name>{name}</name>", "<name>sofa</name>"))
    rows = planned(own_dataset, out_dir, steps)
    assert rows["make_cam"][:2] == ["stale", "the tags of 1 image changed"]
    xml.write_text(text)
    assert {row[0] for row in planned(own_dataset, out_dir, steps).values()} == {"current"}
    from voc12.classes import VOC_CLASSES

    renamed = [*VOC_CLASSES[:-1], "screen"]
    (own_dataset / "classes.txt").write_text("\n".join(renamed))
    rows = planned(own_dataset, out_dir, steps)
    assert rows["make_cam"][:2] == ["stale", "the class names changed"]
    assert rows["eval_cam"][0] == "stale"


# Nothing good is lost before its successor is complete.


def spoil_weights(root: Path, out_dir: Path) -> list[str]:
    junk = out_dir.parent / "junk.pth"
    junk.write_bytes(b"junk")
    return [f"--bes_weights_name={junk}", "--steps=make_walk"]


def spoil_a_map(root: Path, out_dir: Path) -> list[str]:
    path = root / "Sal" / f"{IDS[4]}.png"
    path.write_bytes(path.read_bytes()[:100])
    return ["--theta_scale=0.2", "--steps=make_boundary_label"]


def diverge(root: Path, out_dir: Path) -> list[str]:
    return ["--bes_learning_rate=1e30", "--steps=train_bes"]


@pytest.mark.parametrize("spoil", [spoil_weights, spoil_a_map, diverge])
def test_what_fails_leaves_the_old_results_whole(
    own_dataset: Path, out_dir: Path, spoil: Callable[[Path, Path], list[str]]
) -> None:
    before = states(out_dir)
    failed = run(own_dataset, out_dir, *spoil(own_dataset, out_dir), "--overwrite")
    assert failed.status == 2
    assert "Traceback" not in failed.stderr
    assert states(out_dir).items() >= before.items()
    assert {row[0] for row in planned(own_dataset, out_dir, "--steps=eval_sem_seg").values()} == {
        "current"
    }


def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_results_whole(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, left = states(out_dir), [None] * 5
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if str(target).endswith(".png"):
            left.pop()
            if not left:
                raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    flags = ["--sem_seg_bg_thres=0.3", "--steps=make_sem_seg", "--overwrite"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        stopped = run(tiny_dataset, out_dir, *flags)
    assert stopped.status == 2
    assert "Free some space" in stopped.stderr
    old = {name: state for name, state in before.items() if not name.startswith("panels")}
    assert states(out_dir).items() >= old.items()
    grown = states(out_dir / "sem_seg" / ".new")
    assert len(grown) == 5  # the record, and the four that were written
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert not (out_dir / "sem_seg" / ".new").exists()


def test_stopped_in_the_middle_of_overwriting_the_same_command_goes_on(
    tiny_dataset: Path, finished_run: Run, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, left = contents(out_dir), [None] * 7
    replace = os.replace

    def stop(source: Path, target: Path) -> None:
        if str(target).endswith(".png"):
            left.pop()
            if not left:
                raise KeyboardInterrupt
        replace(source, target)

    flags = ["--sem_seg_bg_thres=0.3", "--steps=make_sem_seg"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        assert run(tiny_dataset, out_dir, *flags, "--overwrite").status == 130
    assert contents(out_dir).items() >= before.items()
    assert run(tiny_dataset, out_dir, "--steps=make_sem_seg").status == 0  # the old ones
    refused = run(tiny_dataset, out_dir, *flags)
    assert refused.status == 2
    assert "--sem_seg_bg_thres was 0.21, is 0.3" in refused.stderr
    done = run(tiny_dataset, out_dir, *flags, "--overwrite")
    assert done.status == 0
    assert "the pseudo masks of 5 images" in done.stderr
    whole = run(tiny_dataset, out_dir.with_name("whole"), "--sem_seg_bg_thres=0.3")
    made = {n: c for n, c in contents(out_dir).items() if n.startswith("sem_seg")}
    assert made == {n: c for n, c in contents(whole.out_dir).items() if n.startswith("sem_seg")}


# One run per output folder.

WAITING = """
import sys, time
import run_sample, step.common.runner as runner
def wait(*_):
    print("working", flush=True)
    time.sleep(120)
runner.Runner.execute = wait
run_sample.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused_by_name(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    words = arguments(tiny_dataset, tmp_path)
    first = start(["-c", WAITING, *words])
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "working\n"
        refused = run(tiny_dataset, tmp_path)
        assert refused.status == 2
        assert f"{tmp_path} is in use by process {first.pid} on " in refused.stderr
        assert "choose another --out_dir" in refused.stderr
        assert run(tiny_dataset, tmp_path, "--plan").status == 0
    finally:
        first.kill()
        first.communicate()
    assert run(tiny_dataset, tmp_path, "--steps=train_cam").status == 0


@pytest.mark.slow
def test_two_runs_do_not_write_one_folder(tiny_dataset: Path, out_dir: Path) -> None:
    flags = ["--steps=make_sem_seg", f"--walk_out_dir={out_dir / 'walk'}"]
    folder = out_dir.with_name("shared") / "masks"
    words = [*flags, f"--sem_seg_out_dir={folder}"]
    first = start(["-c", WAITING, *arguments(tiny_dataset, out_dir.with_name("one"), *words)])
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "working\n"
        refused = run(tiny_dataset, out_dir.with_name("two"), *words)
        assert refused.status == 2
        assert f"{folder} is in use by process {first.pid} on " in refused.stderr
        assert "choose another --sem_seg_out_dir" in refused.stderr
        inner = [*flags, f"--sem_seg_out_dir={out_dir.with_name('one') / 'cam'}"]
        refused = run(tiny_dataset, out_dir.with_name("two"), *inner)
        assert f"{out_dir.with_name('one')} is in use by process {first.pid}" in refused.stderr
    finally:
        first.kill()
        first.communicate()
    assert run(tiny_dataset, out_dir.with_name("two"), *words).status == 0


def test_a_run_from_python_has_the_flags_names_and_returns_scores_and_paths(
    tiny_dataset: Path, out_dir: Path
) -> None:
    code = f"""
from run_sample import run
done = run(data_root={str(tiny_dataset)!r}, out_dir={str(out_dir)!r}, steps=["eval_cam"],
           sal_root=None, cam_eval_thres=0.3, eval_classes=("cat", "dog"), panels=0, num_workers=0,
           device="cpu")
print(done.scores["eval_cam"]["threshold"], done.paths["sem_seg_out_dir"])
try:
    run(data_root="none", wrong=1)
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-2] == f"0.3 {out_dir / 'sem_seg'}"
    assert lines[-1].startswith("UserError There is no flag --wrong")
    said, scores = run_of(out_dir), scores_of(out_dir)
    assert said["settings"]["eval_classes"] == ["cat", "dog"]
    assert shlex.split(said["command"])[-1] == "--steps=eval_cam"
    assert np.isfinite(scores["eval_cam"]["miou"])
