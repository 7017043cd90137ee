import math

import numpy as np
import pytest

from misc.wsss_bed import SaliencyScores


def score(*images: tuple[list[int], list[float]]) -> dict[str, float]:
    scores = SaliencyScores()
    for truth, saliency in images:
        scores.add(np.array([truth], np.uint8), np.array([saliency], np.float32))
    return scores.measures()


def test_a_perfect_map() -> None:
    assert score(([0, 3, 7, 255], [0, 1, 1, 0.3])) == {
        "mae": 0, "max_f": pytest.approx(1), "max_f_level": 1, "iou_half": 1, "max_iou": 1,
        "max_iou_level": 1,
    }  # fmt: skip


def test_worked_by_hand() -> None:
    # Foreground at .4 and .8, background at .6 and 0: levels 102, 204, 153, 0.
    found = score(([1, 1, 0, 0], [0.4, 0.8, 0.6, 0]))
    assert found["mae"] == pytest.approx((0.6 + 0.2 + 0.6 + 0) / 4)
    assert found["iou_half"] == pytest.approx(1 / 3)
    assert found["max_iou"] == pytest.approx(2 / 3)
    assert found["max_iou_level"] == 1
    # From level 154 on: precision 1, recall 1/2; below 103: precision 2/3, recall 1.
    assert found["max_f"] == pytest.approx(1.3 * 0.5 / (0.3 + 0.5))
    assert found["max_f_level"] == 154


def test_f_averages_images_and_iou_pixels() -> None:
    good, bad = ([1, 0], [1.0, 0.0]), ([1, 0, 0, 0], [0.0, 1.0, 1.0, 1.0])
    found = score(good, bad)
    assert found["mae"] == pytest.approx((0 + 1) / 2)
    # Mean precision and recall are 1/2 above level 0, and 3/8 and 1 there.
    assert found["max_f"] == pytest.approx(0.5)
    assert found["iou_half"] == pytest.approx(1 / 5)
    assert found["max_iou"] == pytest.approx(2 / 6)
    assert found["max_iou_level"] == 0


def test_the_inverse_is_as_bad_as_can_be() -> None:
    found = score(([1, 1, 0], [0, 0, 1]))
    assert found["mae"] == 1
    assert found["iou_half"] == 0


def test_half_is_not_above_a_half() -> None:
    assert score(([1, 1], [127 / 255, 128 / 255]))["iou_half"] == 0.5


def test_images_without_foreground_and_of_void_alone() -> None:
    assert math.isnan(score(([255], [1.0]))["mae"])
    empty = score(([0, 0], [0.0, 0.5]))
    assert empty["mae"] == pytest.approx(0.25)
    assert math.isnan(empty["max_f"])
    both = score(([0, 0], [0.0, 1.0]), ([1, 0], [1.0, 0.0]))
    assert both["max_f"] == pytest.approx(1)
    assert both["iou_half"] == pytest.approx(1 / 2)


def test_parts_merge() -> None:
    rng = np.random.default_rng(0)
    pairs = [
        (rng.choice([0, 1, 255], (5, 6)).astype(np.uint8), rng.random((5, 6)).astype(np.float32))
        for _ in range(4)
    ]
    whole, first, second = SaliencyScores(), SaliencyScores(), SaliencyScores()
    for i, pair in enumerate(pairs):
        whole.add(*pair)
        (first if i < 2 else second).add(*pair)
    first.merge(second)
    assert first.measures() == pytest.approx(whole.measures())


def test_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="saliency"):
        score(([1, 1], [1.0]))
