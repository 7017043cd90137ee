import os
from pathlib import Path

import pytest

from misc.errors import UserError
from voc12.files import VocDataset
from voc12.lists import augmented_ids, check_ids, read_list, split_ids, val_ids_if_any


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
