"""Lists and tags from the command line: WSSS-BED's lists, and VOC 2012's own."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.images import write_palette_png
from tests.helpers.paths import ROOT
from tests.helpers.tiny import Run, copy_dataset, run
from voc12.files import VocDataset
from voc12.image_labels import class_ids_of, read_tags
from voc12.lists import read_list, shipped_list, split_ids


def write_tagged_list(root: Path, path: Path, *splits: str, tags_from: str = "xml") -> Path:
    """The images of these splits and their classes, as WSSS-BED writes them."""
    dataset = VocDataset.open(root)
    ids = [image_id for split in splits for image_id in split_ids(dataset, split)]
    tags = read_tags(dataset, ids, tags_from)
    lines = [" ".join([i, *(str(c - 1) for c in class_ids_of(tags[i]))]) for i in ids]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_list_of_wsss_beds_is_a_list_of_images_and_their_tags(
    tiny_dataset: Path, finished_run: Run, tmp_path: Path
) -> None:
    root = copy_dataset(tiny_dataset, tmp_path / "voc")
    both = write_tagged_list(root, tmp_path / "both.txt", "train", "val")
    listed = write_tagged_list(root, tmp_path / "train.txt", "train")
    for path in (root / "Annotations").iterdir():
        path.unlink()
    for name in ("train", "train_aug"):
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").unlink()
    flags = [f"--{flag}={listed}" for flag in ("train_list", "infer_list", "chainer_eval_set")]
    done = run(root, tmp_path / "out", *flags, f"--tags_from={both}", "--steps=train_cam,make_cam")
    assert done.status == 0, done.stderr
    made = sorted((done.out_dir / "cam").glob("*.npy"))
    assert len(made) == 8
    for path in made:
        assert path.read_bytes() == (finished_run.out_dir / "cam" / path.name).read_bytes()
    lacks = run(root, tmp_path / "none", *flags, f"--tags_from={listed}", "--steps=train_cam")
    assert lacks.status == 2
    assert f"{listed} has no tags for 3 images (first: 2007_000009). Add a line" in lacks.stderr


def test_a_list_without_classes_holds_no_tags(tiny_dataset: Path, tmp_path: Path) -> None:
    path = tiny_dataset / "ImageSets" / "Segmentation" / "train.txt"
    stopped = run(tiny_dataset, tmp_path / "out", f"--tags_from={path}", "--steps=train_cam")
    assert stopped.status == 2
    assert f"{path} names images, but not one class" in stopped.stderr


def test_tags_of_voc_differ_between_xml_and_wsss_beds_lists(
    shared_data: Path, tmp_path: Path
) -> None:
    dataset = VocDataset.open(shared_data / "voc12_animals")
    path = write_tagged_list(dataset.root, tmp_path / "bed.txt", "train_aug", tags_from="masks")
    ids = read_list(path, dataset)
    assert ids == split_ids(dataset, "train_aug")
    xml, listed = read_tags(dataset, ids, "xml"), read_tags(dataset, ids, str(path))
    assert all((xml[i] >= listed[i]).all() for i in ids)
    assert sum((xml[i] != listed[i]).any() for i in ids) == 14


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC 2012 as PASCAL's archive has it, by its files' names: all pictures are one."""
    root = tmp_path_factory.mktemp("pascal") / "VOC2012"
    folders = ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation")
    for folder in folders:
        (root / folder).mkdir(parents=True)
    one = root.parent
    Image.new("RGB", (8, 6)).save(one / "one.jpg")
    write_palette_png(one / "one.png", np.zeros((6, 8), np.uint8))
    (one / "one.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    train, val = read_list(shipped_list("train")), read_list(shipped_list("val"))
    for image_id in [*read_list(shipped_list("train_aug")), *val]:
        os.link(one / "one.jpg", root / "JPEGImages" / f"{image_id}.jpg")
        os.link(one / "one.xml", root / "Annotations" / f"{image_id}.xml")
    for image_id in [*train, *val]:
        os.link(one / "one.png", root / "SegmentationClass" / f"{image_id}.png")
    for name, ids in (("train", train), ("val", val), ("trainval", sorted([*train, *val]))):
        path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.write_text("".join(f"{image_id}\n" for image_id in ids))
    return root


def counts(planned: Run) -> dict[str, str]:
    assert planned.status == 0, planned.stderr
    rows = (line.split() for line in planned.stdout.splitlines())
    return {row[0]: row[-1] for row in rows if len(row) > 1 and row[-1].isdigit()}


@pytest.mark.slow
def test_voc_2012_as_unpacked_trains_on_all_of_train_aug(voc: Path, tmp_path: Path) -> None:
    planned = run(voc, tmp_path / "out", "--saliency=none", "--plan")
    found = counts(planned)
    assert found["train_cam"] == "10582"
    assert found["make_sem_seg"] == "1464"
    assert "train_aug.txt is missing: using the 10582 ids of VOC 2012" in planned.stderr


@pytest.mark.slow
def test_the_references_lists_are_found_from_anywhere(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {"train_aug_list": "train_aug", "infer_list": "val", "chainer_eval_set": "val"}
    flags = [f"--{flag}=voc12/{name}.txt" for flag, name in lists.items()]
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        found = counts(run(voc, tmp_path / "out", "--saliency=none", "--plan", *flags))
        assert (found["train_cam"], found["make_sem_seg"]) == ("10582", "1449")


def test_a_subset_of_voc_is_refused_the_lists_of_the_whole(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    stopped = run(tiny_dataset, tmp_path / "out", "--infer_list=voc12/train.txt")
    assert stopped.status == 2
    assert "JPEGImages/2007_000032.jpg is missing" in stopped.stderr
    assert "... and 1454 more images" in stopped.stderr
