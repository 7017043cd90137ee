import math

import numpy as np
import pytest

from misc.wsss_bed import GridScores, ThresholdGrid, loss_of, transfer_losses
from misc.wsss_bed.threshold_grid import Cell

ACT = [0.2, 0.5, 0.8]


def scores(truth: list[int], cam: list[float], sal: list[float] | None = None) -> GridScores:
    """Scores of one row of pixels with one class."""
    grid = ThresholdGrid(ACT, None if sal is None else [0.5], 2)
    grid.add(
        np.array([truth], np.uint8),
        np.array([[cam]], np.float32),
        np.array([1]),
        None if sal is None else np.array([sal], np.float32),
    )
    return GridScores.of(grid)


def test_best_cell_by_hand() -> None:
    found = scores([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.9])
    np.testing.assert_allclose(found.miou, [(1 / 2 + 2 / 3) / 2, 1, (2 / 3 + 1 / 2) / 2])
    np.testing.assert_array_equal(found.miou_strict, found.miou)
    assert found.cells[found.best(ignore=False)] == Cell(0.5, None, False)
    np.testing.assert_allclose(found.iou[0], [1 / 2, 2 / 3])
    np.testing.assert_allclose(found.miou_over([1]), [2 / 3, 1, 1 / 2])


def test_ignoring_everything_hard_does_not_win() -> None:
    # All four are salient; at .8 one of the class is kept and the other ignored.
    found = scores([1, 1, 1, 0], [0.9, 0.6, 0.3, 0.1], sal=[1, 1, 1, 0])
    at = {cell: i for i, cell in enumerate(found.cells)}
    high, low = at[Cell(0.8, 0.5, True)], at[Cell(0.2, 0.5, True)]
    assert found.miou[high] == found.miou[low] == 1
    assert found.miou_strict[high] == pytest.approx((1 / 3 + 1) / 2)
    assert found.ignored[high] == 0.5
    assert found.ignored[low] == 0
    assert found.best(ignore=True) == low
    assert loss_of(found, high, ignore=True) == pytest.approx(1 - (1 / 3 + 1) / 2)


def test_what_another_sets_thresholds_lose() -> None:
    sets = {
        ("a", "none"): scores([0, 0, 1, 1], [0.1, 0.3, 0.6, 0.9]),
        ("b", "none"): scores([0, 0, 1, 1], [0.1, 0.7, 0.9, 0.9]),
        ("a", "sal"): scores([0, 1], [0.1, 0.9], sal=[0, 1]),
    }
    losses = transfer_losses(sets, ignore=False)
    assert set(losses) == {(("a", "none"), ("b", "none")), (("b", "none"), ("a", "none"))}
    assert losses[("a", "none"), ("b", "none")] == pytest.approx(1 - (2 / 3 + 1 / 2) / 2)
    assert losses[("b", "none"), ("a", "none")] == pytest.approx(1 - (1 / 2 + 2 / 3) / 2)
    assert transfer_losses(sets, ignore=True) == {}


def test_nothing_scored_is_nan_and_still_has_a_best() -> None:
    found = scores([255, 255], [0.1, 0.9])
    assert np.isnan(found.miou).all()
    assert found.best(ignore=False) == 0
    assert math.isnan(found.ignored[0])
    assert np.isnan(found.miou_over([1])).all()
