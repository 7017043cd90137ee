import json
import os
import re
import shlex
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from step.run import NOTES
from tests.helpers.tiny import (
    Run,
    arguments,
    contents,
    copy_dataset,
    copy_run,
    run,
    run_of,
    start,
    states,
)  # fmt: skip
from voc12.classes import VOC_CLASSES

IDS = [f"2007_{number:06d}" for number in range(1, 9)]
VAL_IDS = [f"2007_{number:06d}" for number in range(9, 12)]


def scores_of(out_dir: Path) -> dict[str, Any]:
    return json.loads((out_dir / "scores.json").read_text())


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture
def out_dir(finished_run: Run, tmp_path: Path) -> Path:
    """A copy of the finished run to work on."""
    return copy_run(finished_run.out_dir, tmp_path / "out")


@pytest.fixture
def own_dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset to change, as old as the original."""
    return copy_dataset(tiny_dataset, tmp_path / "voc")


def test_every_step_leaves_its_files_and_no_other(finished_run: Run) -> None:
    assert finished_run.status == 0
    made = {
        "weights": [
            f"{name}{ending}"
            for name in ("bes", "cam")
            for ending in (".curve.csv", ".pth", ".pth.json")
        ],
        "cam": [f"{i}.npy" for i in IDS],
        "cam_vis": [f"{i}.png" for i in IDS],
        "boundary_label": [f"{i}.png" for i in IDS],
        "walk": [*(f"{i}.npy" for i in IDS), "boundary"],  # pictures, for people
        "sem_seg": [f"{i}{suffix}.png" for i in IDS for suffix in ("", "_crf")],
        "panels": ["2007_000001.png", "2007_000008.png"],
    }
    for folder, names in made.items():
        there = {path.name for path in (finished_run.out_dir / folder).iterdir()}
        assert there - {"settings.json", "sources.json"} == set(names), folder
    others = {path.name for path in finished_run.out_dir.iterdir()} - made.keys()
    assert others == {
        "run.json", "scores.json", "scores.settings.json", "sample_train_eval.log", NOTES,
    }  # fmt: skip


def test_masks_are_palette_pngs_of_the_images_size_and_classes(
    finished_run: Run, tiny_dataset: Path
) -> None:
    for image_id in IDS:
        truth = read(tiny_dataset / "SegmentationClass" / f"{image_id}.png")
        for suffix in ("", "_crf"):
            path = finished_run.out_dir / "sem_seg" / f"{image_id}{suffix}.png"
            with Image.open(path) as picture:
                assert picture.mode == "P"
            assert read(path).shape == truth.shape
            assert set(np.unique(read(path))) <= set(np.unique(truth))


def test_the_scores_name_classes_and_thresholds(finished_run: Run) -> None:
    scores = scores_of(finished_run.out_dir)
    cam, masks = scores["eval_cam"], scores["eval_sem_seg"]
    assert cam["threshold"] == 0.21
    assert 0 < cam["miou"] <= cam["best"]["miou"] <= 1
    assert 0.01 <= cam["best_threshold"] <= 0.99
    for result, ending in ((cam, ""), (cam["best"], ""), (masks, ""), (masks, "_crf")):
        iou = result[f"iou{ending}"]
        assert list(iou) == ["background", *VOC_CLASSES]
        present = [value for value in iou.values() if value is not None]
        assert result[f"miou{ending}"] == pytest.approx(np.mean(present))
        assert {f"fp{ending}", f"fn{ending}", f"fp_foreground{ending}"} <= result.keys()
    assert scores.keys() == {
        "train_cam", "make_cam", "eval_cam", "make_confident_regions", "make_boundary_label",
        "train_bes", "make_walk", "eval_walk", "make_sem_seg", "eval_sem_seg",
    }  # fmt: skip


def test_the_run_says_what_it_was_asked_for_and_where_it_ran(finished_run: Run) -> None:
    said = run_of(finished_run.out_dir)
    words = shlex.split(said["command"])
    assert words[:2] == ["python", "run_sample.py"]
    assert f"--out_dir={finished_run.out_dir}" in words
    assert said["settings"]["backbone"] == "resnet18"
    assert said["settings"]["seed"] == 5
    assert said["settings"]["cam_resize_long"] == [64, 96]
    assert {"python", "torch", "numpy", "pydensecrf2"} <= said["versions"].keys()
    assert said["machine"]["device"] == "cpu"
    assert said["machine"]["cores"] >= said["machine"]["processes"] == 1
    assert re.fullmatch(r"[0-9a-f]{40}\+?", said["commit"])
    assert datetime.fromisoformat(said["started"]) < datetime.now(timezone.utc)
    assert {entry["state"] for entry in said["steps"].values()} == {"done"}
    assert said["seconds"] > sum(entry["seconds"] for entry in said["steps"].values())


def test_the_run_says_how_each_step_stands(tiny_dataset: Path, out_dir: Path) -> None:
    before = run_of(out_dir)["steps"]
    flags = ["--steps=make_sem_seg", "--sem_seg_bg_thres=0.3", "--overwrite"]
    assert run(tiny_dataset, out_dir, *flags).status == 0
    after = run_of(out_dir)["steps"]
    states = {name: entry["state"] for name, entry in after.items()}
    assert states["make_sem_seg"] == "done"
    assert states["eval_sem_seg"] == "stale"
    assert states["make_walk"] == "not asked for"
    assert after["make_walk"]["seconds"] == before["make_walk"]["seconds"]
    assert after["make_sem_seg"]["settings"]["sem_seg_bg_thres"] == 0.3
    shutil.rmtree(out_dir / "sem_seg")
    again = run(tiny_dataset, out_dir, "--make_sem_seg_pass=no", "--eval_sem_seg_pass=no")
    assert again.status == 0, again.stderr
    states = {name: entry["state"] for name, entry in run_of(out_dir)["steps"].items()}
    assert states["make_walk"] == "kept"
    assert states["make_sem_seg"] == "not asked for"


def test_each_network_leaves_the_course_of_its_training(finished_run: Run) -> None:
    for name, rate in (("cam", 0.02), ("bes", 0.1)):
        path = finished_run.out_dir / "weights" / f"{name}.curve.csv"
        header, *rows = path.read_text().splitlines()
        assert header == "update,epoch,loss,learning_rate"
        cells = [[float(cell) for cell in row.split(",")] for row in rows]
        assert [row[:2] for row in cells] == [[1, 1], [2, 1], [3, 2], [4, 2]]
        rates = [rate * (1 - update / 4) ** 0.9 for update in range(4)]
        assert [row[3] for row in cells] == pytest.approx(rates, rel=1e-5)
        loss = scores_of(finished_run.out_dir)[f"train_{name}"]["loss"]
        assert sum(row[2] for row in cells[2:]) / 2 == pytest.approx(loss, rel=1e-5)


def test_a_file_of_the_users_is_not_overwritten_by_a_curve(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "weights" / "cam.curve.csv"
    path.parent.mkdir()
    path.write_text("x,y\n1,2\n")
    refused = run(tiny_dataset, tmp_path, "--steps=train_cam", "--overwrite=all")
    assert refused.status == 2
    assert f"{path} is where train_cam would keep its update, epoch, loss" in refused.stderr
    assert path.read_text() == "x,y\n1,2\n"
    path.write_text("update,epoch,loss,learning_rate\n9,9,9,9\n")  # of weights that are gone
    assert run(tiny_dataset, tmp_path, "--steps=train_cam", "--plan").status == 0


def test_a_score_whose_record_speaks_of_another_is_made_again(
    tiny_dataset: Path, out_dir: Path
) -> None:
    expected = scores_of(out_dir)["eval_cam"]
    changed = json.loads((out_dir / "scores.json").read_text())
    changed["eval_cam"]["miou"] = 1.0
    (out_dir / "new").write_text(json.dumps(changed))
    (out_dir / "new").replace(out_dir / "scores.json")
    assert run(tiny_dataset, out_dir).status == 0
    assert scores_of(out_dir)["eval_cam"] == expected


def test_every_step_says_how_long_it_took_and_how_fast(finished_run: Run) -> None:
    scores, steps = scores_of(finished_run.out_dir), run_of(finished_run.out_dir)["steps"]
    images = {"train_cam": 16, "make_cam": 8, "eval_cam": 8, "make_boundary_label": 8,
              "train_bes": 16, "make_walk": 8, "eval_walk": 8, "make_sem_seg": 8,
              "eval_sem_seg": 8}  # fmt: skip
    for step, count in images.items():
        assert scores[step]["images"] == count
        assert steps[step]["images"] == count
        assert steps[step]["images_per_second"] == pytest.approx(count / steps[step]["seconds"])


def test_the_run_ends_with_one_table(finished_run: Run) -> None:
    scores = scores_of(finished_run.out_dir)
    lines = finished_run.stdout.strip().splitlines()
    assert lines[0].split() == ["step", "images", "seconds", "result"]
    assert [line.split()[:2] for line in lines[2:12]] == [
        [step, "done"]
        for step in ("train_cam", "make_cam", "eval_cam", "make_confident_regions",
                     "make_boundary_label", "train_bes", "make_walk", "eval_walk", "make_sem_seg",
                     "eval_sem_seg")
    ]  # fmt: skip
    before, after = (100 * scores["eval_sem_seg"][key] for key in ("miou", "miou_crf"))
    assert lines[11].endswith(f"mIoU {before:.1f}, after CRF {after:.1f}")


def test_the_run_ends_with_the_places_to_look_at(finished_run: Run) -> None:
    lines = finished_run.stdout.strip().splitlines()[13:]
    assert [line.rpartition("  ")[0].strip() for line in lines] == [
        "pseudo masks", "scores", "contact sheets",
    ]  # fmt: skip
    assert [line.rpartition("  ")[2] for line in lines] == [
        str(finished_run.out_dir / name) for name in ("sem_seg", "scores.json", "panels")
    ]


def test_a_line_for_each_step_and_no_bar_where_there_is_no_terminal(finished_run: Run) -> None:
    log = (finished_run.out_dir / "sample_train_eval.log").read_text()
    said = re.findall(r"\[(\d+)/10\] (\w+): (.+) \([\d.]+ s\)$", finished_run.stderr, re.MULTILINE)
    assert [int(number) for number, _, _ in said] == list(range(1, 11))
    assert ("2", "make_cam", "8 images") in said
    assert said[9][1] == "eval_sem_seg"
    assert said[9][2].startswith("mIoU")
    assert "INFO train_cam: epoch 2, mean loss" in log
    assert "INFO [10/10] eval_sem_seg: mIoU" in log
    assert "\r" not in finished_run.stderr
    assert "%|" not in finished_run.stderr


def test_panels_are_one_sheet_an_image(finished_run: Run) -> None:
    sheet = read(finished_run.out_dir / "panels" / "2007_000001.png")
    assert sheet.ndim == 3
    assert sheet.shape[1] > 4 * 96


def test_a_second_start_writes_nothing_and_builds_no_network(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = states(out_dir)
    monkeypatch.setattr("net.backbone.build_backbone", None)
    again = run(tiny_dataset, out_dir)
    assert again.status == 0
    assert states(out_dir) == before
    rows = again.stdout.strip().splitlines()[2:10]
    assert {row.split()[1] for row in rows} == {"kept"}


def test_contact_sheets_are_made_again_only_of_what_changed(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = states(out_dir)
    with monkeypatch.context() as patch:
        patch.setattr("net.backbone.build_backbone", None)
        assert run(tiny_dataset, out_dir, "--panels=2").status == 0
    assert states(out_dir) == before
    mask = out_dir / "sem_seg" / f"{IDS[0]}.png"
    Image.fromarray(read(mask)).save(tmp := mask.with_name("new"), format="png")
    os.replace(tmp, mask)
    assert run(tiny_dataset, out_dir, "--panels=2", "--steps=eval_sem_seg").status == 0
    changed = {name for name, state in states(out_dir / "panels").items()
               if before[f"panels/{name}"] != state}  # fmt: skip
    assert changed == {f"{IDS[0]}.png", "sources.json"}


def test_sheets_that_cannot_be_drawn_cost_neither_table_nor_status(
    own_dataset: Path, out_dir: Path
) -> None:
    (own_dataset / "ImageSets" / "Segmentation" / "train.txt").unlink()
    flags = ["--steps=eval_sem_seg", "--panels=2", "--chainer_eval_set=train_aug"]
    done = run(own_dataset, out_dir, *flags)
    assert done.status == 0
    assert "eval_sem_seg" in done.stdout
    assert "Contact sheets (--panels) were not written: No list" in done.stderr


@pytest.mark.slow
def test_worker_processes_change_no_byte(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    with_workers = run(tiny_dataset, tmp_path, "--num_workers=2")
    assert with_workers.status == 0
    assert contents(with_workers.out_dir) == contents(finished_run.out_dir)


def test_little_shared_memory_changes_no_byte(
    tiny_dataset: Path, finished_run: Run, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(out_dir / "walk")
    monkeypatch.setattr("misc.runtime.loading.room_to_read_ahead", lambda: 1)
    done = run(tiny_dataset, out_dir, "--steps=make_walk", "--num_workers=2")
    assert done.status == 0, done.stderr
    assert "No worker processes read instead of 2: one reads " in done.stderr
    assert contents(out_dir) == contents(finished_run.out_dir)


@pytest.mark.parametrize(
    "flag",
    [
        "--seed=6",
        "--cam_num_epoches=3",
        "--cam_scales=1,0.5",
        "--conf_fg_thres=0.4",
        "--sal_bg_thres=0.1",
        "--bes_learning_rate=0.2",
        "--beta=10",
    ],
)
def test_a_changed_setting_is_named_and_nothing_is_lost(
    tiny_dataset: Path, out_dir: Path, flag: str
) -> None:
    before = states(out_dir)
    stopped = run(tiny_dataset, out_dir, flag)
    assert stopped.status == 2
    assert f"{flag.split('=')[0]} was" in stopped.stderr
    assert "Nothing was started, and nothing was changed." in stopped.stderr
    assert "--overwrite" in stopped.stderr
    assert states(out_dir) == before


def test_another_seed_starts_from_the_cams_of_the_first(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    first = copy_run(finished_run.out_dir, tmp_path / "first")
    flags = ["--seed=6", "--bes_backbone=pretrained"]
    for name in ("cam_out_dir", "cam_vis_dir", "boundary_label_dir"):
        folder = name.removesuffix("_dir").removesuffix("_out")
        flags.append(f"--{name}={first / folder}")
    before = states(first)
    refused = run(tiny_dataset, tmp_path / "second", *flags)
    assert refused.status == 2
    remedy = ["--train_cam_pass", "no", "--make_cam_pass", "no"]
    assert f"to use the existing results as they are: {' '.join(remedy)}\n" in refused.stderr
    second = run(tiny_dataset, tmp_path / "second", *flags, *remedy)
    assert second.status == 0, second.stderr
    assert states(first) == before
    scores = scores_of(second.out_dir)
    assert scores["eval_sem_seg"]["images"] == 8
    assert scores["eval_cam"]["iou"] == scores_of(first)["eval_cam"]["iou"]


def test_a_changed_threshold_of_the_scores_scores_again(tiny_dataset: Path, out_dir: Path) -> None:
    before, at_first = contents(out_dir), scores_of(out_dir)["eval_cam"]
    curve = dict(zip(at_first["curve"]["threshold"], at_first["curve"]["miou"], strict=True))
    assert run(tiny_dataset, out_dir, "--cam_eval_thres=0.4").status == 0
    assert contents(out_dir) == before
    again = scores_of(out_dir)["eval_cam"]
    assert again["threshold"] == 0.4
    assert again["miou"] == curve[0.4] != at_first["miou"] == curve[0.21]
    assert again["best"] == at_first["best"]


def test_overwrite_redoes_what_changed_and_a_plain_start_then_has_nothing_to_do(
    tiny_dataset: Path, out_dir: Path
) -> None:
    before = contents(out_dir)
    flags = ["--beta=10", "--sem_seg_bg_thres=0.3"]
    steps = "--steps=make_walk,eval_walk,make_sem_seg,eval_sem_seg"
    redo = run(tiny_dataset, out_dir, *flags, "--overwrite", steps)
    assert redo.status == 0
    after = contents(out_dir)
    changed = {name for name, data in after.items() if data != before[name]}
    results = {name for name in changed if not name.endswith("settings.json")}
    assert {Path(name).parent.name for name in results} == {"walk", "sem_seg"}
    # A power of the affinity changes every walk, but that of a CAM without any activation.
    assert len({f"walk/{i}.npy" for i in IDS} & results) >= 6
    assert changed - results == {"walk/settings.json", "sem_seg/settings.json"}
    done = states(out_dir)
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert states(out_dir) == done


@pytest.mark.slow
def test_overwrite_with_the_same_settings_makes_the_same_files(
    tiny_dataset: Path, out_dir: Path
) -> None:
    before, old = contents(out_dir), states(out_dir)
    assert run(tiny_dataset, out_dir, "--overwrite=all").status == 0
    assert contents(out_dir) == before
    kept = {name for name, state in states(out_dir).items() if old[name] == state}
    records = {name for name in before if name.endswith("settings.json")}
    assert {name for name in kept if not name.startswith("panels/")} <= {"tags.npz", *records}
    done = states(out_dir)
    assert run(tiny_dataset, out_dir).status == 0
    assert states(out_dir) == done


def test_overwrite_checks_its_inputs_before_it_deletes_anything(
    own_dataset: Path, out_dir: Path
) -> None:
    (own_dataset / "JPEGImages" / f"{IDS[3]}.jpg").unlink()
    before = states(out_dir)
    assert run(own_dataset, out_dir, "--overwrite").status == 2
    assert states(out_dir) == before


def test_a_changed_saliency_map_is_noticed(own_dataset: Path, out_dir: Path) -> None:
    path = own_dataset / "Sal" / f"{IDS[0]}.png"
    Image.fromarray(255 - read(path)).save(path)
    before = states(out_dir)
    stopped = run(own_dataset, out_dir)
    assert stopped.status == 2
    assert "the saliency maps of 1 image changed" in stopped.stderr
    assert states(out_dir) == before


def test_changed_weights_are_noticed_by_what_was_made_from_them(
    tiny_dataset: Path, out_dir: Path
) -> None:
    assert run(tiny_dataset, out_dir, "--seed=6", "--steps=train_cam", "--overwrite").status == 0
    stopped = run(tiny_dataset, out_dir, "--steps=make_cam,make_boundary_label")
    assert stopped.status == 2
    assert "make_cam: the classifier's weights changed (--seed was 5, is 6)" in stopped.stderr


def test_masks_of_a_second_list_go_beside_those_of_the_first(
    tiny_dataset: Path, out_dir: Path
) -> None:
    before = states(out_dir / "sem_seg")
    flags = ["--infer_list=val", "--chainer_eval_set=val"]
    assert run(tiny_dataset, out_dir, *flags).status == 0
    after = states(out_dir / "sem_seg")
    assert {n for n in before if after[n] != before[n]} == {"settings.json"}
    assert after.keys() - before.keys() == {f"{i}{s}.png" for i in VAL_IDS for s in ("", "_crf")}
    assert scores_of(out_dir)["eval_sem_seg"]["images"] == 3


def test_overwrite_keeps_the_masks_of_other_lists_only_if_they_were_made_alike(
    tiny_dataset: Path, out_dir: Path
) -> None:
    steps = "--steps=make_cam,make_walk,make_sem_seg"
    run(tiny_dataset, out_dir, "--infer_list=val", steps)
    of_train, of_val = (out_dir / "sem_seg" / f"{i[0]}.png" for i in (IDS, VAL_IDS))
    old = of_train.stat().st_ino
    assert run(tiny_dataset, out_dir, "--infer_list=val", steps, "--overwrite").status == 0
    assert of_train.stat().st_ino == old
    flags = ["--infer_list=val", "--beta=10", "--overwrite", "--steps=make_walk,make_sem_seg"]
    assert run(tiny_dataset, out_dir, *flags).status == 0
    assert of_val.exists()
    assert not of_train.exists()


def test_a_partial_run_keeps_what_other_steps_said(tiny_dataset: Path, out_dir: Path) -> None:
    before = scores_of(out_dir)
    partial = run(
        tiny_dataset, out_dir, "--steps=eval_cam", "--cam_eval_thres=0.1", "--eval_classes=cat,dog"
    )
    assert partial.status == 0
    after = scores_of(out_dir)
    assert after["eval_cam"]["threshold"] == 0.1
    for step in ("train_cam", "make_cam", "train_bes", "make_sem_seg", "eval_sem_seg"):
        assert after[step] == before[step]
    rows = partial.stdout.strip().splitlines()[2:]
    assert [row.split()[0] for row in rows[: rows.index("")]] == ["eval_cam"]
    assert "chosen classes" in rows[0]


@pytest.mark.slow
def test_runs_are_identical_to_the_byte_also_a_few_steps_at_a_time_in_other_processes(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ("train_cam,make_cam", "make_boundary_label,train_bes", "make_walk,make_sem_seg")
    for number, steps in enumerate(parts):
        monkeypatch.setenv("PYTHONHASHSEED", str(number))
        process = start(["run_sample.py", *arguments(tiny_dataset, tmp_path, f"--steps={steps}")])
        stderr = process.communicate(timeout=300)[1]
        assert process.returncode == 0, stderr
    assert contents(tmp_path) == contents(finished_run.out_dir)


def test_without_saliency_it_is_bes(
    tiny_dataset: Path, finished_run: Run, out_dir: Path, tmp_path: Path
) -> None:
    bes = tmp_path / "bes"
    flags = [f"--boundary_label_dir={bes}/label", f"--bes_weights_name={bes}/bes.pth",
             f"--walk_out_dir={bes}/walk", f"--sem_seg_out_dir={bes}/sem_seg",
             "--saliency=none"]  # fmt: skip
    os.rename(tiny_dataset / "Sal", tiny_dataset / "Hidden")
    try:
        assert run(tiny_dataset, out_dir, *flags).status == 0
    finally:
        os.rename(tiny_dataset / "Hidden", tiny_dataset / "Sal")
    for image_id in IDS:
        codes = set(np.unique(read(bes / "label" / f"{image_id}.png")))
        assert codes <= {0, 50, 100, 150, 200}
    weights = (folder.read_bytes() for folder in (bes / "bes.pth", out_dir / "weights/bes.pth"))
    assert len({*weights}) == 2
    record = json.loads((bes / "bes.pth.json").read_text())
    assert "the saliency maps" not in record["inputs"]
    losses = [
        scores_of(out_dir)["train_bes"]["loss"],
        scores_of(finished_run.out_dir)["train_bes"]["loss"],
    ]
    assert losses[0] != losses[1]
    with_saliency = (read(out_dir / "boundary_label" / f"{i}.png") for i in IDS)
    assert any(250 in codes for codes in with_saliency)
