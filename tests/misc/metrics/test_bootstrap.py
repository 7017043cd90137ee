import math

import numpy as np
import pytest

from misc.metrics import ConfusionMatrix, interval, miou_of_counts, resampled_mious


def counts_of(truth: list[int], pred: list[int], classes: int = 3) -> np.ndarray:
    confusion = ConfusionMatrix(classes)
    confusion.add(np.array([truth], np.uint8), np.array([pred], np.uint8))
    return confusion.counts(count_unscored=True)


def test_the_counts_of_a_confusion_matrix() -> None:
    confusion = ConfusionMatrix(3)
    confusion.add(
        np.array([[0, 0, 1, 1, 2, 255]], np.uint8), np.array([[0, 1, 1, 255, 0, 0]], np.uint8)
    )
    assert confusion.counts().tolist() == [[1, 1, 0], [2, 1, 1], [2, 2, 0]]
    assert confusion.counts(count_unscored=True).tolist() == [[1, 1, 0], [2, 2, 1], [2, 2, 0]]


def test_the_miou_of_counts_is_that_of_the_matrix() -> None:
    # Background 1 of 3, class 1 1 of 3; class 2 does not occur.
    counts = counts_of([0, 0, 1, 1], [0, 1, 1, 0])
    assert miou_of_counts(counts) == pytest.approx(1 / 3)
    both = np.stack([counts, counts_of([2, 2], [2, 2])])
    np.testing.assert_allclose(miou_of_counts(both), [1 / 3, 1])
    assert math.isnan(miou_of_counts(np.zeros((3, 3))))


def test_resampled_scores_are_those_of_summed_matrices() -> None:
    rng = np.random.default_rng(1)
    images = [(rng.integers(0, 3, 9).tolist(), rng.integers(0, 3, 9).tolist()) for _ in range(5)]
    counts = np.stack([counts_of(*image) for image in images])[None]
    found = resampled_mious(counts, resamples=250, seed=7)
    assert found.shape == (1, 250)
    drawn = np.random.default_rng(7).integers(5, size=(100, 5))  # the first portion
    for k in (0, 1, 99):
        confusion = ConfusionMatrix(3)
        for image in drawn[k].tolist():
            truth, pred = images[image]
            confusion.add(np.array([truth], np.uint8), np.array([pred], np.uint8))
        assert found[0, k] == pytest.approx(confusion.scores().miou)


def test_the_same_images_are_drawn_for_every_set() -> None:
    """Paired: masks that are better by the same on every image have a difference without spread."""
    rng = np.random.default_rng(0)
    worse = [counts_of([1] * 10, [1] * n + [0] * (10 - n), 2) for n in rng.integers(1, 9, 30)]
    better = []
    for counts in worse:
        gained = counts.copy()
        gained[0, 1] += 1
        gained[2] += [-1, 1]
        better.append(gained)
    counts = np.stack([np.stack(worse), np.stack(better)])
    first, second = resampled_mious(counts, 500, seed=0)
    difference = second - first
    assert first.std() > 0.02
    # The IoU of class 1 is the share of right pixels, and half of mIoU; background has none.
    np.testing.assert_allclose(difference, 0.05, atol=1e-12)
    low, high = interval(difference)
    assert low == pytest.approx(0.05)
    assert high == pytest.approx(0.05)


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (9, 2, 20)).tolist()
    counts = np.stack([counts_of(*image) for image in images])[None]
    one = resampled_mious(counts, 120, seed=3)
    np.testing.assert_array_equal(one, resampled_mious(counts, 120, seed=3))
    assert (one != resampled_mious(counts, 120, seed=4)).any()


def test_the_interval_is_the_middle_of_the_values() -> None:
    values = np.arange(1001) / 1000
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert interval(values, 0.5) == pytest.approx((0.25, 0.75))


def test_equal_images_leave_no_doubt() -> None:
    counts = np.stack([counts_of([0, 1, 1, 1], [0, 0, 1, 1])] * 6)[None]
    np.testing.assert_allclose(resampled_mious(counts, 50, seed=0), (1 / 2 + 2 / 3) / 2)
