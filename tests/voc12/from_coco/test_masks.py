import numpy as np
import pytest
from pycocotools import mask as coco_mask

from misc.errors import UserError
from tests.helpers.coco import SIZE, box, compressed, uncompressed
from voc12.from_coco.masks import draw, segmented_pixels

PIXELS = SIZE[0] * SIZE[1]


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_in_both_forms_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 90)), int(rng.integers(1, 90)))
    pixels = np.zeros(size, bool)
    for _ in range(seed * 4):  # none, few and many runs, short ones after long ones
        top, left = rng.integers(size[0]), rng.integers(size[1])
        pixels[top : top + rng.integers(1, 40), left : left + rng.integers(1, 40)] ^= True
    for form in (compressed, uncompressed):
        np.testing.assert_array_equal(segmented_pixels(form(pixels), size), pixels)


def test_polygons_are_those_of_pycocotools() -> None:
    polygons = [[1.5, 2, 30, 4.25, 17, 38], [25, 25, 60, 25, 60, 60, 25, 60]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE)))
    np.testing.assert_array_equal(segmented_pixels(polygons, SIZE), expected)
    assert expected.any()


@pytest.mark.parametrize("segmentation", [[], [[]], [[3, 3]], [[5, 5, 9, 9]]])
def test_fewer_than_three_corners_have_no_area(segmentation: list) -> None:
    assert not segmented_pixels(segmentation, SIZE).any()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "neither polygons nor run lengths"),
        ("text", "neither polygons nor run lengths"),
        ({"counts": [PIXELS]}, "neither polygons nor run lengths"),
        ([1, 2, 3, 4, 5, 6], "not a list of x, y"),
        ([[1, 2, 3, 4, 5, 6, 7]], "not a list of x, y"),
        ([[1, 2, 3, 4, 5, "6"]], "not a list of x, y"),
        ([[1, 2, 3, 4, 5, float("nan")]], "longer than"),
        ([[1, 2, 3, 4, 5, 1e300]], "longer than"),
        ([[1, 2, 3, 4, 5, 1e9]], "longer than"),
        ([[1e9, 1e9] * 3], "longer than"),
        ([[0, 0, 0, 900_000] * 100], "longer than"),
        ({"size": [50, 40], "counts": [PIXELS]}, r"size \[50, 40\], but its image is \[40, 50\]"),
        ({"size": [40, 50], "counts": [PIXELS - 1]}, f"cover {PIXELS - 1} of {PIXELS}"),
        ({"size": [40, 50], "counts": [PIXELS, 1]}, f"cover {PIXELS + 1} of"),
        ({"size": [40, 50], "counts": [-1, PIXELS + 1]}, "neither a list of counts"),
        ({"size": [40, 50], "counts": [float(PIXELS)]}, "neither a list of counts"),
        ({"size": [40, 50], "counts": 7}, "neither a list of counts"),
        ({"size": [40, 50], "counts": ""}, "cover 0 of"),
        ({"size": [40, 50], "counts": "zzz"}, "damaged"),
        ({"size": [40, 50], "counts": "P"}, "damaged"),
        ({"size": [40, 50], "counts": "\u00e9"}, "damaged"),
        ({"size": [40, 50], "counts": "0" * 9}, "cover 0 of"),
    ],
)
def test_what_cannot_be_drawn_is_refused(segmentation: object, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        segmented_pixels(segmentation, SIZE)


def test_later_lies_over_earlier_and_every_object_over_crowds() -> None:
    def annotation(category_id: int, pixels: np.ndarray, iscrowd: int) -> dict:
        return {
            "id": category_id, "category_id": category_id, "iscrowd": iscrowd,
            "segmentation": compressed(pixels),
        }  # fmt: skip

    first, second = annotation(3, box(0, 0, 20, 20), 0), annotation(9, box(0, 10, 20, 30), 0)
    crowd = annotation(5, box(0, 0, 40, 50), 1)
    hidden = annotation(4, box(0, 0, 5, 5), 0)
    class_ids = {3: 1, 4: 2, 5: 3, 9: 4}
    for value, rule in ((255, "ignore"), (0, "background")):
        expected = np.full(SIZE, value)
        expected[:20, :20], expected[:20, 10:30] = 1, 4
        drawing = draw([hidden, first, second, crowd], SIZE, class_ids, rule)
        np.testing.assert_array_equal(drawing.mask, expected)
        assert drawing.mask.dtype == np.uint8
        assert drawing.class_ids == (1, 2, 3, 4)
        assert (drawing.num_crowds, drawing.without_pixels) == (1, [])
    expected[:20, 10:20] = 1
    drawing = draw([second, first], SIZE, class_ids, "ignore")
    np.testing.assert_array_equal(drawing.mask, expected)


def test_a_bad_annotation_is_named() -> None:
    with pytest.raises(UserError, match=r"^annotation 77: its segmentation is neither"):
        draw([{"id": 77, "category_id": 1}], SIZE, {1: 1}, "ignore")
