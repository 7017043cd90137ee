"""COCO's category ids, and what tells that files number the classes in another way."""

from pathlib import Path

import numpy as np
import pytest

from misc.cam_files import class_id_of, compare_with_tags, read_cams
from misc.cam_files.numbering import (
    BACKGROUND_FIRST,
    BY_CATEGORY,
    NOT_BY_CATEGORY,
    ONE_TOO_HIGH,
    Renumbering,
)
from misc.errors import UserError
from tests.helpers.cam_writers import WRITERS, save
from tests.helpers.coco import CATEGORY_IDS

SIZE = (8, 8)
ONE = np.ones((1, *SIZE), np.float32)
# Category id -> class id; person, fire hydrant, stop sign, parking meter, bench, elephant, ...
PAIRS = {1: 1, 11: 11, 13: 12, 14: 13, 15: 14, 22: 21, 27: 25, 31: 27, 44: 40, 90: 80}


def read_one(path: Path, cam_ids: str, cam_format: str, num_classes: int = 80) -> list[int]:
    cams = read_cams(path, SIZE, num_classes=num_classes, cam_format=cam_format, cam_ids=cam_ids)
    return cams.class_ids.tolist()


def test_the_categories_are_coco_s() -> None:
    """Stop sign is category 13 and class 12, toothbrush is category 90 and class 80."""
    table = class_id_of("coco91", 80)
    assert {category: table[category - 1] for category in PAIRS} == PAIRS
    assert [number + 1 for number in table] == CATEGORY_IDS
    assert list(table.values()) == list(range(1, 81))
    assert dict(class_id_of("contiguous", 3)) == {0: 1, 1: 2, 2: 3}


def test_key_12_is_a_stop_sign_by_category_and_a_parking_meter_without_gaps(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", {12: ONE[0], 89: ONE[0]})
    assert read_one(path, "coco91", "psa") == [12, 80]
    path = save(tmp_path / "a.npy", {12: ONE[0]})
    assert read_one(path, "contiguous", "psa") == [13]


@pytest.mark.parametrize("cam_format", [name for name in WRITERS if name != "drs"])
@pytest.mark.parametrize("category", PAIRS)
def test_every_dialect_can_be_numbered_by_category(
    tmp_path: Path, cam_format: str, category: int
) -> None:
    WRITERS[cam_format](tmp_path, "a", [category - 1], ONE)
    (path,) = tmp_path.iterdir()
    source: Path | list[Path] = [path] if cam_format == "oaa_png" else path
    cams = read_cams(source, SIZE, num_classes=80, cam_format=cam_format, cam_ids="coco91")
    assert cams.class_ids.tolist() == [PAIRS[category]]


def test_drs_s_channels_are_then_ninety(tmp_path: Path) -> None:
    maps = np.zeros((90, 320, 320), np.uint8)
    maps[12] = 255
    np.save(tmp_path / "a.npy", maps)
    assert read_one(tmp_path / "a.npy", "coco91", "drs") == [12]
    np.save(tmp_path / "a.npy", maps[:80])
    with pytest.raises(UserError, match=r"drs files hold uint8 \(90, 320, 320\)"):
        read_one(tmp_path / "a.npy", "coco91", "drs")
    assert read_one(tmp_path / "a.npy", "contiguous", "drs") == [13]


@pytest.mark.parametrize("cam_format", ["psa", "toco", "oaa_png"])
def test_a_number_that_is_no_category_is_refused(tmp_path: Path, cam_format: str) -> None:
    WRITERS[cam_format](tmp_path, "a", [11], ONE)
    (path,) = tmp_path.iterdir()
    source: Path | list[Path] = [path] if cam_format == "oaa_png" else path
    with pytest.raises(
        UserError, match=r"class 11, but COCO has no category 12. Leave out --cam_ids coco91"
    ):
        read_cams(source, SIZE, num_classes=80, cam_format=cam_format, cam_ids="coco91")


def test_what_is_out_of_range_is_told_of_the_flag(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", {85: ONE[0]})
    with pytest.raises(UserError, match=r"unknown class 85.*pass --cam_ids coco91 if they are"):
        read_one(path, "contiguous", "psa")
    with pytest.raises(UserError, match="unknown class 85") as caught:
        read_one(path, "contiguous", "psa", num_classes=20)
    assert "coco91" not in str(caught.value)


def test_other_datasets_have_no_categories(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", {1: ONE[0]})
    with pytest.raises(UserError, match="numbers the 80 classes of COCO, but here are 20"):
        read_one(path, "coco91", "psa", num_classes=20)


TAGS = {"a": [20], "b": [13, 40], "c": [80], "d": [5, 12]}


@pytest.mark.parametrize(
    ("classes", "num_classes", "cam_ids", "cause"),
    [
        (TAGS, 80, "contiguous", None),
        ({i: [c + 1 for c in ids] for i, ids in TAGS.items()}, 90, "contiguous", ONE_TOO_HIGH),
        (
            {i: [1, *(c + 1 for c in ids)] for i, ids in TAGS.items()},
            90, "contiguous", BACKGROUND_FIRST,
        ),
        ({"a": [21], "b": [14, 44], "c": [90], "d": [5, 13]}, 80, "contiguous", BY_CATEGORY),
        ({"a": [21], "b": [14, 44], "c": [90], "d": [5, 13]}, 79, "contiguous", None),
        ({"a": [19], "b": [12, 36], "c": [71], "d": [5]}, 80, "coco91", NOT_BY_CATEGORY),
        ({"a": [7], "b": [9], "c": [1], "d": [70]}, 80, "contiguous", None),
    ],
)  # fmt: skip
def test_a_known_renumbering_is_found(
    classes: dict[str, list[int]], num_classes: int, cam_ids: str, cause: Renumbering | None
) -> None:
    found = compare_with_tags(classes, TAGS, num_classes, cam_ids)
    assert found.images == 4
    assert found.explained_by is cause


def test_fewer_classes_than_tags_and_images_without_either_say_nothing() -> None:
    classes = {"b": [40], "c": [], "d": [12], "unknown": [3]}
    found = compare_with_tags(classes, TAGS, 80)
    assert (found.images, found.strange, found.explained_by) == (2, (), None)
    assert compare_with_tags({}, TAGS, 80).images == 0


def test_a_few_predicted_classes_are_counted_and_not_explained() -> None:
    """Three of twenty have a neighbour of their class: that is no renumbering."""
    tags = {f"{i}": [1 + i % 7] for i in range(20)}
    classes = {i: [c + 1] if i in ("3", "8", "9") else [c] for i, (c,) in tags.items()}
    found = compare_with_tags(classes, tags, 20)
    assert (found.images, found.strange, found.explained_by) == (20, ("3", "8", "9"), None)


def test_two_images_are_too_few_to_tell() -> None:
    assert compare_with_tags({"a": [21], "c": [81]}, TAGS, 90).explained_by is None
