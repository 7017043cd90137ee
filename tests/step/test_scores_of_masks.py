"""What is read is what is scored: sizes fit, and thresholds are the usual hundred."""

from pathlib import Path

import numpy as np
import pytest

from misc.errors import UserError
from misc.images import write_palette_png
from misc.runtime import WorkerPool
from step.common.scores import score_masks
from step.common.threshold_scores import SWEEP


@pytest.mark.parametrize("size", [(4, 6), (6, 4), (3, 8)])
def test_a_mask_of_another_size_is_refused_by_both_names(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Also one of as many pixels."""
    truth, mask = tmp_path / "truth.png", tmp_path / "mask.png"
    write_palette_png(truth, np.zeros((4, 5), np.uint8))
    write_palette_png(mask, np.zeros(size, np.uint8))
    with WorkerPool(0) as pool, pytest.raises(UserError, match="differ in size") as refused:
        score_masks(pool, [(truth, mask)], ["cat"], (), desc="scores")
    assert str(truth) in refused.value.message
    assert str(mask) in refused.value.message


def test_scores_by_hand(tmp_path: Path) -> None:
    truth, mask = tmp_path / "truth.png", tmp_path / "mask.png"
    write_palette_png(truth, np.array([[0, 0, 1, 1], [2, 2, 255, 255]], np.uint8))
    write_palette_png(mask, np.array([[0, 1, 1, 255], [2, 2, 0, 1]], np.uint8))
    with WorkerPool(0) as pool:
        scores = score_masks(pool, [(truth, mask)], ["cat", "dog"], ("dog",), desc="scores")
    assert scores["iou"] == {"background": 0.5, "cat": 0.5, "dog": 1.0}
    assert scores["miou"] == pytest.approx(2 / 3)
    assert scores["miou_chosen"] == 0.75
    assert scores["fp"] == {"background": 0.0, "cat": 0.5, "dog": 0.0}
    assert scores["fn"] == {"background": 0.5, "cat": 0.0, "dog": 0.0}
    # One of the six scored pixels is left open; as missed, the cat has one of three.
    assert scores["ignored"] == pytest.approx(1 / 6)
    assert scores["miou_strict"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)


def test_thresholds_are_one_to_ninety_nine_hundredths() -> None:
    assert len(SWEEP) == 99
    assert (SWEEP[0], SWEEP[20], SWEEP[49], SWEEP[98]) == (0.01, 0.21, 0.5, 0.99)
    assert np.diff(SWEEP) == pytest.approx(np.full(98, 0.01))
