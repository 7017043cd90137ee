"""What went wrong, on matrices small enough to be read."""

import numpy as np
import pytest

from misc.metrics import Faults, faults_of

NOTHING = np.zeros(3, np.int64)


def faults(rows: list[list[int]], unscored: list[int] | None = None) -> Faults:
    return faults_of(np.array(rows), NOTHING if unscored is None else np.array(unscored))


def test_a_perfect_mask_has_no_faults() -> None:
    assert faults([[80, 0, 0], [0, 15, 0], [0, 0, 5]]) == ([], [], [])


def test_an_object_is_missed_when_more_than_half_of_it_is_background() -> None:
    assert faults([[80, 0, 0], [10, 10, 0], [0, 0, 0]]).missed == []
    assert faults([[80, 0, 0], [11, 9, 0], [0, 0, 0]]).missed == [1]


def test_what_the_mask_leaves_open_is_missed_too() -> None:
    assert faults([[80, 0, 0], [6, 9, 0], [0, 0, 0]], [3, 5, 0]).missed == [1]


def test_a_mask_is_too_large_when_it_covers_background_of_more_than_half_the_object() -> None:
    assert faults([[70, 10, 0], [0, 20, 0], [0, 0, 0]]).too_large == []
    assert faults([[69, 11, 0], [0, 20, 0], [0, 0, 0]]).too_large == [1]


def test_a_class_that_is_not_there_is_too_large_from_a_hundredth_of_the_image_on() -> None:
    assert faults([[159, 0, 1], [0, 40, 0], [0, 0, 0]]).too_large == []
    assert faults([[158, 0, 2], [0, 40, 0], [0, 0, 0]]).too_large == [2]


def test_two_objects_are_confused_when_one_takes_a_quarter_of_the_other() -> None:
    assert faults([[60, 0, 0], [0, 16, 4], [0, 0, 20]]).confused == []
    assert faults([[60, 0, 0], [0, 15, 5], [0, 0, 20]]).confused == [(1, 2)]


def test_an_object_of_another_class_is_confused_and_neither_missed_nor_too_large() -> None:
    assert faults([[80, 0, 0], [0, 0, 20], [0, 0, 0]]) == ([], [], [(1, 2)])


def test_an_image_without_a_scored_pixel_has_no_faults() -> None:
    assert faults([[0, 0, 0], [0, 0, 0], [0, 0, 0]]) == ([], [], [])


def test_the_matrix_must_be_square() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        faults_of(np.zeros((3, 2), np.int64), NOTHING)
