import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.errors import UserError
from voc12.files import VocDataset
from voc12.image_labels import TagCache, class_ids_of, read_mask_tags, read_tags, read_xml_tags

CLASSES = ("cat", "dog", "cow")


def write_xml(path: Path, *names: str) -> Path:
    objects = "".join(f"<object><name>{name}</name></object>" for name in names)
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<annotation><folder>VOC</folder>{objects}</annotation>")
    return path


def write_mask(path: Path, values: list[list[int]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> VocDataset:
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    dataset = VocDataset.open(tmp_path)
    write_xml(dataset.xml_path("a"), "dog", "dog", "cow")
    write_xml(dataset.xml_path("b"))
    return dataset


def assert_tags(found: dict[str, np.ndarray], expected: dict[str, list[int]]) -> None:
    assert {image_id: tags.tolist() for image_id, tags in found.items()} == expected
    assert all(tags.dtype == np.float32 for tags in found.values())


def test_xml_tags_are_the_classes_of_its_objects(dataset: VocDataset) -> None:
    assert_tags(read_tags(dataset, ["b", "a"]), {"b": [0, 0, 0], "a": [0, 1, 1]})


def test_parts_of_objects_are_no_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        "<annotation><object><part><name>head</name></part><name> cat\n</name></object>"
        "</annotation>"
    )
    assert read_xml_tags(path, CLASSES).tolist() == [1, 0, 0]


def test_an_unknown_class_is_named_with_its_file(tmp_path: Path) -> None:
    path = write_xml(tmp_path / "a.xml", "cat", "unicorn")
    with pytest.raises(UserError, match=r"a\.xml names the unknown class unicorn.*classes\.txt"):
        read_xml_tags(path, CLASSES)


def test_every_image_without_tags_is_told_at_once(dataset: VocDataset) -> None:
    dataset.xml_path("broken").write_text("<annotation>")
    both = r"(?s)No tags \S*none\.xml\. Put .*broken\.xml is not valid XML"
    with pytest.raises(UserError, match=both):
        read_tags(dataset, ["a", "broken", "none"])
    with pytest.raises(UserError, match=r"No tags \S*none\.xml, nor for 1 other image\. Put "):
        read_tags(dataset, ["a", "none", "none2"])


@pytest.mark.parametrize("encoding", ["gb2312", "gbk", "big5", "shift_jis", "utf-16", "latin-1"])
def test_xml_is_read_in_any_encoding_that_it_declares(tmp_path: Path, encoding: str) -> None:
    folder = "café" if encoding == "latin-1" else "中文"
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n<annotation><folder>{folder}</folder>'
    text += "<object><name>dog</name></object></annotation>"
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode(encoding))
    assert read_xml_tags(path, CLASSES).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html><body/></html>", r"it begins with <html>, not with <annotation>"),
        (b"<annotation xmlns='http://x'/>", r"it begins with <\{http://x\}annotation>"),
        (b"<annotation><object/></annotation>", r"an <object> without a <name>"),
        (b"<?xml version='1.0' encoding='klingon'?><annotation/>", "unknown encoding: klingon"),
        (b"<?xml version='1.0' encoding='gbk'?><annotation>\xff</annotation>", "not valid XML"),
        (b"", "not valid XML"),
    ],
)
def test_xml_that_is_no_annotation_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.xml .*{message}"):
        read_xml_tags(path, CLASSES)


def test_mask_tags_leave_out_background_and_void(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "a.png", [[0, 255], [3, 1]])
    assert read_mask_tags(path, 3).tolist() == [1, 0, 1]


def test_a_mask_with_a_class_too_many_is_refused(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "a.png", [[0, 3]])
    with pytest.raises(UserError, match=r"a\.png shows class 3, but there are 2"):
        read_mask_tags(path, 2)


def test_tags_from_masks_prefer_the_augmented_ones(dataset: VocDataset) -> None:
    write_mask(dataset.mask_path("a"), [[1]])
    write_mask(dataset.mask_path("b"), [[2]])
    write_mask(dataset.root / "SegmentationClassAug" / "b.png", [[3]])
    tags = read_tags(dataset, ["a", "b"], "masks")
    assert_tags(tags, {"a": [1, 0, 0], "b": [0, 0, 1]})


def test_tags_from_a_file_are_those_of_the_images_asked_for(dataset: VocDataset) -> None:
    path = dataset.root / "cls_labels.npy"
    content = {"a": np.array([1, 0, 0]), "b": np.array([0, 0, 1]), "c": np.zeros(3)}
    np.save(path, np.array(content, object))
    assert_tags(read_tags(dataset, ["b", "a"], str(path)), {"b": [0, 0, 1], "a": [1, 0, 0]})
    with pytest.raises(UserError, match=r"cls_labels\.npy has no tags for 1 image \(d\)"):
        read_tags(dataset, ["a", "d"], str(path))


def test_tags_of_another_number_of_classes_are_refused(dataset: VocDataset) -> None:
    path = dataset.root / "cls_labels.npy"
    np.save(path, np.array({"a": np.zeros(20)}, object))
    with pytest.raises(UserError, match=r"a has tags of shape \(20,\), not \(3,\)"):
        read_tags(dataset, ["a"], str(path))


def test_a_missing_tag_file_is_named_with_the_flag(dataset: VocDataset) -> None:
    with pytest.raises(UserError, match="--tags_from XML: no such file"):
        read_tags(dataset, ["a"], "XML")


Tags = dict[str, np.ndarray]


def read_with(cache: Path, dataset: VocDataset, ids: list[str], source: str = "xml") -> Tags:
    """Tags, and what is new kept in the file for the next run."""
    kept = TagCache(cache)
    tags = read_tags(dataset, ids, source, kept)
    kept.save()
    return tags


def test_the_cache_stands_in_for_unchanged_files(
    dataset: VocDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "tags.npz"
    read_tags(dataset, ["a", "b"], cache=TagCache(cache))
    assert not cache.exists()  # nothing is written unasked
    first = read_with(cache, dataset, ["a", "b"])
    with monkeypatch.context() as patch:
        patch.setattr("voc12.image_labels.read_xml_tags", None)
        again = read_with(cache, dataset, ["a", "b"])
    assert_tags(again, {image_id: tags.tolist() for image_id, tags in first.items()})


def test_the_cache_is_renewed_when_a_file_changes(dataset: VocDataset, tmp_path: Path) -> None:
    cache = tmp_path / "tags.npz"
    read_with(cache, dataset, ["a"])
    before = dataset.xml_path("a").stat()
    write_xml(dataset.xml_path("a"), "cow", "cow", "dog")
    assert_tags(read_with(cache, dataset, ["a"]), {"a": [0, 1, 1]})
    write_xml(dataset.xml_path("a"), "cat", "cat", "dog")
    os.utime(dataset.xml_path("a"), ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert_tags(read_with(cache, dataset, ["a"]), {"a": [1, 1, 0]})


def test_the_cache_serves_only_its_own_images_classes_and_source(
    dataset: VocDataset, tmp_path: Path
) -> None:
    cache = tmp_path / "tags.npz"
    read_with(cache, dataset, ["a", "b"])
    assert_tags(read_with(cache, dataset, ["b", "a"]), {"b": [0, 0, 0], "a": [0, 1, 1]})
    other = VocDataset(dataset.root, ("dog", "cat", "cow"))
    assert_tags(read_with(cache, other, ["a"]), {"a": [1, 0, 1]})
    write_mask(dataset.mask_path("a"), [[1]])
    assert_tags(read_with(cache, dataset, ["a"], "masks"), {"a": [1, 0, 0]})


@pytest.mark.parametrize("kept", [0, 10, 60, -10])
def test_a_damaged_cache_is_made_anew(dataset: VocDataset, tmp_path: Path, kept: int) -> None:
    cache = tmp_path / "tags.npz"
    read_with(cache, dataset, ["a"])
    whole = cache.read_bytes()
    cache.write_bytes(whole[:kept])
    assert_tags(read_with(cache, dataset, ["a"]), {"a": [0, 1, 1]})
    assert len(cache.read_bytes()) == len(whole)


def test_class_ids_start_at_one_and_ascend() -> None:
    ids = class_ids_of(np.array([1, 0, 1, 0], np.float32))
    assert ids.tolist() == [1, 3]
    assert ids.dtype == np.int64
