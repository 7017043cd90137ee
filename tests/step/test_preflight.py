"""What is wrong with the inputs is said at once, with path and remedy, before anything is made."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from misc.untrusted import safe_load
from tests.helpers.given import BACKBONE, given_flags
from tests.helpers.tiny import ARTEFACTS, Run, copy_dataset, copy_run, run

IDS = [f"2007_{number:06d}" for number in range(1, 9)]


@pytest.fixture
def voc(tiny_dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset to spoil."""
    return copy_dataset(tiny_dataset, tmp_path / "voc")


def write_list(voc: Path, split: str, *ids: str) -> Path:
    path = voc / "ImageSets" / "Segmentation" / f"{split}.txt"
    path.write_text("".join(f"{image_id}\n" for image_id in ids), encoding="utf-8")
    return path


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shrink(path: Path) -> None:
    with Image.open(path) as picture:
        smaller = picture.resize((10, 12), Image.Resampling.NEAREST)
    smaller.save(path)


def as_kind(path: Path, kind: str) -> None:
    """The picture in another format, under its name."""
    with Image.open(path) as picture:
        gray = picture.convert("L")
    gray.save(path, kind)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def said(stopped: Run) -> str:
    """What a refused run said; it made nothing."""
    assert stopped.status == 2
    assert "Traceback" not in stopped.stderr
    assert not any((stopped.out_dir / name).exists() for name in ARTEFACTS)
    assert not list(stopped.out_dir.rglob("*.partial"))
    return stopped.stderr


@pytest.mark.parametrize(
    ("spoil", "file", "message"),
    [
        (Path.unlink, "JPEGImages/{}.jpg", "is missing"),
        (
            Path.unlink,
            "Sal/{}.png",
            "is missing.\n  -> Put maps of the images' sizes there, pass --sal_root",
        ),
        (Path.unlink, "Annotations/{}.xml", "or pass --tags_from masks"),
        (Path.unlink, "SegmentationClass/{}.png", "score another split with --chainer_eval_set"),
        (cut_off, "JPEGImages/{}.jpg", "is truncated. Replace the file"),
        (cut_off, "Sal/{}.png", "is truncated. Replace the file"),
        (cut_off, "Annotations/{}.xml", "is not valid XML"),
        (cut_off, "SegmentationClass/{}.png", "Replace the file"),
        (lambda path: path.write_bytes(b"words"), "JPEGImages/{}.jpg", "is not a readable picture"),
        (lambda path: path.write_bytes(b""), "Sal/{}.png", "is not a readable picture"),
        (lambda path: as_kind(path, "EPS"), "JPEGImages/{}.jpg", "not an intact JPEG or PNG"),
        (lambda path: as_kind(path, "TIFF"), "Sal/{}.png", "not an intact JPEG or PNG"),
        (lambda path: as_kind(path, "JPEG"), "SegmentationClass/{}.png", "not an intact PNG"),
        (as_pipe, "JPEGImages/{}.jpg", "it is not a regular file"),
        (shrink, "Sal/{}.png", "is 10x12, but"),
        (shrink, "SegmentationClass/{}.png", "is 10x12, but"),
    ],
)
def test_a_bad_file_is_named_with_a_remedy(
    voc: Path, tmp_path: Path, spoil: Callable[[Path], object], file: str, message: str
) -> None:
    path = voc / file.format(IDS[2])
    spoil(path)
    text = said(run(voc, tmp_path / "out"))
    assert str(path) in text
    assert message in text
    assert text.count(path.name) <= 2, "the same problem is said once"


def test_all_problems_of_all_steps_are_said_at_once(voc: Path, tmp_path: Path) -> None:
    (voc / "JPEGImages" / f"{IDS[0]}.jpg").unlink()
    (voc / "Sal" / f"{IDS[1]}.png").unlink()
    (voc / "Annotations" / f"{IDS[2]}.xml").unlink()
    shrink(voc / "SegmentationClass" / f"{IDS[3]}.png")
    text = said(run(voc, tmp_path / "out"))
    assert "4 problems, and nothing was started" in text
    for problem in (
        f"JPEGImages/{IDS[0]}.jpg", f"Sal/{IDS[1]}.png", f"Annotations/{IDS[2]}.xml",
        f"SegmentationClass/{IDS[3]}.png",
    ):  # fmt: skip
        assert problem in text


def test_many_problems_of_a_kind_are_cut_short(voc: Path, tmp_path: Path) -> None:
    ids = [f"bad{number}" for number in range(25)]
    write_list(voc, "train", *ids)
    for image_id in ids:
        (voc / "SegmentationClass" / f"{image_id}.png").write_bytes(b"words")
    text = said(run(voc, tmp_path / "out", "--steps=eval_sem_seg"))
    assert "bad9.png" in text
    assert "bad10.png" not in text
    assert "... and 15 more of them" in text
    assert "More than 11 problems, and nothing was started" in text
    assert text.count("Put masks of the images' sizes there") == 1


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("JPEGImages", "Photograph of 7 images (first: {}): {}.jpg is missing, and so are"),
        ("Sal", "Saliency map of 7 images (first: {}): {}.png is missing, and so are"),
        ("SegmentationClass", "Mask of 7 images (first: {}): {}.png is missing, and so are"),
        ("Annotations", "No tags {}.xml, nor for 9 other images. Put"),
    ],
)
def test_files_that_are_missing_are_one_problem(
    voc: Path, tmp_path: Path, folder: str, problem: str
) -> None:
    kept, *paths = sorted((voc / folder).iterdir())
    for path in paths if folder == "Annotations" else paths[:7]:
        path.unlink()
    gone = paths[0].with_suffix("")
    text = said(run(voc, tmp_path / "out"))
    assert problem.format(*[gone.name, gone][-problem.count("{}") :]) in text
    assert "1 problem, and nothing was started" in text
    assert kept.name not in text


def test_a_folder_that_is_missing_is_one_problem(voc: Path, tmp_path: Path) -> None:
    shutil.rmtree(voc / "Sal")
    text = said(run(voc, tmp_path / "out"))
    assert f"Saliency map of 8 images (first: {IDS[0]}): there is no folder {voc}/Sal." in text
    assert "1 problem, and nothing was started" in text
    assert text.count("Saliency map of") == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "train_aug.txt is empty"),
        ([*IDS, "2099_000001"], "2099_000001.jpg is missing"),
        ([*IDS, IDS[0]], f"names {IDS[0]} twice"),
        (["a", "a_crf"], "would have the same name (a_crf.png). Rename one of the images"),
        (["a/b"], "'a/b' cannot be part of a file name"),
        (["..\\b"], "cannot be part of a file name"),
    ],
)
def test_a_bad_list_is_named(voc: Path, tmp_path: Path, lines: list[str], message: str) -> None:
    write_list(voc, "train_aug", *lines)
    assert message in said(run(voc, tmp_path / "out"))


def test_ids_that_clash_between_two_lists_are_refused(voc: Path, tmp_path: Path) -> None:
    write_list(voc, "mine", f"{IDS[0]}_crf")
    assert "would have the same name" in said(run(voc, tmp_path / "out", "--infer_list=mine"))


def test_a_list_that_is_not_there_is_named(voc: Path, tmp_path: Path) -> None:
    text = said(run(voc, tmp_path / "out", "--infer_list=test"))
    assert f"No list {voc}/ImageSets/Segmentation/test.txt" in text


def test_too_little_disk_space_is_said_before_anything_is_written(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=10**6))
    text = said(run(voc, tmp_path / "out"))
    assert "the classifier's weights and the state of their training need" in text
    assert "Free some space or choose another --cam_weights_name" in text


def spoil_cams(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what a CAM file holds."""
    record = safe_load(path)
    change(record)
    np.save(path, np.array(record, object), allow_pickle=True)


def put_nan(record: dict[str, Any]) -> None:
    record["high_res"][0, 5, 5] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put_nan, "NaN"),
        (lambda record: record.update(high_res=record["high_res"][0]), "not maps"),
        (lambda record: record.update(keys=record["keys"] + 20), "unknown class"),
        (lambda record: record.update(keys=torch.arange(5)), "channels for 5 keys"),
        (lambda record: record.update(high_res=record["high_res"][:, 1:]), "needs"),
    ],
)
def test_a_bad_cam_is_named_before_anything_starts(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path, change: Any, message: str
) -> None:
    theirs = tmp_path / "cams"
    shutil.copytree(finished_run.out_dir / "cam", theirs, ignore=lambda *_: ["settings.json"])
    spoil_cams(theirs / f"{IDS[2]}.npy", change)
    flags = [f"--cam_out_dir={theirs}", "--bes_backbone=pretrained"]
    text = said(run(tiny_dataset, tmp_path / "out", *flags))
    assert text.count(str(theirs / f"{IDS[2]}.npy")) == 1, "one problem, said once"
    assert text.count("1 problem, and nothing was started") == 1
    assert message in text


def test_cams_that_are_missing_or_unreadable_are_named_before_anything_starts(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    theirs = tmp_path / "cams"
    shutil.copytree(finished_run.out_dir / "cam", theirs, ignore=lambda *_: ["settings.json"])
    cut_off(theirs / f"{IDS[3]}.npy")
    flags = [f"--cam_out_dir={theirs}", "--bes_backbone=pretrained"]
    text = said(run(tiny_dataset, tmp_path / "out", *flags))
    assert f"{theirs / IDS[3]}.npy is not read: it is truncated" in text
    (theirs / f"{IDS[2]}.npy").unlink()
    text = said(run(tiny_dataset, tmp_path / "out", *flags))
    assert (
        f"{theirs} holds files that you put there, but lacks 1 image ({IDS[2]}) of the lists"
        in text
    )
    assert "2 problems, and nothing was started" in text


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("make_cam", "cam.pth. Run train_cam, or choose others with --cam_weights_name"),
        ("make_boundary_label", "lacks the CAMs of 8 images (first: 2007_000001)"),
        ("train_bes", "Run make_boundary_label for them, or choose another --boundary_label_dir"),
        (
            "make_sem_seg",
            "lacks the walked scores of 8 images (first: 2007_000001). Put them there, "
            "run make_walk, or choose another --walk_out_dir",
        ),
        ("make_walk", "bes.pth. Run train_bes, or choose others with --bes_weights_name"),
        ("eval_cam", "Put them there, run make_cam, or choose another --cam_out_dir"),
        ("eval_sem_seg", "Run make_sem_seg for them, or choose another --sem_seg_out_dir"),
    ],
)
def test_a_step_that_lacks_an_earlier_one_names_it(
    tiny_dataset: Path, tmp_path: Path, steps: str, message: str
) -> None:
    assert message in said(run(tiny_dataset, tmp_path / "out", f"--steps={steps}"))


def test_a_mask_with_an_unknown_class_is_named(
    voc: Path, finished_run: Run, tmp_path: Path
) -> None:
    path = voc / "SegmentationClass" / f"{IDS[1]}.png"
    with Image.open(path) as picture:
        mask = np.array(picture)
    mask[:3] = 77
    Image.fromarray(mask).save(path)
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    for step in ("eval_cam", "eval_sem_seg"):
        stopped = run(voc, out_dir, f"--steps={step}")
        assert stopped.status == 2
        assert f"{path} shows class 77, but there are 20." in stopped.stderr


@pytest.mark.parametrize("folder", ["boundary_label", "sem_seg"])
def test_a_strangers_unfinished_folder_is_refused_and_left_alone(
    tiny_dataset: Path, tmp_path: Path, folder: str
) -> None:
    theirs = tmp_path / "out" / folder / f"{IDS[0]}.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    stopped = run(tiny_dataset, tmp_path / "out", "--overwrite")
    assert stopped.status == 2
    assert f"{theirs.parent} holds files that you put there" in stopped.stderr
    assert f"choose another --{folder}_" in stopped.stderr
    assert theirs.read_bytes() == b"theirs"
    assert not (tmp_path / "out" / "weights").exists()


def test_a_damaged_record_is_named(tiny_dataset: Path, finished_run: Run, tmp_path: Path) -> None:
    out_dir = copy_run(finished_run.out_dir, tmp_path / "out")
    record = out_dir / "sem_seg" / "settings.json"
    record.unlink()
    record.write_text("{")
    stopped = run(tiny_dataset, out_dir)
    assert stopped.status == 2
    assert f"{record} is not valid JSON" in stopped.stderr


def test_weights_of_another_network_are_refused_by_name(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    # The reference loads them with strict=False: what does not fit stays random, silently.
    theirs = tmp_path / "bes.pth"
    shutil.copy(finished_run.out_dir / "weights" / "bes.pth", theirs)
    flags = [f"--cam_weights_name={theirs}", "--steps=make_cam"]
    stopped = run(tiny_dataset, tmp_path / "out", *flags)
    assert stopped.status == 2
    assert "do not fit CamClassifier" in stopped.stderr


READS = {
    "train_cam": (),
    "make_cam": ("cam_weights_name",),
    "make_boundary_label": ("cam_out_dir",),
    "train_bes": ("cam_weights_name", "boundary_label_dir"),
    "make_walk": ("cam_out_dir", "bes_weights_name"),
    "make_sem_seg": ("walk_out_dir",),
    "train_seg": (),
    "make_seg": ("seg_weights_name",),
    "eval_cam": ("cam_out_dir",),
    "eval_walk": ("walk_out_dir",),
    "eval_sem_seg": ("sem_seg_out_dir",),
    "eval_refined": ("refined_out_dir",),
}
"""Step -> flags of what it reads besides the dataset."""
OF_TRAIN, OF_VAL = IDS[2], "2007_000010"


@pytest.mark.parametrize(
    ("step", "file"),
    [
        *((step, f"JPEGImages/{OF_TRAIN}.jpg") for step in READS if step[:4] in ("make", "trai")),
        ("train_cam", f"JPEGImages/{OF_VAL}.jpg"),
        ("train_seg", f"JPEGImages/{OF_VAL}.jpg"),
        ("train_seg", f"SegmentationClass/{OF_TRAIN}.png"),
        ("train_seg", f"SegmentationClass/{OF_VAL}.png"),
        ("make_boundary_label", f"Sal/{OF_TRAIN}.png"),
        ("train_bes", f"Sal/{OF_TRAIN}.png"),
        ("make_sem_seg", f"Sal/{OF_TRAIN}.png"),
        *((step, f"SegmentationClass/{OF_TRAIN}.png") for step in READS if step[:4] == "eval"),
    ],
)
def test_each_step_alone_looks_at_what_it_reads(
    voc: Path, given: Path, tmp_path: Path, step: str, file: str
) -> None:
    cut_off(voc / file)
    flags = [f"--steps={step}", f"--backbone={BACKBONE}", *given_flags(given, *READS[step])]
    flags += [f"--seg_backbone={BACKBONE}", "--seg_init=none", "--seg_label_dir=gt"]
    flags += ["--make_seg_split=train", "--sem_seg_rule=saliency" if "Sal" in file else ""]
    text = said(run(voc, tmp_path / "out", *filter(None, flags)))
    assert str(voc / file) in text
    assert "nothing was started" in text
