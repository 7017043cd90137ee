import numpy as np
import pytest

from misc.pseudo_mask import enlarge_scores, regions_above, scores_to_regions


def blocks(*values: list[float]) -> np.ndarray:
    """Scores (K,4,8): each class has its first value on the left half, its second on the right."""
    rows = [np.repeat(value, 4)[None].repeat(4, axis=0) for value in values]
    return np.stack(rows).astype(np.float32)


def test_every_pixel_gets_its_strongest_class_above_the_background() -> None:
    regions = scores_to_regions(blocks([1.0, 0.0], [0.5, 0.1]), (16, 32), 0.21)
    assert regions.dtype == np.uint8
    assert (regions[:, :12] == 1).all()
    assert (regions[:, 20:] == 0).all()


def test_scores_are_divided_by_the_maximum_over_all_classes_together() -> None:
    # 0.5 of class 2 would be all of its own maximum, but is only a quarter of the joint one.
    scores = blocks([2.0, 0.0], [0.0, 0.5])
    assert (scores_to_regions(scores, (16, 32), 0.3)[:, 20:] == 0).all()
    assert (scores_to_regions(scores, (16, 32), 0.2)[:, 20:] == 2).all()


def test_enlarged_scores_have_the_size_of_the_image_and_one_maximum() -> None:
    enlarged = enlarge_scores(blocks([2.0, 0.0], [0.0, 0.5]), (15, 30))
    assert enlarged.shape == (2, 15, 30)
    assert enlarged[0, :, :12].tolist() == np.ones((15, 12)).tolist()
    assert enlarged[1, :, 20:].tolist() == np.full((15, 10), 0.25).tolist()
    assert enlarge_scores(np.zeros((1, 4, 8), np.float32), (16, 32)).max() == 0
    assert enlarge_scores(np.zeros((0, 4, 8), np.float32), (16, 32)).shape == (0, 16, 32)


def test_a_class_must_exceed_the_background_and_the_first_of_equals_wins() -> None:
    scores = np.array([[[0.5, 0.25, 0.75]], [[0.5, 0.5, 0.25]]], np.float32)
    assert regions_above(scores, 0.5).tolist() == [[0, 0, 1]]
    assert regions_above(scores, 0.4).tolist() == [[1, 2, 1]]


def test_the_maximum_is_taken_after_the_stretch_and_the_cut() -> None:
    scores = blocks([1.0, 0.0])
    scores[0, 0, -1] = 100  # lies outside of the image
    assert (scores_to_regions(scores, (16, 12), 0.21) == 1).all()


def test_background_wins_ties_at_the_threshold() -> None:
    scores = blocks([1.0, 0.25])
    assert (scores_to_regions(scores, (16, 32), 0.25)[:, 24:] == 0).all()
    assert (scores_to_regions(scores, (16, 32), 0.24)[:, 24:] == 1).all()


def test_the_threshold_is_compared_in_single_precision() -> None:
    scores = blocks([1.0, 0.1])
    assert float(scores[0, 0, -1]) > 0.1  # in double precision it would be foreground
    assert scores_to_regions(scores, (16, 32), 0.1)[0, -1] == 0


def test_the_first_of_equal_classes_wins() -> None:
    assert (scores_to_regions(blocks([1.0, 1.0], [1.0, 1.0]), (16, 32), 0.21) == 1).all()


@pytest.mark.parametrize("num_classes", [0, 1, 3])
def test_a_walk_that_ends_in_nothing_is_background(num_classes: int) -> None:
    # Quirk left out: the reference divides zero by zero here and calls every pixel foreground.
    regions = scores_to_regions(np.zeros((num_classes, 3, 4), np.float32), (11, 14), 0.21)
    np.testing.assert_array_equal(regions, np.zeros((11, 14), np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (9, 13), (12, 16)])
def test_regions_have_the_size_of_the_image(size: tuple[int, int]) -> None:
    assert scores_to_regions(np.ones((2, 3, 4), np.float32), size, 0.21).shape == size
