import math

import numpy as np
import pytest

from misc.metrics import boundary_f

nan = math.nan


def square(top: int, left: int, side: int = 8, size: int = 30) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 2
    return mask


def pixels(number: float) -> float:
    """The tolerance of so many pixels on the squares."""
    return number / math.hypot(30, 30)


def row(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_equal_masks_score_1_in_every_class_that_has_a_boundary() -> None:
    mask = square(5, 6)
    mask[20:, :] = 1
    np.testing.assert_array_equal(boundary_f(mask, mask, 4, 0), [1, 1, 1, nan])


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        # The outline has 28 pixels. Moved by 2 to the right, its two rows share 6 pixels each with
        # the truth's. Within 1 pixel of these lie the next one of each row, and the ends of the
        # left column. The right column is 2 pixels away.
        (0.0, 12 / 28),
        (1.0, 16 / 28),
        (1.9, 16 / 28),
        (2.0, 1.0),
    ],
)
def test_a_square_moved_by_two_pixels(tolerance: float, expected: float) -> None:
    found = boundary_f(square(10, 10), square(10, 12), 3, pixels(tolerance))
    assert found[2] == pytest.approx(expected)


def test_precision_and_recall_make_f() -> None:
    # Class 1 ends at pixels 1 and 2 of the truth; the prediction ends at 1, 2, 5 and 6.
    truth, pred = row(0, 1, 1, 0, 0, 0, 0, 0), row(0, 1, 1, 0, 0, 1, 1, 0)
    assert boundary_f(truth, pred, 2, 0)[1] == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert boundary_f(pred, truth, 2, 0)[1] == pytest.approx(2 * 1 * 0.5 / 1.5)
    # Of the background, 0 and 3 of the truth are among 0, 3, 4 and 7.
    assert boundary_f(truth, pred, 2, 0)[0] == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_a_class_without_a_boundary_in_one_of_both_scores_0() -> None:
    truth, nothing = square(10, 10), np.zeros((30, 30), np.uint8)
    np.testing.assert_array_equal(boundary_f(truth, nothing, 4), [0, nan, 0, nan])
    np.testing.assert_array_equal(boundary_f(nothing, truth, 4), [0, nan, 0, nan])
    np.testing.assert_array_equal(boundary_f(nothing, nothing, 4), [nan] * 4)


def test_the_rim_of_the_image_is_no_boundary() -> None:
    truth = row(1, 1, 1, 0, 0)
    assert boundary_f(truth, row(1, 1, 1, 0, 0), 2, 0)[1] == 1
    everywhere = np.ones((1, 5), np.uint8)
    np.testing.assert_array_equal(boundary_f(everywhere, everywhere, 2), [nan, nan])


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    # 0.75 % of the diagonal of 300 x 400 are 3.75 pixels.
    truth = np.zeros((300, 400), np.uint8)
    truth[:, 200:] = 1
    for by, expected in ((3, 1.0), (4, 0.0)):
        pred = np.zeros_like(truth)
        pred[:, 200 + by :] = 1
        np.testing.assert_array_equal(boundary_f(truth, pred, 2), [expected, expected])


def test_the_outline_runs_in_the_middle_of_a_band_of_void() -> None:
    truth = row(0, 0, 0, 255, 255, 255, 255, 1, 1, 1)
    np.testing.assert_array_equal(
        boundary_f(truth, row(0, 0, 0, 0, 0, 1, 1, 1, 1, 1), 2, 0), [1, 1]
    )
    np.testing.assert_array_equal(
        boundary_f(truth, row(0, 0, 0, 0, 0, 0, 1, 1, 1, 1), 2, 0), [0, 0]
    )


def test_what_lies_deep_in_void_does_not_count() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 255
    truth[2:6, 2:6] = 1
    pred = np.where(truth == 255, 0, truth).astype(np.uint8)
    assert boundary_f(truth, pred, 2)[1] == 1
    deep = pred.copy()
    deep[16:24, 16:24] = 1
    assert boundary_f(truth, deep, 2)[1] == 1
    shallow = pred.copy()
    shallow[11:29, 11:29] = 1
    assert boundary_f(truth, shallow, 2)[1] < 0.5
    np.testing.assert_array_equal(
        boundary_f(np.full((4, 4), 255, np.uint8), pred[:4, :4], 2), [nan] * 2
    )


def test_void_in_the_prediction_is_filled_too() -> None:
    truth = square(10, 10)
    with_band = truth.copy()
    with_band[9:19, 9:19] = 255
    with_band[11:17, 11:17] = 2
    np.testing.assert_array_equal(boundary_f(with_band, with_band, 3, 0), [1, nan, 1])
    np.testing.assert_array_equal(boundary_f(truth, with_band, 3, pixels(1)), [1, nan, 1])
    ignored = np.full_like(truth, 255)
    np.testing.assert_array_equal(boundary_f(truth, ignored, 3), [0, nan, 0])


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="Shapes differ"):
        boundary_f(row(0, 1), row(0, 1, 1), 2)
