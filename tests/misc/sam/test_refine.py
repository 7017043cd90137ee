from itertools import permutations

import numpy as np
import pytest

from misc.codes import VOID
from misc.sam import Refinement, refine_mask


def at(columns: slice | list[int], width: int = 10) -> np.ndarray:
    """A region of one row."""
    region = np.zeros((1, width), bool)
    region[0, columns] = True
    return region


def row(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


#          0  1  2  3  4  5  6  7  8  9
MASK = row(0, 1, 1, 1, 1, 0, 0, 2, 2, 0)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        # Two of three pixels are of class 1: more than half.
        (at(slice(4, 5)), MASK),
        (at([0, 1, 2]), row(1, 0 + 1, 1, 1, 1, 0, 0, 2, 2, 0)),
        # Two of four are not more than half: the region is of no class, and those it covers go.
        (at([0, 3, 4, 5]), row(0, 1, 1, 0, 0, 0, 0, 2, 2, 0)),
        # A quarter of it is of class 2, but that is all of class 2.
        (at([5, 6, 7, 8, 9, 0]), row(2, 1, 1, 1, 1, 2, 2, 2, 2, 2)),
        # Half of class 2 and a quarter of the region.
        (at([5, 6, 8, 9]), row(0, 1, 1, 1, 1, 0, 0, 2, 0, 0)),
        (at([]), MASK),
        # Both classes whole: four pixels of class 1 overlap more than two of class 2.
        (at(slice(0, 10)), row(*[1] * 10)),
    ],
)
def test_one_region(region: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(refine_mask(MASK, [region]), expected)


def test_without_regions_the_mask_stays() -> None:
    mask = row(0, 3, VOID, 254)
    refined = refine_mask(mask, [])
    np.testing.assert_array_equal(refined, mask)
    assert refined.dtype == np.uint8
    assert refined is not mask


def test_the_shares_are_settings_and_85_percent_are_enough() -> None:
    mask = np.zeros((1, 60), np.uint8)
    mask[0, :20] = 7
    nearly = at(slice(3, 60), 60)  # 17 of 20 pixels of the class
    expected = mask.copy()
    expected[nearly] = 7
    np.testing.assert_array_equal(refine_mask(mask, [nearly]), expected)
    background = mask.copy()
    background[nearly] = 0
    np.testing.assert_array_equal(refine_mask(mask, [nearly], class_share=0.86), background)
    np.testing.assert_array_equal(refine_mask(mask, [nearly], class_share=1), background)
    shares = {"class_share": 1, "region_share": 17 / 57 - 1e-9}
    np.testing.assert_array_equal(refine_mask(mask, [nearly], **shares), expected)
    # Whatever the shares, a region without a pixel of a class does not go to it.
    away = at(slice(30, 40), 60)
    np.testing.assert_array_equal(refine_mask(mask, [away], class_share=0, region_share=0), mask)


def test_void_counts_in_a_region_and_is_no_class() -> None:
    mask = row(VOID, VOID, 1, 1, 0, VOID)
    all_void = at([0, 1, 5], 6)
    np.testing.assert_array_equal(refine_mask(mask, [all_void]), mask)
    # One of three: void counts as outside the class.
    third = at([0, 1, 2], 6)
    np.testing.assert_array_equal(refine_mask(mask, [third]), row(VOID, VOID, 0, 1, 0, VOID))
    two_thirds = at([1, 2, 3], 6)
    np.testing.assert_array_equal(refine_mask(mask, [two_thirds]), row(VOID, 1, 1, 1, 0, VOID))


def test_of_equal_overlaps_the_lower_class_wins() -> None:
    mask = row(9, 9, 4, 4)
    everything = at(slice(0, 4), 4)
    np.testing.assert_array_equal(refine_mask(mask, [everything]), row(4, 4, 4, 4))
    mask = row(9, 9, 0, 4, 4)
    left, right = at([0, 1, 2], 5), at([2, 3, 4], 5)
    for order in ([left, right], [right, left]):
        np.testing.assert_array_equal(refine_mask(mask, order), row(9, 9, 4, 4, 4))


def test_a_nested_region_wins_over_a_mixed_one_around_it() -> None:
    mask = row(1, 1, 1, 1, 0, 2, 2, 0)
    around, nested = at(slice(0, 7), 8), at([5, 6], 8)  # 4 of 7 are of class 1; all of class 2
    for order in ([around, nested], [nested, around]):
        np.testing.assert_array_equal(refine_mask(mask, order), row(1, 1, 1, 1, 1, 2, 2, 0))


def test_class_pixels_stay_only_where_no_region_covers_them() -> None:
    mask = row(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    leaking = at([5, 6, 7])  # of no class
    np.testing.assert_array_equal(refine_mask(mask, [leaking]), row(1, 1, 1, 1, 1, 0, 0, 0, 0, 0))
    holder = at([3, 4, 5])  # of class 1: covers the pixel too
    for order in ([leaking, holder], [holder, leaking]):
        np.testing.assert_array_equal(refine_mask(mask, order), mask)


def test_a_drawn_object_gets_the_outline_of_its_regions() -> None:
    truth = np.zeros((40, 50), np.uint8)
    truth[10:30, 10:25], truth[10:30, 25:40] = 3, 5
    mask = np.zeros_like(truth)
    mask[13:33, 7:24], mask[13:33, 24:36] = 3, 5  # moved, and the border between them too
    left, right = truth == 3, truth == 5
    sky = truth == 0
    assert (mask != truth).mean() > 0.1
    np.testing.assert_array_equal(refine_mask(mask, [left, right, sky]), truth)


def test_the_order_of_regions_and_their_repetition_decide_nothing() -> None:
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 1, 2, 3, VOID], np.uint8), (8, 9))
    regions = []
    for _ in range(12):
        top, left = rng.integers(0, 6, 2)
        region = np.zeros(mask.shape, bool)
        region[top : top + rng.integers(1, 5), left : left + rng.integers(1, 5)] = True
        regions.append(region)
    expected = refine_mask(mask, regions)
    assert (expected != mask).any()
    for _ in range(20):
        shuffled = [regions[k] for k in rng.permutation(len(regions))]
        np.testing.assert_array_equal(refine_mask(mask, shuffled), expected)
    np.testing.assert_array_equal(refine_mask(mask, regions * 2), expected)
    few = regions[:4]
    results = {refine_mask(mask, order).tobytes() for order in permutations(few)}
    assert len(results) == 1


def test_region_by_region_is_the_same() -> None:
    refinement = Refinement(MASK)
    np.testing.assert_array_equal(refinement.mask(), MASK)
    refinement.add(at([0, 1, 2]))
    np.testing.assert_array_equal(refinement.mask(), refine_mask(MASK, [at([0, 1, 2])]))
