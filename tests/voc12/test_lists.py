import os
from pathlib import Path

import pytest

from misc.errors import UserError
from misc.workspace import atomic_write
from tests.helpers.paths import ROOT
from voc12.classes import VOC_CLASSES
from voc12.files import SHIPPED_LISTS, VocDataset
from voc12.lists import (
    augmented_ids,
    check_ids,
    is_voc12,
    read_list,
    shipped_list,
    split_ids,
    stand_in_note,
    val_ids_if_any,
)


@pytest.fixture
def dataset(tmp_path: Path) -> VocDataset:
    for folder in ("ImageSets/Segmentation", "SegmentationClassAug"):
        (tmp_path / "voc" / folder).mkdir(parents=True)
    return VocDataset.open(tmp_path / "voc")


def write_split(dataset: VocDataset, split: str, content: str) -> Path:
    path = dataset.root / "ImageSets" / "Segmentation" / f"{split}.txt"
    path.write_text(content, encoding="utf-8")
    return path


def add_augmented_masks(dataset: VocDataset, *ids: str) -> None:
    for image_id in ids:
        (dataset.root / "SegmentationClassAug" / f"{image_id}.png").touch()


@pytest.mark.parametrize(
    ("line", "image_id"),
    [
        ("2007_000032", "2007_000032"),
        ("COCO_train2014_000000000009", "COCO_train2014_000000000009"),
        ("  my photo (2)\t", "my photo (2)"),
        ("süß.猫", "süß.猫"),
        ("/JPEGImages/2007_000032.jpg", "2007_000032"),
        ("/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png", "2007_000032"),
        ("JPEGImages/a.b.JPG 1 0 0", "a.b"),
        ("/JPEGImages/my photo.png /SegmentationClassAug/my photo.png", "my photo"),
    ],
)
def test_a_line_is_an_id_or_a_path_of_the_older_lists(
    tmp_path: Path, line: str, image_id: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"\n{line}\n\nother", encoding="utf-8")
    assert read_list(path) == [image_id, "other"]


@pytest.mark.parametrize("content", [b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb\n"])
def test_lists_written_on_windows_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    assert read_list(tmp_path / "list.txt") == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b" \n\n", "empty"),
        (b"a\nb\na\n", "names a twice"),
        (b"images/a", "cannot be part of a file name"),
        (b"/JPEGImages/a", "cannot be part of a file name"),
        (b"/JPEGImages/../a.jpg", "cannot be part of a file name"),
        (b"..", "cannot be part of a file name"),
        (b"a\\b", "cannot be part of a file name"),
        (b"a\0b", "cannot be part of a file name"),
        (b"a_crf\na\n", r"the same name \(a_crf\.png\)"),
        (b"\xffa\n", "not UTF-8"),
        (b"a" * 231, r"a\.\.\. is too long .*an id may have 230 bytes"),
    ],
)
def test_lists_that_cannot_work_are_refused_by_name(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"list\.txt.*{reason}"):
        read_list(tmp_path / "list.txt")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No list .*none\.txt"):
        read_list(tmp_path / "none.txt")


def test_the_longest_id_can_be_written_with_every_ending(tmp_path: Path) -> None:
    check_ids(["a" * 230, "é" * 115], tmp_path)
    with atomic_write(tmp_path / f"{'a' * 230}_crf.png") as file:
        file.write(b"mask")
    with pytest.raises(UserError, match="an id may have 230 bytes"):
        check_ids(["é" * 116], tmp_path)


def test_an_id_may_end_like_a_mask_after_the_crf_if_it_stands_alone(tmp_path: Path) -> None:
    check_ids(["a_crf", "b"], tmp_path)


@pytest.mark.parametrize("split", ["tiny_0.5", "tiny_0.5.txt"])
def test_a_split_is_the_name_of_a_list_of_the_dataset(dataset: VocDataset, split: str) -> None:
    write_split(dataset, "tiny_0.5", "a\n")
    assert split_ids(dataset, split) == ["a"]


def test_a_split_may_be_any_list_file(
    dataset: VocDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(dataset, "train", "a\n")
    (tmp_path / "train.txt").write_text("b\n")
    (tmp_path / "train.lst").write_text("c\n")
    monkeypatch.chdir(tmp_path)
    assert split_ids(dataset, "train") == ["a"]
    assert split_ids(dataset, "train.txt") == ["b"]
    assert split_ids(dataset, str(tmp_path / "train.lst")) == ["c"]


def test_a_missing_list_file_is_not_replaced_by_a_split_of_that_name(dataset: VocDataset) -> None:
    write_split(dataset, "train", "a\n")
    with pytest.raises(UserError, match=f"No list lists{os.sep}train.txt"):
        split_ids(dataset, os.path.join("lists", "train.txt"))


def test_a_mistyped_train_aug_is_refused_where_the_usual_one_falls_back(
    dataset: VocDataset, tmp_path: Path
) -> None:
    write_split(dataset, "train", "t\n")
    assert split_ids(dataset, "train_aug") == ["t"]
    with pytest.raises(UserError, match=r"No list .*train_aug"):
        split_ids(dataset, os.path.join("nolists", "train_aug.txt"))
    with pytest.raises(UserError, match=r"The list .* is a folder"):
        split_ids(dataset, str(tmp_path))


def test_what_stands_in_for_train_aug_is_the_lists_that_were_named(dataset: VocDataset) -> None:
    write_split(dataset, "mine", "m\n")
    assert split_ids(dataset, "train_aug", train="mine") == ["m"]
    add_augmented_masks(dataset, "a", "b")
    write_split(dataset, "held_out", "b\n")
    assert split_ids(dataset, "train_aug", val="held_out") == ["a"]


def test_only_the_usual_val_list_may_be_missing(dataset: VocDataset) -> None:
    assert val_ids_if_any(dataset) == []
    with pytest.raises(UserError, match=r"No list .*held_out"):
        val_ids_if_any(dataset, "held_out")
    write_split(dataset, "held_out", "b\n")
    assert val_ids_if_any(dataset, "held_out") == ["b"]


def test_augmented_ids_are_all_masks_but_those_of_val(dataset: VocDataset) -> None:
    add_augmented_masks(dataset, "c", "a", "b")
    assert augmented_ids(dataset) == ["a", "b", "c"]
    write_split(dataset, "val", "b\n")
    assert augmented_ids(dataset) == ["a", "c"]


def test_train_aug_is_its_list_else_the_masks_else_train(dataset: VocDataset) -> None:
    write_split(dataset, "train", "t\n")
    assert split_ids(dataset, "train_aug") == ["t"]
    add_augmented_masks(dataset, "a")
    assert split_ids(dataset, "train_aug") == ["a"]
    write_split(dataset, "train_aug", "z\n")
    assert split_ids(dataset, "train_aug") == ["z"]


def add_photographs(dataset: VocDataset, *ids: str) -> None:
    (dataset.root / "JPEGImages").mkdir(exist_ok=True)
    for image_id in ids:
        (dataset.root / "JPEGImages" / f"{image_id}.jpg").touch()


def test_a_line_of_wsss_beds_lists_is_an_id_and_classes(dataset: VocDataset) -> None:
    add_photographs(dataset, "2007_000032", "2007_000039", "2007_000063")
    path = write_split(dataset, "bed", "2007_000032 0 14\n2007_000039 19\n2007_000063\n")
    assert read_list(path, dataset) == ["2007_000032", "2007_000039", "2007_000063"]
    assert split_ids(dataset, "bed") == ["2007_000032", "2007_000039", "2007_000063"]


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ("tea 1\nmug 2\n", ["tea 1", "mug 2"]),
        # Only one of them is there, and one would be enough to tell.
        ("tea 1\ngone 2\n", ["tea 1", "gone 2"]),
        # An image would be named twice: these are no classes.
        ("photo 1\nphoto 2\nphoto\n", ["photo 1", "photo 2", "photo"]),
        # No list of WSSS-BED has such a line.
        ("photo 1\nphoto b\n", ["photo 1", "photo b"]),
        ("photo 1\nphoto -1\n", ["photo 1", "photo -1"]),
        # Nothing is there: as they are, so that these names are said to be missing.
        ("gone 1\nlost 2\n", ["gone 1", "lost 2"]),
        ("JPEGImages/photo 1.jpg\nspoon 2\n", ["photo 1", "spoon 2"]),
    ],
)
def test_ids_that_end_in_a_number_are_not_taken_for_classes(
    dataset: VocDataset, content: str, ids: list[str]
) -> None:
    add_photographs(dataset, "photo 1", "photo 2", "photo", "photo b", "photo -1", "mug 2", "tea 1")
    assert read_list(write_split(dataset, "mine", content), dataset) == ids


@pytest.mark.parametrize("content", ["photo 1\n", "photo 1\nspoon 2\n", "mug 2\nspoon 2\n"])
def test_a_list_that_can_be_read_in_two_ways_is_refused(dataset: VocDataset, content: str) -> None:
    add_photographs(dataset, "photo 1", "photo", "mug 2", "spoon")
    path = write_split(dataset, "mine", content)
    with pytest.raises(
        UserError, match=r"mine\.txt can be read in two ways: .*JPEGImages/"
    ) as said:
        read_list(path, dataset)
    # What it advises helps.
    whole = "mug 2" if "mug" in content else "photo 1"
    assert f"JPEGImages/{whole}.jpg" in str(said.value)
    path.write_text(content.replace(whole, f"JPEGImages/{whole}.jpg"))
    assert read_list(path, dataset) == content.splitlines()


def test_ids_before_classes_must_be_file_names_too(dataset: VocDataset) -> None:
    add_photographs(dataset, "a", "a_crf")
    with pytest.raises(UserError, match="would have the same name"):
        read_list(write_split(dataset, "bed", "a 1\na_crf 2\n"), dataset)


LENGTHS = {"train": 1464, "val": 1449, "test": 1456, "train_aug": 10_582}


@pytest.mark.parametrize("name", LENGTHS)
def test_voc_2012s_lists_come_with_the_project(
    dataset: VocDataset, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ids = split_ids(dataset, f"voc12/{name}.txt")
    assert len(ids) == LENGTHS[name]
    assert ids == sorted(ids) == read_list(shipped_list(name))
    assert shipped_list(name) in [ROOT / path for path in SHIPPED_LISTS]


def test_the_lists_of_voc_2012_fit_together() -> None:
    train, val, test, train_aug = (
        set(read_list(shipped_list(name))) for name in ("train", "val", "test", "train_aug")
    )
    assert train < train_aug
    assert not val & train_aug
    assert not test & (train_aug | val)


def test_a_list_of_that_name_in_the_working_directory_comes_first(
    dataset: VocDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc12").mkdir()
    (tmp_path / "voc12" / "train.txt").write_text("mine\n")
    assert split_ids(dataset, "voc12/train.txt") == ["mine"]
    with pytest.raises(UserError, match=r"No list voc12.other\.txt"):
        split_ids(dataset, "voc12/other.txt")


def test_voc_2012_without_train_aug_gets_the_projects(dataset: VocDataset) -> None:
    write_split(dataset, "train", shipped_list("train").read_text())
    add_augmented_masks(dataset, "a")
    assert split_ids(dataset, "train_aug") == read_list(shipped_list("train_aug"))
    note = stand_in_note(dataset, "train_aug")
    assert "on the 10582 ids of VOC 2012, which come with this project" in note
    write_split(dataset, "train_aug", "z\n")
    assert split_ids(dataset, "train_aug") == ["z"]
    assert stand_in_note(dataset, "train_aug") == ""


def test_only_what_surely_is_voc_2012_gets_them(dataset: VocDataset) -> None:
    lines = shipped_list("train").read_text().splitlines()
    assert not is_voc12(dataset)  # no list
    write_split(dataset, "train", "\n".join(reversed(lines)))
    assert is_voc12(dataset)
    write_split(dataset, "train", "\n".join(lines[1:]))
    assert not is_voc12(dataset)
    assert split_ids(dataset, "train_aug") == lines[1:]
    write_split(dataset, "train", "\n".join(lines))
    names = dataset.root / "classes.txt"
    names.write_text("\n".join(VOC_CLASSES))
    assert is_voc12(VocDataset.open(dataset.root))
    names.write_text("\n".join(VOC_CLASSES[:-1]))
    assert not is_voc12(VocDataset.open(dataset.root))
