import math

import numpy as np
import pytest

from misc.metrics import TagScores, chance_level

NAN = float("nan")


def test_one_answer_for_all_images_reaches_the_entropy_and_the_commonest_class() -> None:
    tags = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
    chance = chance_level(tags)
    of_three_quarters = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert chance.loss == pytest.approx((of_three_quarters + math.log(2) + 0) / 3)
    assert chance.accuracy == 0.75


def test_images_without_a_tag_count_for_the_loss_only() -> None:
    chance = chance_level(np.array([[1, 0], [0, 0]], np.float32))
    assert chance.loss == pytest.approx(math.log(2) / 2)
    assert chance.accuracy == 1
    assert math.isnan(chance_level(np.zeros((2, 3))).accuracy)


@pytest.mark.parametrize(
    ("loss", "accuracy", "is_chance"),
    [
        (0.2, 0.4, True),
        (0.3, 0.69, True),
        (0.3, 0.71, False),  # more than halfway from chance to perfection
        (0.17, 0.4, False),
        (NAN, NAN, True),
        (0.1, NAN, False),
    ],
)
def test_a_classifier_has_learnt_if_its_loss_or_its_accuracy_says_so(
    loss: float, accuracy: float, is_chance: bool
) -> None:
    assert TagScores(loss, accuracy).is_chance(TagScores(0.2, 0.4)) is is_chance
