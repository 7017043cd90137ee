import numpy as np
import pytest

from misc.errors import UserError
from misc.metrics import ConfusionMatrix
from misc.wsss_bed import ThresholdGrid, make_wsss_bed_mask
from misc.wsss_bed.threshold_grid import Cell

CLASSES = 5
ACT = [0.5, 0.0, 0.2, 1.0, 0.2, 1 / 255]
SAL = [0.2, 0.0, 1.0, 0.6]
Picture = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, num_maps: int, *, eight_bit: bool) -> Picture:
    """Truth, activation, classes and saliency full of ties, zeros and ones."""
    size = (13, 17)
    truth = rng.choice([0, 1, 2, 3, 4, 255], size).astype(np.uint8)
    cam, saliency = rng.random((num_maps, *size)), rng.random(size)
    if eight_bit:
        cam, saliency = rng.integers(0, 256, cam.shape) / 255, rng.integers(0, 256, size) / 255
    cam[rng.random(cam.shape) < 0.2] = 0.2
    cam[rng.random(cam.shape) < 0.1] = 0
    cam[rng.random(cam.shape) < 0.05] = 1.0005
    saliency[rng.random(size) < 0.2] = rng.choice([0, 0.2, 0.6, 1])
    # Ties of activation and soft background, as float32 decides them.
    if num_maps:
        tie = rng.random(size) < 0.2
        saliency[tie] = np.clip(1 - cam[0][tie], 0, 1)
    ids = np.sort(rng.choice(np.arange(1, CLASSES), num_maps, replace=False)).astype(np.int64)
    return truth, cam.astype(np.float32), ids, saliency.astype(np.float32)


def pictures(eight_bit: bool = False) -> list[Picture]:
    rng = np.random.default_rng(7)
    return [draw(rng, n, eight_bit=eight_bit) for n in (0, 1, 2, 3, 4, 2)]


def count_one_by_one(shown: list[Picture], cell: Cell) -> ConfusionMatrix:
    confusion = ConfusionMatrix(CLASSES)
    for truth, cam, ids, saliency in shown:
        mask = make_wsss_bed_mask(
            cam,
            ids,
            None if cell.sal_thres is None else saliency,
            act_thres=cell.act_thres,
            sal_thres=cell.sal_thres or 0,
            ignore=cell.ignore,
        )
        confusion.add(truth, mask)
    return confusion


def filled(sal: list[float] | None, shown: list[Picture]) -> ThresholdGrid:
    grid = ThresholdGrid(ACT, sal, CLASSES)
    for truth, cam, ids, saliency in shown:
        grid.add(truth, cam, ids, saliency if sal is not None else None)
    return grid


@pytest.mark.parametrize("eight_bit", [True, False])
@pytest.mark.parametrize("sal", [SAL, [0.3, 0.7], [0.0], None])
def test_every_cell_equals_making_and_counting_its_masks(
    sal: list[float] | None, eight_bit: bool
) -> None:
    shown = pictures(eight_bit)
    cells = list(filled(sal, shown).confusions())
    assert len(cells) == len(ACT) * (1 if sal is None else 2 * len(sal))
    assert len({cell for cell, _ in cells}) == len(set(ACT)) * (1 if sal is None else 2 * len(sal))
    for cell, confusion in cells:
        expected = count_one_by_one(shown, cell)
        np.testing.assert_array_equal(confusion.matrix, expected.matrix, err_msg=str(cell))
        np.testing.assert_array_equal(confusion.unscored, expected.unscored, err_msg=str(cell))


def test_parts_add_up_in_any_order() -> None:
    shown = pictures()
    whole, parts = filled(SAL, shown), ThresholdGrid(ACT, SAL, CLASSES)
    for part in (shown[3:], shown[:3]):
        parts.add_sparse(*filled(SAL, part).sparse())
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert whole.counts.sum() == sum((truth != 255).sum() for truth, *_ in shown)


def test_memory_is_that_of_the_thresholds_and_classes() -> None:
    grid = filled(SAL, pictures())
    assert grid.counts.shape == (len(set(ACT)) + 1, 2 * (len(SAL) + 1), CLASSES, CLASSES)
    assert filled([0.5], []).counts.shape[1] == 2


def test_more_thresholds_than_memory_are_refused() -> None:
    many = np.linspace(0, 1, 1000).tolist()
    with pytest.raises(UserError, match=r"1000 activation and 2002 states .* 6742 MiB per grid"):
        ThresholdGrid(many, many, 21)
    with pytest.raises(UserError, match="Take fewer"):
        ThresholdGrid(many, many[:9], 81)


def test_refuses_what_does_not_fit() -> None:
    truth, cam, ids, saliency = pictures()[2]
    grid = ThresholdGrid(ACT, SAL, CLASSES)
    with pytest.raises(ValueError, match="go together"):
        grid.add(truth, cam, ids)
    with pytest.raises(ValueError, match="differ in size"):
        grid.add(truth, cam, ids, saliency[:, 1:])
    with pytest.raises(ValueError, match="ascending class ids"):
        grid.add(truth, cam, ids[::-1], saliency)
    with pytest.raises(UserError, match="holds class 9"):
        grid.add(np.full_like(truth, 9), cam, ids, saliency)
    assert grid.counts.sum() == 0
    with pytest.raises(ValueError, match="0 to 1"):
        ThresholdGrid([0.5], [1.2], CLASSES)
