"""Datasets that are not VOC: their own classes, as few as five and as many as 254, and tags.csv."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.cam_files import Cams, read_cams, write_irn
from tests.helpers.drawn import SIZE, draw_boxes_dataset, draw_mask
from tests.helpers.segmentation import SEG_FLAGS
from tests.helpers.tiny import Run, run
from voc12.classes import VOC_CLASSES

KITCHEN = ("mug", "tea spoon", "kettle", "whisk", "salt, sea")
PIPELINE = (
    "--steps=train_cam,make_cam,eval_cam,make_boundary_label,train_bes,make_walk,make_sem_seg,"
    "eval_sem_seg"
)
BUSY = tuple(range(3, 75, 4))  # 18 classes


def scores_of(done: Run) -> dict[str, Any]:
    return json.loads((done.out_dir / "scores.json").read_text())


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitchen") / "data"
    shown = [[1], [2, 5], [3], [], [4, 1], [5], [2], [3, 4]]
    draw_boxes_dataset(root, KITCHEN, shown)
    return root


@pytest.fixture(scope="module")
def of_kitchen(kitchen: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every step on the five classes, the segmentation network's too, by the neutral flag."""
    flags = [f"--data_root={kitchen}", PIPELINE + ",train_seg,make_seg,eval_seg", *SEG_FLAGS]
    return run(kitchen, tmp_path_factory.mktemp("kitchen_run") / "out", *flags, "--panels=2")


def test_five_classes_go_through_every_step(of_kitchen: Run) -> None:
    assert of_kitchen.status == 0, of_kitchen.stderr
    scores = scores_of(of_kitchen)
    assert scores["train_cam"]["images"] == 12  # two epochs of all six
    of_seg = scores["eval_seg"]["runs"][0]  # after four updates it may find no class rightly
    for found in (scores["eval_cam"]["best"], scores["eval_sem_seg"], of_seg):
        assert list(found["iou"]) == ["background", *KITCHEN]
        assert found is of_seg or 0 < found["miou"] <= 1


def test_what_is_made_has_the_datasets_classes_and_no_others(
    of_kitchen: Run, kitchen: Path
) -> None:
    for image_id, present in (("photo 1", {0, 2, 5}), ("photo 3", {0})):
        cams = read_cams(of_kitchen.out_dir / "cam" / f"{image_id}.npy", SIZE, num_classes=5)
        assert {0, *cams.class_ids.tolist()} == present
        for name in ("cam_vis", "sem_seg"):
            mask = read(of_kitchen.out_dir / name / f"{image_id}.png")
            assert mask.shape == SIZE
            assert set(np.unique(mask).tolist()) <= present | {255}
    for path in (of_kitchen.out_dir / "seg").rglob("*.png"):
        assert read(path).max() <= 5


def test_nothing_that_is_said_or_written_names_a_class_of_voc(of_kitchen: Run) -> None:
    scores = (of_kitchen.out_dir / "scores.json").read_text()
    said = of_kitchen.stdout + of_kitchen.stderr + scores
    names = set(VOC_CLASSES) - {"train"}  # the name of a list, too
    assert not [name for name in names if f'"{name}"' in said or f" {name} " in said]
    assert (of_kitchen.out_dir / "panels" / "photo 0.png").exists()


def test_a_class_that_the_dataset_lacks_is_refused_with_those_it_has(
    kitchen: Path, of_kitchen: Run
) -> None:
    flags = ["--steps=eval_cam", "--eval_classes=cat"]
    stopped = run(kitchen, of_kitchen.out_dir, *flags)
    assert stopped.status == 2
    assert "Unknown class cat; the dataset has mug, tea spoon" in stopped.stderr


def test_an_image_without_a_line_in_the_table_is_named(kitchen: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(kitchen, root)
    table = root / "tags.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("photo 4", "photo four"))
    stopped = run(root, tmp_path / "out")
    assert stopped.status == 2
    assert f"{table} has no tags for 1 image (photo 4)" in stopped.stderr


def test_tags_from_a_named_table_and_the_same_by_itself_make_the_same_cams(
    kitchen: Path, of_kitchen: Run, tmp_path: Path
) -> None:
    flags = [f"--tags_from={kitchen / 'tags.csv'}", "--steps=train_cam,make_cam"]
    named = run(kitchen, tmp_path, *flags)
    assert named.status == 0, named.stderr
    for path in (tmp_path / "cam").glob("*.npy"):
        assert path.read_bytes() == (of_kitchen.out_dir / "cam" / path.name).read_bytes()


@pytest.fixture(scope="module")
def of_eighty(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """80 classes end to end, 18 of them in one image."""
    root = tmp_path_factory.mktemp("eighty") / "data"
    shown = [list(BUSY), [80], [1, 40], [79, 80], [7], [12, 60, 33]]
    draw_boxes_dataset(root, [f"thing {c}" for c in range(1, 81)], shown)
    out_dir = tmp_path_factory.mktemp("eighty_run") / "out"
    return run(root, out_dir, PIPELINE + ",train_seg,make_seg,eval_seg", *SEG_FLAGS)


def test_eighty_classes_go_through_every_step(of_eighty: Run) -> None:
    assert of_eighty.status == 0, of_eighty.stderr
    scores = scores_of(of_eighty)
    assert len(scores["eval_sem_seg"]["iou"]) == 81
    assert scores["eval_sem_seg"]["iou"]["thing 80"] is not None
    assert scores["eval_sem_seg"]["iou"]["thing 2"] is None
    assert scores["eval_seg"]["runs"][0]["iou"].keys() == scores["eval_sem_seg"]["iou"].keys()


def test_eighteen_classes_in_one_image_keep_their_ids(of_eighty: Run) -> None:
    cams = read_cams(of_eighty.out_dir / "cam" / "photo 0.npy", SIZE, num_classes=80)
    assert cams.class_ids.tolist() == list(BUSY)
    assert cams.high_res.shape == (18, *SIZE)
    for name in ("sem_seg/photo 0.png", "sem_seg/photo 0_crf.png", "cam_vis/photo 0.png"):
        classes = set(np.unique(read(of_eighty.out_dir / name)).tolist())
        assert classes <= {0, *BUSY, 255}


@pytest.mark.slow
def test_254_classes_fit_into_masks_scores_and_panels(tmp_path: Path) -> None:
    names = [f"kind {c}" for c in range(1, 255)]
    shown = [[254], [1, 253], [128]]
    ids = draw_boxes_dataset(tmp_path / "data", names, shown, num_val=1)
    cam_dir = tmp_path / "cams"
    cam_dir.mkdir()
    for image_id, classes in zip(ids, shown, strict=True):
        class_ids = np.array(sorted(classes), np.int64)
        high_res = (draw_mask(classes) == class_ids[:, None, None]).astype(np.float32)
        with open(cam_dir / f"{image_id}.npy", "wb") as file:
            write_irn(file, Cams(class_ids, np.ascontiguousarray(high_res[:, ::4, ::4]), high_res))
    flags = [f"--cam_out_dir={cam_dir}", "--bes_backbone=pretrained", "--panels=2"]
    steps = "--steps=eval_cam,make_boundary_label,train_bes,make_walk,make_sem_seg,eval_sem_seg"
    steps += ",train_seg,make_seg,eval_seg"
    done = run(tmp_path / "data", tmp_path / "out", *flags, steps, *SEG_FLAGS, "--seg_crf=no")
    assert done.status == 0, done.stderr
    scores = scores_of(done)
    assert scores["eval_cam"]["iou"]["kind 254"] == 1
    assert len(scores["eval_seg"]["runs"][0]["iou"]) == 255
    mask = read(tmp_path / "out" / "sem_seg" / f"{ids[0]}.png")
    assert {254} <= set(np.unique(mask).tolist()) <= {0, 254}
    assert (tmp_path / "out" / "panels" / f"{ids[0]}.png").exists()
