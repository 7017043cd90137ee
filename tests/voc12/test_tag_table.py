from pathlib import Path

import numpy as np
import pytest

from misc.errors import UserError
from voc12.files import VocDataset
from voc12.image_labels import find_tags_source, read_tags
from voc12.tag_table import read_tag_table

CLASSES = ("mug", "tea spoon", "salt, sea")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def lists(tags: dict[str, np.ndarray]) -> dict[str, list[float]]:
    assert all(row.dtype == np.float32 for row in tags.values())
    return {image_id: row.tolist() for image_id, row in tags.items()}


def test_a_line_is_an_id_and_its_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "tags.csv", 'id,class\nphoto 1,mug,"salt, sea"\nb\n7,tea spoon\n')
    assert lists(read_tag_table(path, CLASSES)) == {
        "photo 1": [1, 0, 1], "b": [0, 0, 0], "7": [0, 1, 0],
    }  # fmt: skip


def test_what_spreadsheets_add_does_no_harm(tmp_path: Path) -> None:
    text = "\ufeffID,Class,,\r\na, mug ,,\r\nb,,,\r\n,,,\r\n\r\nc,mug,mug,tea spoon\r\n"
    path = write(tmp_path / "tags.csv", text)
    assert lists(read_tag_table(path, CLASSES)) == {"a": [1, 0, 0], "b": [0, 0, 0], "c": [1, 1, 0]}


def test_an_image_with_a_question_mark_has_no_tags_yet(tmp_path: Path) -> None:
    path = write(tmp_path / "tags.csv", "id,class\na,?\nb\nc,?,mug\n")
    assert lists(read_tag_table(path, CLASSES)) == {"b": [0, 0, 0]}
    assert lists(read_tag_table(path, ("mug", "?"))) == {"a": [0, 1], "b": [0, 0], "c": [1, 1]}
    path.write_text("id,class\na,?\na,mug\n")
    with pytest.raises(UserError, match="line 3, names a again"):
        read_tag_table(path, CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"tags\.csv does not begin with the line id,class"),
        ("a,mug\n", "does not begin with the line id,class"),
        ("id;class\na;mug\n", "with the line id,class. It is separated by semicolons: save it"),
        ("ID\tClass\na\tmug\n", "with the line id,class. It is separated by tabs: save it with"),
        ("id,class\na,mug\n\na,mug\n", "line 4, names a again"),
        ("id,class\na,mug,fork,knife\n", r"line 2, names the unknown class fork, knife.*classes"),
        ("id,class\n,mug\n", "line 2, has classes but no id"),
        ('id,class\n"a\n' + "x" * 200_000, "is not comma-separated text"),
    ],
)
def test_a_bad_table_is_named_with_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_tag_table(write(tmp_path / "tags.csv", text), CLASSES)


def test_all_mistakes_of_a_table_are_told_and_each_remedy_once(tmp_path: Path) -> None:
    lines = "".join(f"{k},cup\n" for k in range(11))
    path = write(tmp_path / "tags.csv", f"id,class\na,mug\na,mug\n,mug\n{lines}")
    with pytest.raises(UserError) as refused:
        read_tag_table(path, CLASSES)
    said = refused.value.message.splitlines()
    assert said[:3] == [
        f"{path}, line 3, names a again.",
        f"{path}, line 4, has classes but no id.",
        f"{path}, line 5, names the unknown class cup.",
    ]
    assert said[10:] == [
        "... and 3 more lines",
        "-> Keep one line per image. Add it. Correct it, or list the classes of your dataset in "
        "its classes.txt.",
    ]


def test_a_table_must_be_there_and_be_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No tags .*tags\.csv. The first line is id,class"):
        read_tag_table(tmp_path / "tags.csv", CLASSES)
    (tmp_path / "tags.csv").write_bytes(b"id,class\n\xff\xfe\n")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_tag_table(tmp_path / "tags.csv", CLASSES)


@pytest.fixture
def dataset(tmp_path: Path) -> VocDataset:
    write(tmp_path / "classes.txt", "\n".join(CLASSES))
    write(tmp_path / "tags.csv", "id,class\na,mug\nb\n")
    return VocDataset.open(tmp_path)


def test_the_table_is_the_source_only_without_xml(dataset: VocDataset) -> None:
    assert find_tags_source(dataset) == "csv"
    annotations = dataset.root / "Annotations"
    annotations.mkdir()
    assert find_tags_source(dataset) == "csv"
    write(annotations / "a.xml", "<annotation/>")
    assert find_tags_source(dataset) == "xml"
    (dataset.root / "tags.csv").unlink()
    (annotations / "a.xml").unlink()
    assert find_tags_source(dataset) == "xml"


def test_tags_come_from_the_datasets_table_or_another(dataset: VocDataset) -> None:
    assert lists(read_tags(dataset, ["b", "a"], "csv")) == {"b": [0, 0, 0], "a": [1, 0, 0]}
    other = write(dataset.root / "mine.CSV", "id,class\na,tea spoon\n")
    assert lists(read_tags(dataset, ["a"], str(other))) == {"a": [0, 1, 0]}
    with pytest.raises(UserError, match=r"no tags for 2 images \(first: c\)\. Add a line for each"):
        read_tags(dataset, ["a", "c", "d"], "csv")
