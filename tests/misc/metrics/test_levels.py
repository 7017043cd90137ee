import numpy as np
import pytest

from misc.metrics import Levels

F = np.float32


def test_counts_the_thresholds_below_each_value() -> None:
    levels = Levels([0.5, 0.1, 0.5, 0.9])
    np.testing.assert_array_equal(levels.ascending, np.array([0.1, 0.5, 0.9], F))
    assert levels.rank_of.tolist() == [1, 0, 1, 2]
    assert levels.of(np.array([0, 0.1, 0.11, 0.5, 0.7, 0.9, 1], F)).tolist() == [
        0, 0, 1, 1, 2, 2, 3,
    ]  # fmt: skip


def test_inclusive_counts_an_equal_threshold_too_but_never_zero_for_zero() -> None:
    levels = Levels([0, 0.2, 0.2000001, 1], inclusive=True)
    below = np.nextafter(F(0.2), F(0))
    assert levels.of(np.array([0, 1e-40, below, 0.2, 0.2000001, 1], F)).tolist() == [
        0, 1, 1, 2, 3, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("inclusive", [True, False])
def test_equals_a_binary_search(inclusive: bool) -> None:
    rng = np.random.default_rng(0)
    thresholds = np.concatenate([rng.random(60), np.arange(1, 256) / 255]).astype(F)
    values = np.concatenate([rng.random(5000).astype(F), thresholds, [-0.5, 0.0, 1.0, 1.5]])
    levels = Levels(thresholds.tolist(), inclusive=inclusive)
    expected = np.searchsorted(levels.ascending, values.astype(F), "right" if inclusive else "left")
    np.testing.assert_array_equal(levels.of(values.astype(F)), expected)


@pytest.mark.parametrize("bad", [[], [0.1, np.nan], [np.inf], [[0.1]]])
def test_refuses_what_is_no_list_of_numbers(bad: list) -> None:
    with pytest.raises(ValueError, match="one or more finite numbers"):
        Levels(bad)
