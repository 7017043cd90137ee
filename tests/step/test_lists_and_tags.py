"""Lists and tags from the command line: WSSS-BED's lists, and VOC 2012's own."""

from pathlib import Path

import pytest

from tests.helpers.pascal import images_to_do
from tests.helpers.paths import ROOT
from tests.helpers.tiny import Run, copy_dataset, run
from voc12.files import VocDataset
from voc12.image_labels import class_ids_of, read_tags
from voc12.lists import read_list, split_ids


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


@pytest.mark.slow
def test_voc_2012_as_unpacked_trains_on_all_of_train_aug(pascal_voc: Path, tmp_path: Path) -> None:
    planned = run(pascal_voc, tmp_path / "out", "--saliency=none", "--plan")
    found = images_to_do(planned)
    assert found["train_cam"] == 10_582
    assert found["make_sem_seg"] == 1464
    assert "train_aug.txt is missing: training on the 10582 ids of VOC 2012" in planned.stdout


@pytest.mark.slow
def test_the_references_lists_are_found_from_anywhere(
    pascal_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = {"train_aug_list": "train_aug", "infer_list": "val", "chainer_eval_set": "val"}
    flags = [f"--{flag}=voc12/{name}.txt" for flag, name in lists.items()]
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        found = images_to_do(run(pascal_voc, tmp_path / "out", "--saliency=none", "--plan", *flags))
        assert (found["train_cam"], found["make_sem_seg"]) == (10_582, 1449)


def test_a_subset_of_voc_is_refused_the_lists_of_the_whole(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    stopped = run(tiny_dataset, tmp_path / "out", "--infer_list=voc12/train.txt")
    assert stopped.status == 2
    assert "JPEGImages/2007_000032.jpg is missing" in stopped.stderr
    assert "1464 images (first: 2007_000032)" in stopped.stderr
