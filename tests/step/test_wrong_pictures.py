"""Folders of other pictures, put where results or saliency maps belong: refused by flag."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.images import read_mask, write_palette_png
from tests.helpers.cam_writers import write_toco
from tests.helpers.segmentation import SEG_FLAGS
from tests.helpers.sets import all_ids
from tests.helpers.tiny import Run, copy_run, run

SEG = ["--seg_val_every=0", *(flag for flag in SEG_FLAGS if "label_dir" not in flag)]


@pytest.fixture(scope="module")
def pictures(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of pictures of all images, each once more as `_crf`."""
    root = tmp_path_factory.mktemp("pictures")
    for image_id in all_ids(tiny_dataset):
        mask = read_mask(tiny_dataset / "SegmentationClass" / f"{image_id}.png")
        photo = Image.open(tiny_dataset / "JPEGImages" / f"{image_id}.jpg").convert("L")
        soft = Image.open(tiny_dataset / "Sal" / f"{image_id}.png").convert("L")
        shown = {
            "saliency": np.asarray(soft),
            "binary": np.where(np.asarray(soft) > 127, 255, 0).astype(np.uint8),
            "photographs": np.asarray(photo),
            "masks": mask,
            "shifted": np.where((mask > 0) & (mask < 255), mask % 20 + 1, mask).astype(np.uint8),
        }
        for name, picture in shown.items():
            for suffix in ("", "_crf"):
                path = root / name / f"{image_id}{suffix}.png"
                path.parent.mkdir(exist_ok=True)
                write_palette_png(path, picture)
    return root


def refused(done: Run) -> str:
    """The last line of a run that was refused by one sentence, before anything was made."""
    assert done.status == 2
    assert "1 problem, and nothing was started" in done.stderr
    assert not done.out_dir.exists()
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "steps", "folder", "told"),
    [
        ("boundary_label_dir", "train_bes", "saliency", "which a boundary label does not"),
        ("boundary_label_dir", "train_bes", "masks", "it holds 0, 50, 100, 150, 200 and 250."),
        ("boundary_label_dir", "train_bes", "photographs", "So it is with 8 of 8 images."),
        ("cam_vis_dir", "make_boundary_label", "photographs", "a mask of 20 classes does not"),
        ("cam_vis_dir", "make_boundary_label", "binary", "masks of 0 of 8 images show a class"),
        ("sem_seg_out_dir", "eval_sem_seg", "photographs", "it holds 0 to 20 and 255."),
        ("sem_seg_out_dir", "eval_sem_seg", "binary", "Are these other pictures"),
        ("sem_seg_out_dir", "eval_sem_seg", "shifted", "or another numbering?"),
        ("refined_out_dir", "eval_refined", "binary", "the masks of 0 of 8 images"),
        ("seg_label_dir", "train_seg", "photographs", "a mask of 20 classes does not"),
        ("seg_label_dir", "train_seg", "binary", "the masks of 0 of 8 images show a class"),
        ("sal_root", "make_boundary_label", "masks", "masks of class ids, not saliency maps"),
    ],
)
def test_other_pictures_are_refused_in_the_plan(
    tiny_dataset: Path,
    finished_run: Run,
    pictures: Path,
    tmp_path: Path,
    flag: str,
    steps: str,
    folder: str,
    told: str,
) -> None:
    others = {
        "train_bes": ["--bes_backbone=pretrained"],
        "make_boundary_label": [f"--cam_out_dir={finished_run.out_dir / 'cam'}"],
        "train_seg": SEG,
    }.get(steps, [])
    done = run(
        tiny_dataset, tmp_path / "out", f"--steps={steps}", *others, f"--{flag}={pictures / folder}"
    )
    said = refused(done)
    assert str(pictures / folder) in said
    assert told in said
    assert f"hoose another --{flag}" in said


def test_what_belongs_there_is_taken(tiny_dataset: Path, pictures: Path, tmp_path: Path) -> None:
    taken = {
        "sem_seg_out_dir": ("masks", "eval_sem_seg"),
        "cam_vis_dir": ("masks", "make_boundary_label"),
        "sal_root": ("binary", "make_boundary_label"),
    }
    for flag, (folder, step) in taken.items():
        flags = [f"--steps={step}", f"--{flag}={pictures / folder}"]
        if flag == "sal_root":
            flags.append(f"--cam_vis_dir={pictures / 'masks'}")
        done = run(tiny_dataset, tmp_path / flag, *flags)
        assert done.status == 0, done.stderr
        assert "Warning" not in done.stderr


def test_masks_of_which_few_fit_are_taken_with_a_warning_in_plan_and_scores(
    tiny_dataset: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(pictures / "binary", folder)
    for image_id in all_ids(tiny_dataset)[:2]:
        for suffix in ("", "_crf"):
            shutil.copy(pictures / "masks" / f"{image_id}{suffix}.png", folder)
    flags = ["--steps=eval_sem_seg", f"--sem_seg_out_dir={folder}"]
    text = f"{folder}: the masks of 2 of 8 images show a class that their tags name."
    planned = run(tiny_dataset, tmp_path / "out", *flags, "--plan")
    assert f"Warning: {text}" in planned.stdout
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 0
    assert done.stderr.count(text) == 1
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    (warning,) = scores["eval_sem_seg"]["warnings"]
    assert warning.startswith(text)


def test_cams_of_other_images_are_refused_and_a_few_extra_classes_are_told(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    """Each image gets the CAMs of a class that its tags lack; then only one does."""
    cams, ids = tmp_path / "cams", all_ids(tiny_dataset)[:8]
    cams.mkdir()
    classes = {}
    for image_id in ids:
        mask = read_mask(tiny_dataset / "SegmentationClass" / f"{image_id}.png")
        classes[image_id] = sorted({*np.unique(mask).tolist()} - {0, 255})
        # Drawn by hand: no shift of the numbers explains them.
        other = (classes[image_id][0] * 7 + len(image_id) + int(image_id[-1])) % 20 + 1
        while other in classes[image_id] or other - 1 in classes[image_id]:
            other = other % 20 + 1
        write_toco(cams, image_id, [other - 1], np.full((1, *mask.shape), 0.5, np.float32))
    flags = ["--steps=eval_cam", f"--cam_out_dir={cams}"]
    said = refused(run(tiny_dataset, tmp_path / "out", *flags))
    assert f"{cams}: the CAMs of 8 of 8 images have classes that their tags lack" in said
    assert "Most of them lack what their tags name, too" in said
    for image_id in ids:
        maps = np.full((len(classes[image_id]), 96, 96), 0.5, np.float32)
        shape = read_mask(tiny_dataset / "SegmentationClass" / f"{image_id}.png").shape
        numbers = [c - 1 for c in classes[image_id]]
        write_toco(cams, image_id, numbers, np.resize(maps, (len(numbers), *shape)))
    extra = next(c for c in range(20) if c + 1 not in classes[ids[0]])
    numbers = sorted([*(c - 1 for c in classes[ids[0]]), extra])
    shape = read_mask(tiny_dataset / "SegmentationClass" / f"{ids[0]}.png").shape
    write_toco(cams, ids[0], numbers, np.full((len(numbers), *shape), 0.5, np.float32))
    done = run(tiny_dataset, tmp_path / "out", *flags)
    assert done.status == 0, done.stderr
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    (warning,) = scores["eval_cam"]["warnings"]
    assert "the CAMs of 1 of 8 images have classes that their tags lack" in warning
    planned = run(tiny_dataset, tmp_path / "out", *flags, "--overwrite", "all", "--plan")
    assert f"Warning: {warning}" in planned.stdout


@pytest.mark.parametrize("change", ["renamed", "extended"])
def test_class_names_are_inputs_of_what_uses_them(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, change: str
) -> None:
    from voc12.classes import VOC_CLASSES

    root = tmp_path / "voc"
    shutil.copytree(tiny_dataset, root)
    names = list(VOC_CLASSES)
    if change == "renamed":
        names[-1] = "screen"
    (root / "classes.txt").write_text("\n".join([*names, *["robot"] * (change == "extended")]))
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    planned = run(root, out_dir, "--plan").stdout
    for step in ("train_cam", "make_cam", "eval_cam", "eval_walk", "eval_sem_seg"):
        (line,) = [each for each in planned.splitlines() if each.startswith(f"{step} ")]
        assert "stale" in line
        assert "the class names changed" in " ".join(planned.split())
        assert "exact masks changed" not in line
    done = run(root, out_dir, "--steps=eval_sem_seg")
    assert done.status == 0, done.stderr
    scores = json.loads((out_dir / "scores.json").read_text())["eval_sem_seg"]
    assert list(scores["iou"]) == ["background", *names, *["robot"] * (change == "extended")]
