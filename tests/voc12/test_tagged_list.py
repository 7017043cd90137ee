from pathlib import Path

import numpy as np
import pytest

from misc.errors import UserError
from voc12.files import VocDataset
from voc12.image_labels import read_tags
from voc12.tagged_list import ids_if_tagged, read_tagged_list


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lists(tags: dict[str, np.ndarray]) -> dict[str, list[float]]:
    assert all(row.dtype == np.float32 for row in tags.values())
    return {image_id: row.tolist() for image_id, row in tags.items()}


def test_classes_count_from_zero_and_an_id_alone_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", "\ufeff2007_000032 0 2\nb\n7\t1\nc 2 2\n")
    assert lists(read_tagged_list(path, 3)) == {
        "2007_000032": [1, 0, 1], "b": [0, 0, 0], "7": [0, 1, 0], "c": [0, 0, 1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 0\nb 3\n", r"list\.txt says that b shows class 3, but the classes .* are 0 to 2"),
        ("a 0\na 1\n", "names a twice"),
        ("a 0\nmy photo 1\n", "'my photo 1' is not a line of a tagged list.*need a tags.csv"),
        ("a 0 -1\n", "'a 0 -1' is not a line of a tagged list"),
        ("a\nb\n", "names images, but not one class"),
        ("", "names images, but not one class"),
    ],
)
def test_a_list_that_is_none_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_tagged_list(write(tmp_path / "list.txt", text), 3)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No tags .*none\.txt\. A line is an image id"):
        read_tagged_list(tmp_path / "none.txt", 3)


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        (["a 1 2", "b"], ["a", "b"]),
        (["a", "b"], None),
        (["a 1", "b c"], None),
        (["a 1", "a 2"], None),
        (["a 1", "a"], None),
    ],
)
def test_what_may_be_a_tagged_list(lines: list[str], ids: list[str] | None) -> None:
    assert ids_if_tagged(lines) == ids


def test_tags_from_a_list_are_those_of_the_images_asked_for(tmp_path: Path) -> None:
    dataset = VocDataset(tmp_path, ("cat", "dog"))
    path = str(write(tmp_path / "list.TXT", "a 1\nb\nc 0\n"))
    assert lists(read_tags(dataset, ["b", "a"], path)) == {"b": [0, 0], "a": [0, 1]}
    with pytest.raises(UserError, match=r"no tags for 1 image \(d\)\. Add a line for each"):
        read_tags(dataset, ["a", "d"], path)
