from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from misc.boundary_label import (
    UNSURE,
    make_boundary_label,
    make_confident_regions,
    regions_to_mask,
    window_proportions,
)
from misc.codes import BoundaryLabel
from misc.crf import DenseCrf
from misc.errors import UserError
from tests.helpers.paths import ROOT

G1 = ROOT / "tests" / "golden" / "g1_boundary_label" / "default"
GOLDEN = ROOT / "tests" / "golden"
IDS = [f"2007_{index:06d}" for index in range(1, 13)]
# A window that covers all of a small picture, so that shares are the same everywhere.
WHOLE = 41

BACKGROUND = BoundaryLabel.BACKGROUND
FOREGROUND = BoundaryLabel.FOREGROUND
BETWEEN_CLASSES = BoundaryLabel.BETWEEN_CLASSES
AROUND_FOREGROUND = BoundaryLabel.AROUND_FOREGROUND
IGNORE = BoundaryLabel.IGNORE
SALIENCY_EDGE = BoundaryLabel.SALIENCY_EDGE


class RecordedCrf(DenseCrf):
    """Answers with recorded labellings and checks what it is asked."""

    def __init__(self, exchanges: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.exchanges = exchanges

    def from_labels_many(
        self, labels: Sequence[Any], num_labels: int, gt_prob: float = 0.7
    ) -> list[Any]:
        return [self._answer(each, num_labels, gt_prob) for each in labels]

    def _answer(self, labels: torch.Tensor, num_labels: int, gt_prob: float) -> torch.Tensor:
        given, answer = self.exchanges.pop(0)
        np.testing.assert_array_equal(labels, given)
        assert gt_prob == 0.7
        assert answer.max() < num_labels
        return torch.tensor(answer)


class UntouchedCrf(RecordedCrf):
    """Leaves every labelling as it is."""

    def __init__(self) -> None:
        super().__init__([])

    def _answer(self, labels: torch.Tensor, num_labels: int, gt_prob: float) -> torch.Tensor:
        return labels


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def decoded(image_id: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image, saliency, CAMs and 1-based class ids of a recorded example."""
    with np.load(GOLDEN / "decoded_voc.npz") as arrays:
        image = arrays[f"{image_id}/img"]
        saliency = (arrays[f"{image_id}/sal"] / 255).astype(np.float32)
    with np.load(GOLDEN / "plugged_cams" / f"{image_id}.npz") as arrays:
        return image, saliency, arrays["high_res"], arrays["keys"] + 1


def recorded_regions(image_id: str) -> np.ndarray:
    image, _, cam, _ = decoded(image_id)
    with np.load(G1 / "intermediate.npz") as recorded:
        exchanges = [
            (recorded[f"{image_id}/{name}_in"], recorded[f"{image_id}/{name}_crf"])
            for name in ("fg", "bg")
        ]
    return make_confident_regions(image, cam, crf=RecordedCrf(exchanges))


def counted(num_background: int, num_foreground: int, shape: tuple[int, int]) -> np.ndarray:
    """Regions with so many pixels of background and of class 1, the rest unsure."""
    regions = np.full(shape[0] * shape[1], UNSURE, np.uint8)
    regions[:num_background] = 0
    regions[num_background : num_background + num_foreground] = 1
    return regions.reshape(shape)


@pytest.mark.parametrize("image_id", IDS)
def test_confident_regions_equal_the_record_given_its_crf(image_id: str) -> None:
    class_ids = decoded(image_id)[3]
    mask = regions_to_mask(recorded_regions(image_id), class_ids)
    np.testing.assert_array_equal(mask, read_png(G1 / "cam_vis" / f"{image_id}.png"))


@pytest.mark.parametrize("image_id", IDS)
def test_confident_regions_equal_the_record_with_our_crf(image_id: str) -> None:
    image, _, cam, class_ids = decoded(image_id)
    mask = regions_to_mask(make_confident_regions(image, cam), class_ids)
    expected = read_png(G1 / "cam_vis" / f"{image_id}.png")
    # Identical with the same pydensecrf build; the record allows 0.1% between builds.
    assert np.mean(mask != expected) <= 0.001


@pytest.mark.parametrize("image_id", IDS)
def test_boundary_label_equals_the_record_pixel_by_pixel(image_id: str) -> None:
    _, saliency, _, class_ids = decoded(image_id)
    codes = make_boundary_label(recorded_regions(image_id), len(class_ids), saliency)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, read_png(G1 / "boundary_label" / f"{image_id}.png"))


def test_confident_regions_need_both_labellings_to_agree_on_background() -> None:
    cam = np.array([[[0.05, 0.2, 0.5, 0.9]], [[0.0, 0.0, 0.6, 0.9]]], np.float32)
    image = np.zeros((1, 4, 3), np.uint8)
    regions = make_confident_regions(image, cam, crf=UntouchedCrf())
    # Class 2 wins by score; of equal classes the first wins.
    np.testing.assert_array_equal(regions, [[0, UNSURE, 2, 1]])


def test_background_wins_ties_with_its_threshold() -> None:
    cam = np.full((1, 1, 1), 0.3, np.float32)
    image = np.zeros((1, 1, 3), np.uint8)
    assert make_confident_regions(image, cam, 0.3, 0.3, crf=UntouchedCrf())[0, 0] == 0


def test_what_the_crf_turns_into_background_in_one_labelling_only() -> None:
    cam = np.full((1, 1, 3), 0.5, np.float32)
    ones = np.ones((1, 3), np.uint8)
    strict, lenient = np.array([[1, 0, 0]], np.uint8), np.array([[0, 1, 0]], np.uint8)
    crf = RecordedCrf([(ones, strict), (ones, lenient)])
    regions = make_confident_regions(np.zeros((1, 3, 3), np.uint8), cam, crf=crf)
    np.testing.assert_array_equal(regions, [[1, UNSURE, 0]])


def test_tensors_give_the_same_regions_as_arrays() -> None:
    image, _, cam, _ = decoded(IDS[0])
    image, cam = image[:60, :80], cam[:, :60, :80]
    regions = make_confident_regions(image, torch.tensor(cam))
    assert isinstance(regions, torch.Tensor)
    assert regions.dtype == torch.uint8
    np.testing.assert_array_equal(regions, make_confident_regions(image, cam))


def test_image_without_a_class_is_all_background() -> None:
    image = np.zeros((6, 7, 3), np.uint8)
    regions = make_confident_regions(image, np.zeros((0, 6, 7), np.float32))
    np.testing.assert_array_equal(regions, np.zeros((6, 7)))
    codes = make_boundary_label(regions, 0, np.ones((6, 7), np.float32))
    np.testing.assert_array_equal(codes, np.full((6, 7), BACKGROUND))
    np.testing.assert_array_equal(make_boundary_label(regions, 0, None), codes)


@pytest.mark.parametrize("shape", [(2, 5, 6), (6, 5), (1, 6, 5, 1)])
def test_cam_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="for an image of"):
        make_confident_regions(np.zeros((6, 5, 3), np.uint8), np.zeros(shape, np.float32))


def test_more_classes_than_uint8_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="255 classes"):
        make_confident_regions(np.zeros((1, 1, 3), np.uint8), np.zeros((255, 1, 1), np.float32))


def test_regions_show_class_ids() -> None:
    regions = np.array([[0, 1, 2, UNSURE]], np.uint8)
    np.testing.assert_array_equal(regions_to_mask(regions, np.array([5, 20])), [[0, 5, 20, 255]])


@pytest.mark.parametrize("shape", [(40, 31), (5, 60), (1, 1), (13, 13)])
@pytest.mark.parametrize("window_size", [1, 3, 13])
def test_shares_equal_float32_average_pooling_bit_by_bit(
    shape: tuple[int, int], window_size: int
) -> None:
    regions = np.random.default_rng(1).choice([0, 1, 2, UNSURE], shape).astype(np.uint8)
    shares = window_proportions(regions, 2, window_size)
    assert shares.dtype == np.float32
    members = torch.from_numpy(np.stack([regions == index for index in range(3)]))
    pooled = torch.nn.functional.avg_pool2d(
        members.float(), window_size, stride=1, padding=window_size // 2, count_include_pad=False
    )
    np.testing.assert_array_equal(shares, pooled.numpy())


def test_shares_count_unsure_pixels_but_no_padding() -> None:
    regions = np.array([[0, 0, 1], [0, UNSURE, 1], [UNSURE, UNSURE, 1]], np.uint8)
    background, first = window_proportions(regions, 1, 3)
    np.testing.assert_allclose(background[1, 1], 3 / 9)
    np.testing.assert_allclose(background[0, 0], 3 / 4)
    np.testing.assert_allclose(first[2, 2], 2 / 4)


@pytest.mark.parametrize("window_size", [0, 12, -3])
def test_window_must_be_odd(window_size: int) -> None:
    with pytest.raises(UserError, match="--window_size"):
        make_boundary_label(np.zeros((9, 9), np.uint8), 1, None, window_size=window_size)


def test_insides_need_twice_theta_scale() -> None:
    for count, background_code, foreground_code in [(6, IGNORE, IGNORE), (7, 0, 50)]:
        codes = make_boundary_label(counted(count, 0, (1, 10)), 1, None, window_size=WHOLE)
        assert set(codes.flat) == {background_code}
        codes = make_boundary_label(counted(0, count, (1, 10)), 1, None, window_size=WHOLE)
        assert set(codes.flat) == {foreground_code}


@pytest.mark.parametrize(("theta_diff", "code"), [(0.125, BACKGROUND), (0.126, IGNORE)])
def test_insides_need_a_lead_of_twice_theta_diff(theta_diff: float, code: int) -> None:
    # Shares 5/8 and 3/8: a lead of exactly 0.25, which is enough when it is 2 x theta_diff.
    codes = make_boundary_label(
        counted(5, 3, (1, 8)), 1, None, window_size=WHOLE, theta_scale=0.3, theta_diff=theta_diff
    )
    assert set(codes.flat) == {code}


@pytest.mark.parametrize(("theta_diff", "code"), [(0.125, IGNORE), (0.126, AROUND_FOREGROUND)])
def test_boundary_needs_sides_closer_than_theta_diff(theta_diff: float, code: int) -> None:
    codes = make_boundary_label(
        counted(4, 3, (1, 8)), 1, None, window_size=WHOLE, theta_diff=theta_diff
    )
    assert set(codes.flat) == {code}


@pytest.mark.parametrize(("theta_diff", "code"), [(0.125, IGNORE), (0.126, BETWEEN_CLASSES)])
def test_classes_need_shares_closer_than_theta_diff(theta_diff: float, code: int) -> None:
    regions = np.where(counted(4, 3, (1, 8)) == 0, 2, counted(4, 3, (1, 8))).astype(np.uint8)
    codes = make_boundary_label(regions, 2, None, window_size=WHOLE, theta_diff=theta_diff)
    assert set(codes.flat) == {code}


@pytest.mark.parametrize(
    ("num_background", "num_foreground", "code"),
    [(5, 5, AROUND_FOREGROUND), (4, 4, AROUND_FOREGROUND), (3, 3, IGNORE), (4, 6, IGNORE)],
)
def test_boundary_needs_more_than_theta_scale_of_both_sides(
    num_background: int, num_foreground: int, code: int
) -> None:
    regions = counted(num_background, num_foreground, (1, 10))
    codes = make_boundary_label(regions, 1, None, window_size=WHOLE)
    assert set(codes.flat) == {code}


@pytest.mark.parametrize(("num_background", "num_foreground"), [(6, 7), (7, 6)])
def test_a_side_of_theta_scale_is_too_small_for_a_boundary(
    num_background: int, num_foreground: int
) -> None:
    """0.3 of the window and 0.35, which are close enough."""
    regions = counted(num_background, num_foreground, (2, 10))
    codes = make_boundary_label(regions, 1, None, window_size=WHOLE)
    assert set(codes.flat) == {IGNORE}


@pytest.mark.parametrize(
    ("num_background", "num_foreground", "code"), [(29, 22, AROUND_FOREGROUND), (36, 29, IGNORE)]
)
def test_ties_of_shares_fall_as_in_float32(
    num_background: int, num_foreground: int, code: int
) -> None:
    # 7 of 70 pixels apart is 0.1 exactly; float32 puts one pair below and one pair at it, and
    # float64 does the opposite.
    regions = counted(num_background, num_foreground, (7, 10))
    codes = make_boundary_label(regions, 1, None, window_size=WHOLE)
    assert set(codes.flat) == {code}
    background, first = num_background / 70, num_foreground / 70
    assert (abs(background - first) < 0.1) == (code == IGNORE)


def test_later_wins_between_classes_over_around_foreground() -> None:
    regions = np.repeat(np.arange(3, dtype=np.uint8), 3).reshape(3, 3)
    codes = make_boundary_label(regions, 2, None, window_size=WHOLE)
    assert set(codes.flat) == {BETWEEN_CLASSES}


def test_later_wins_foreground_over_black_saliency() -> None:
    regions = np.ones((8, 8), np.uint8)
    codes = make_boundary_label(regions, 1, np.zeros((8, 8), np.float32))
    assert set(codes.flat) == {FOREGROUND}


def test_later_wins_saliency_edge_over_all() -> None:
    saliency = np.zeros((20, 20), np.float32)
    saliency[:, 10:] = 1
    for regions in (np.zeros((20, 20), np.uint8), np.ones((20, 20), np.uint8)):
        codes = make_boundary_label(regions, 1, saliency)
        assert set(codes[:, 9:11].flat) == {SALIENCY_EDGE}
        assert SALIENCY_EDGE not in codes[:, [*range(7), *range(13, 20)]]
    halves = (saliency > 0).astype(np.uint8)
    assert set(make_boundary_label(halves, 1, saliency)[:, 9:11].flat) == {SALIENCY_EDGE}
    assert AROUND_FOREGROUND in make_boundary_label(halves, 1, None)[:, 9:11]


def test_saliency_edge_must_exceed_its_threshold() -> None:
    unsure = np.full((5, 6), UNSURE, np.uint8)
    saliency = np.zeros((5, 6), np.float32)
    saliency[:, 3:] = 1
    # The edge's magnitude is 4 in the two middle columns.
    at_edge = make_boundary_label(unsure, 1, saliency, salbound_thres=4.0)
    assert SALIENCY_EDGE not in at_edge
    below = make_boundary_label(unsure, 1, saliency, salbound_thres=np.nextafter(4.0, 0))
    assert (below == SALIENCY_EDGE).sum() == 10


def test_saliency_is_divided_by_its_own_maximum() -> None:
    regions = np.full((12, 12), UNSURE, np.uint8)
    saliency = np.zeros((12, 12), np.float32)
    saliency[4:8, 4:8] = 1
    expected = make_boundary_label(regions, 1, saliency)
    assert SALIENCY_EDGE in expected
    faint = saliency * np.float32(3 / 255)
    np.testing.assert_array_equal(make_boundary_label(regions, 1, faint), expected)


def test_an_edge_is_faint_or_strong_beside_the_strongest() -> None:
    """A step of 0.1 of the maximum has the Sobel magnitude 0.4."""
    regions = np.full((9, 20), UNSURE, np.uint8)
    saliency = np.zeros((9, 20), np.float32)
    saliency[:, :10], saliency[:, 10:14], saliency[:, 14:] = 20 / 255, 25 / 255, 50 / 255
    codes = make_boundary_label(regions, 1, saliency)
    assert SALIENCY_EDGE not in codes[:, 8:12]
    assert (codes[:, 13:15] == SALIENCY_EDGE).all()


def test_all_black_saliency_means_background_without_nan() -> None:
    regions = np.full((9, 9), UNSURE, np.uint8)
    codes = make_boundary_label(regions, 1, np.zeros((9, 9), np.float32))
    assert set(codes.flat) == {BACKGROUND}


def test_saliency_background_threshold_is_zero_by_default() -> None:
    regions = np.full((9, 9), UNSURE, np.uint8)
    saliency = np.full((9, 9), 1 / 255, np.float32)
    saliency[0, 0] = 1
    codes = make_boundary_label(regions, 1, saliency, salbound_thres=4)
    assert set(codes.flat) == {IGNORE}


def test_saliency_background_threshold_includes_its_own_value() -> None:
    regions = np.full((1, 4), UNSURE, np.uint8)
    saliency = (np.array([[0, 51, 52, 255]]) / 255).astype(np.float32)
    codes = make_boundary_label(regions, 1, saliency, sal_bg_thres=0.2)
    np.testing.assert_array_equal(codes, [[0, 0, IGNORE, IGNORE]])


def test_without_saliency_it_is_bes() -> None:
    """No code from saliency, and where saliency said nothing the codes are the same."""
    for image_id in ("2007_000003", "2007_000010"):
        _, saliency, _, class_ids = decoded(image_id)
        regions = recorded_regions(image_id)
        bes = make_boundary_label(regions, len(class_ids), None)
        sbe = make_boundary_label(regions, len(class_ids), saliency)
        assert SALIENCY_EDGE not in bes
        changed = bes != sbe
        assert set(sbe[changed]) == {BACKGROUND, SALIENCY_EDGE}
        assert set(bes[changed & (sbe == BACKGROUND)]) == {IGNORE}


def test_saliency_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"saliency is \(9, 8\)"):
        make_boundary_label(np.zeros((8, 9), np.uint8), 1, np.zeros((9, 8), np.float32))


def test_inputs_are_left_alone() -> None:
    rng = np.random.default_rng(2)
    regions = rng.choice([0, 1, 2, UNSURE], (30, 30)).astype(np.uint8)
    saliency = rng.random((30, 30), np.float32)
    before = regions.copy(), saliency.copy()
    make_boundary_label(regions, 2, saliency)
    np.testing.assert_array_equal(regions, before[0])
    np.testing.assert_array_equal(saliency, before[1])
