"""The report of a tiny run: made at its end, made again only where something changed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from step.report import gallery
from step.report.page import folder_problems
from step.score import main as score
from tests.helpers.segmentation import run_seg
from tests.helpers.tiny import Run, copy_dataset, copy_run, run, scores_of, states

REPORT = "--steps=report"
LAYERS = ["photo", "cam", "saliency", "label", "boundary", "walk", "mask", "mask_crf", "exact"]
IDS = [f"2007_{number:06d}" for number in range(1, 9)]


def report_in(out_dir: Path) -> dict[str, Any]:
    return json.loads((out_dir / "report" / "report.json").read_text())


@pytest.fixture(scope="module")
def reported(
    finished_run: Run, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A copy of the finished run with its report; only look at it."""
    out_dir = copy_run(finished_run.out_dir, tmp_path_factory.mktemp("reported") / "out")
    done = run(tiny_dataset, out_dir, REPORT, "--report=yes")
    assert done.status == 0, done.stderr
    return done


@pytest.fixture
def out_dir(reported: Run, tmp_path: Path) -> Path:
    """A copy of it to work on: with the same files, so that its pictures are current."""
    return copy_run(reported.out_dir, tmp_path / "out")


def test_the_report_is_one_folder(reported: Run) -> None:
    folder = reported.out_dir / "report"
    assert sorted(path.name for path in folder.iterdir()) == [
        "gallery", "index.html", "report.css", "report.js", "report.json",
    ]  # fmt: skip
    for layer in LAYERS:
        suffix = "jpg" if layer == "photo" else "png"
        names = sorted(path.name for path in (folder / "gallery" / layer).iterdir())
        assert names == [f"{image_id}.{suffix}" for image_id in IDS]


def test_its_numbers_are_those_of_the_scores(reported: Run) -> None:
    facts, scores = report_in(reported.out_dir), scores_of(reported.out_dir)
    rows = {row["key"]: row for row in facts["scores"]}
    assert list(rows) == ["eval_cam", "eval_walk", "eval_sem_seg"]
    assert rows["eval_sem_seg"]["name"] == "SBE"
    for name in ("miou", "miou_crf", "iou", "iou_crf", "fp_foreground"):
        assert rows["eval_sem_seg"][name] == scores["eval_sem_seg"][name]
    assert rows["eval_cam"]["miou"] == scores["eval_cam"]["best"]["miou"]
    assert facts["confusion"]["miou"] == pytest.approx(scores["eval_sem_seg"]["miou_crf"])
    curves = {curve["key"]: curve for curve in facts["thresholds"]}
    assert curves["eval_cam"]["miou"] == scores["eval_cam"]["curve"]["miou"]
    assert curves["eval_walk"]["chosen"] == {
        "threshold": 0.21, "miou": scores["eval_walk"]["miou"]
    }  # fmt: skip


def test_every_image_is_in_it_the_worst_first(reported: Run) -> None:
    gallery = report_in(reported.out_dir)["gallery"]
    assert [layer["key"] for layer in gallery["layers"]] == LAYERS
    assert gallery["main"] == "mask_crf"
    assert sorted(each["id"] for each in gallery["images"]) == IDS
    iou = [each["iou"]["mask_crf"] for each in gallery["images"]]
    assert iou == sorted(iou)


def test_it_tells_what_was_run(reported: Run) -> None:
    facts = report_in(reported.out_dir)
    head = facts["head"]
    assert "run_sample.py" in head["command"]
    assert head["seeds"] == [5]
    assert head["machine"]["device"] == "cpu"
    steps = {step["name"]: step for step in facts["steps"]}
    assert steps["make_sem_seg"]["state"] == "current"
    assert steps["make_sem_seg"]["seconds"] > 0
    assert steps["train_seg"]["state"] == "missing"
    assert facts["card"]["seeds"] == "5"
    assert facts["problems"] == []


def test_the_curves_of_the_trainings_are_shown(reported: Run) -> None:
    curves = {curve["name"]: curve for curve in report_in(reported.out_dir)["training"]}
    assert list(curves) == ["cam", "bes"]
    assert curves["cam"]["update"] == [1, 2, 3, 4]
    assert all(loss > 0 for loss in curves["bes"]["loss"])
    page = (reported.out_dir / "report" / "index.html").read_text()
    assert page.count(">update</text>") == 4  # loss and rate of two networks


def test_nothing_is_made_twice(tiny_dataset: Path, out_dir: Path) -> None:
    gallery = out_dir / "report" / "gallery"
    run(tiny_dataset, out_dir, REPORT, "--report=yes")  # links have changed the originals' times
    before = states(gallery)
    done = run(tiny_dataset, out_dir, REPORT, "--report=yes")
    assert "0 pictures made" in done.stdout
    changed = {name for name, state in states(gallery).items() if state != before[name]}
    assert changed == {"entries-0.js"}


def test_only_what_changed_is_made_again(tiny_dataset: Path, out_dir: Path) -> None:
    run(tiny_dataset, out_dir, REPORT, "--report=yes")
    path = out_dir / "sem_seg" / f"{IDS[2]}_crf.png"
    exact = tiny_dataset / "SegmentationClass" / f"{IDS[2]}.png"
    path.unlink()
    shutil.copy(exact, path)  # a perfect mask
    done = run(tiny_dataset, out_dir, REPORT, "--report=yes")
    assert "1 pictures made" in done.stdout
    (image,) = (e for e in report_in(out_dir)["gallery"]["images"] if e["id"] == IDS[2])
    assert image["iou"]["mask_crf"] == 1
    assert (image["missed"], image["too_large"], image["confused"]) == ([], [], [])


def test_pictures_of_images_that_left_the_list_go(
    tiny_dataset: Path, out_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "few.txt").write_text("\n".join(IDS[:3]) + "\n")
    flags = [f"--chainer_eval_set={tmp_path / 'few.txt'}", "--report=yes"]
    assert run(tiny_dataset, out_dir, REPORT, *flags).status == 0
    photographs = out_dir / "report" / "gallery" / "photo"
    assert sorted(path.stem for path in photographs.iterdir()) == IDS[:3]


@pytest.mark.parametrize(
    "content", ["torn", "[]", '{"images": []}', '{"images": {"2007_000001": {"made": 3}}}']
)
def test_a_damaged_record_is_made_again(tiny_dataset: Path, out_dir: Path, content: str) -> None:
    record = out_dir / "report" / "gallery" / "made.json"
    record.unlink()
    record.write_text(content)
    done = run(tiny_dataset, out_dir, REPORT, "--report=yes")
    assert done.status == 0, done.stderr
    assert sorted(json.loads(record.read_text())["images"]) == IDS


def test_a_run_that_is_killed_leaves_a_folder_that_the_next_one_takes(
    tiny_dataset: Path, out_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(out_dir / "report")
    problems: list[str] = []
    make = gallery._made

    def made(*given: Any) -> Any:
        problems.extend(folder_problems(out_dir / "report"))
        assert (out_dir / "report").exists()
        return make(*given)

    monkeypatch.setattr(gallery, "_made", made)
    assert run(tiny_dataset, out_dir, REPORT, "--report=yes").status == 0
    assert problems == []


def test_a_record_of_a_stranger_deletes_nothing_outside(tiny_dataset: Path, out_dir: Path) -> None:
    record = out_dir / "report" / "gallery" / "made.json"
    content = json.loads(record.read_text())
    (out_dir / "mine.png").write_bytes(b"mine")
    made = {"size": [1, 1], "made": {"cam": "", "..": ""}, "cells": {}}
    content["images"] |= {"../../../mine": made, "mine": {**made, "made": {"../..": ""}}}
    record.unlink()
    record.write_text(json.dumps(content))
    assert run(tiny_dataset, out_dir, REPORT, "--report=yes").status == 0
    assert (out_dir / "mine.png").read_bytes() == b"mine"


def test_a_small_picture_is_small_and_has_the_colours_of_the_mask(reported: Run) -> None:
    path = reported.out_dir / "report" / "gallery" / "exact" / f"{IDS[0]}.png"
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert max(picture.size) <= 256
        opacity = {alpha for _, (*_, alpha) in picture.convert("RGBA").getcolors()}
    assert opacity == {0, 255}


def test_every_run_ends_with_it_unless_told_otherwise(tiny_dataset: Path, out_dir: Path) -> None:
    shutil.rmtree(out_dir / "report")
    quiet = run(tiny_dataset, out_dir, "--steps=eval_sem_seg", "--report=no")
    assert quiet.status == 0
    assert not (out_dir / "report").exists()
    done = run(tiny_dataset, out_dir, "--steps=eval_sem_seg", "--report=yes")
    assert (out_dir / "report" / "index.html").exists()
    assert str(out_dir / "report") in done.stdout
    assert "Nothing to do." in done.stderr
    assert run(tiny_dataset, out_dir, "--from=eval_sem_seg", "--report=yes").status == 0


def test_nothing_of_it_stands_in_the_scores(reported: Run) -> None:
    assert "report" not in scores_of(reported.out_dir)
    assert json.loads((reported.out_dir / "run.json").read_text())["steps"]["report"]["seconds"] > 0


def test_a_folder_of_somebody_else_is_refused_before_anything_is_written(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "out" / "report" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = run(tiny_dataset, tmp_path / "out", "--report=yes")
    assert done.status == 2
    assert "not a report of ours" in done.stderr
    assert "--report no" in done.stderr
    assert mine.read_text() == "mine"
    assert not (tmp_path / "out" / "weights").exists()


def test_what_cannot_be_read_is_told_and_the_rest_is_shown(
    tiny_dataset: Path, out_dir: Path
) -> None:
    path = out_dir / "cam" / f"{IDS[0]}.npy"
    path.unlink()
    path.write_bytes(b"no CAM")
    (out_dir / "sem_seg" / "card.json").write_text("no card")
    (out_dir / "weights" / "bes.curve.csv").unlink()
    (out_dir / "weights" / "bes.curve.csv").write_text("no\ncurve\n")
    (out_dir / "benchmark").mkdir()
    (out_dir / "benchmark" / "benchmark.json").write_text('{"images": 3, "best": [{}]}')
    done = run(tiny_dataset, out_dir, REPORT, "--report=yes")
    assert done.status == 0, done.stderr
    facts = report_in(out_dir)
    named = (str(path), "card.json", "bes.curve.csv", "benchmark.json is no record of a benchmark")
    assert len(facts["problems"]) == len(named)
    for words, problem in zip(named, facts["problems"], strict=True):
        assert words in problem
    assert [curve["name"] for curve in facts["training"]] == ["cam"]
    (image,) = (e for e in facts["gallery"]["images"] if e["id"] == IDS[0])
    assert "cam" not in image["layers"]
    assert "walk" in image["layers"]


def test_a_run_without_the_usual_list_has_no_gallery_and_says_so(
    tiny_dataset: Path, out_dir: Path, tmp_path: Path
) -> None:
    voc = copy_dataset(tiny_dataset, tmp_path / "voc")
    (voc / "ImageSets" / "Segmentation" / "train.txt").unlink()
    done = run(voc, out_dir, REPORT, "--report=yes")
    assert done.status == 0, done.stderr
    facts = report_in(out_dir)
    assert facts["gallery"]["images"] == []
    assert "There is no gallery: " in facts["problems"][0]


def test_without_exact_masks_the_images_are_sorted_by_their_ids(
    finished_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    voc = copy_dataset(tiny_dataset, tmp_path / "voc")
    shutil.rmtree(voc / "SegmentationClass")
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    (out_dir / "scores.json").unlink()
    assert run(voc, out_dir, REPORT, "--report=yes").status == 0
    facts = report_in(out_dir)
    assert facts["gallery"]["main"] == ""
    assert [each["id"] for each in facts["gallery"]["images"]] == IDS
    assert facts["gallery"]["images"][0]["iou"] == {}
    assert (facts["scores"], facts["confusion"]) == ([], None)


def test_benchmark_and_boundary_quality_are_shown_where_they_were_measured(
    tiny_dataset: Path, out_dir: Path
) -> None:
    grid = ["--benchmark_act_thres=0:0.5:2", "--benchmark_sal_thres=0.2"]
    flags = ["--steps=benchmark", *grid, "--benchmark_choose_images=0", "--report=no"]
    assert run(tiny_dataset, out_dir, *flags).status == 0
    masks, to = out_dir / "sem_seg", out_dir / "quality"
    words = [str(masks), f"--data_root={tiny_dataset}", "--split=train", f"--to={to}"]
    assert score([*words, "--num_workers=0"]) == 0
    assert run(tiny_dataset, out_dir, REPORT, "--report=yes", *grid).status == 0
    facts = report_in(out_dir)
    measured = json.loads((to / "score.json").read_text())
    assert facts["boundary"][0]["boundary_f"] == measured["boundary_f"]
    best = json.loads((out_dir / "benchmark" / "benchmark.json").read_text())["best"]
    assert [row["miou"] for row in facts["benchmark"]["best"]] == [
        row["miou"] for row in best if not row["ignore"]
    ]
    copied = out_dir / "report" / "benchmark"
    assert sorted(path.name for path in copied.iterdir()) == [
        "classes.svg", "heat_map.svg", "thresholds.svg",
    ]  # fmt: skip


def test_seeds_of_the_segmentation_network_have_a_mean_and_a_spread(
    segmented: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    out_dir = copy_run(segmented.out_dir, tmp_path / "out")
    flags = ["--seg_seeds=0,1", "--eval_classes=cat,cow", REPORT, "--report=yes"]
    assert run_seg(tiny_dataset, out_dir, *flags).status == 0
    facts, scores = report_in(out_dir), scores_of(out_dir)["eval_seg"]
    last, best = (row for row in facts["scores"] if row["key"] == "eval_seg")
    assert (last["miou"], last["miou_std"]) == (
        scores["last"]["miou"]["mean"], scores["last"]["miou"]["std"],
    )  # fmt: skip
    assert last["seeds"] == [0, 1]
    assert best["miou_chosen"] == scores["best"]["miou_chosen"]["mean"]
    assert facts["head"]["seeds"] == [0, 1, 5]
    assert [curve["name"] for curve in facts["validation"]] == ["seg_seed0", "seg_seed1"]
    assert facts["validation"][0]["update"] == [2, 4]


def test_the_boundary_that_was_walked_on_is_a_picture(
    finished_run: Run, tiny_dataset: Path
) -> None:
    folder = finished_run.out_dir / "walk" / "boundary"
    assert sorted(path.stem for path in folder.iterdir()) == IDS
    with Image.open(tiny_dataset / "JPEGImages" / f"{IDS[0]}.jpg") as photograph:
        width, height = photograph.size
    with Image.open(folder / f"{IDS[0]}.png") as picture:
        assert picture.mode == "L"
        assert picture.size == (-(-width // 4), -(-height // 4))
