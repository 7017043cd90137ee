import json
import math
import pickle
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from misc.errors import UserError
from misc.metrics import ConfusionMatrix, ThresholdSweep
from tests.helpers.paths import GOLDEN

Arrays = dict[str, np.ndarray]
G7 = tuple[Arrays, dict[str, Any]]

CASES = ["all21", "missing_classes", "pred_has_255", "all_void_image", "bg_only"]
IDS = [f"2007_{i:06d}" for i in range(1, 11)]


@pytest.fixture(scope="module")
def g7() -> G7:
    expected = json.loads((GOLDEN / "g7_eval.json").read_text(encoding="utf-8"))
    return dict(np.load(GOLDEN / "g7_eval.npz")), expected


@pytest.fixture(scope="module")
def decoded() -> Arrays:
    return dict(np.load(GOLDEN / "decoded_voc.npz"))


def confusion_of_case(arrays: Arrays, case: str) -> ConfusionMatrix:
    confusion = ConfusionMatrix(21)
    image = 0
    while f"{case}/pred{image}" in arrays:
        confusion.add(arrays[f"{case}/gt_raw{image}"], arrays[f"{case}/pred{image}"])
        image += 1
    assert image > 0
    return confusion


def assert_padded(ours: np.ndarray, golden: np.ndarray) -> None:
    """chainercv's matrix ends at the largest id met; ours has all classes, the rest empty."""
    size = len(golden)
    np.testing.assert_array_equal(ours[:size, :size], golden)
    assert ours.sum() == golden.sum()


def reference_eval_cam(cam: np.ndarray, class_ids: np.ndarray, threshold: float) -> np.ndarray:
    padded = np.pad(cam, ((1, 0), (0, 0), (0, 0)), mode="constant", constant_values=threshold)
    return np.pad(class_ids, (1, 0))[np.argmax(padded, axis=0)]


@pytest.mark.parametrize("case", CASES)
def test_chainercv_cases_are_reproduced_exactly(g7: G7, case: str) -> None:
    arrays, expected = g7
    confusion = confusion_of_case(arrays, case)
    scores = confusion.scores()
    assert_padded(confusion.matrix, arrays[f"{case}/confusion"])
    size = len(arrays[f"{case}/iou"])
    for name in ("iou", "fp", "fn"):
        golden = arrays[f"{case}/{name}"]
        np.testing.assert_array_equal(getattr(scores, name)[:size], golden)
        assert np.isnan(getattr(scores, name)[size:]).all()
    assert scores.miou == pytest.approx(expected[case]["miou_nanmean"], abs=1e-15)
    assert scores.fp[0] == expected[case]["fp0"]
    assert scores.fn[0] == expected[case]["fn0"]
    total = confusion.matrix.sum() + confusion.unscored.sum()
    assert total == arrays[f"{case}/total_incl_void_pred"]


def test_mean_foreground_errors_skip_absent_classes_where_the_reference_gives_nan(g7: G7) -> None:
    arrays, expected = g7
    scores = confusion_of_case(arrays, "all21").scores()
    assert scores.fp_foreground == pytest.approx(expected["all21"]["mean_fp_1plus"], abs=1e-15)
    assert scores.fn_foreground == pytest.approx(expected["all21"]["mean_fn_1plus"], abs=1e-15)
    assert math.isnan(expected["missing_classes"]["mean_fp_1plus"])
    scores = confusion_of_case(arrays, "missing_classes").scores()
    assert scores.fp_foreground == pytest.approx(np.mean(scores.fp[[3, 9, 15]]), abs=1e-15)
    assert math.isnan(confusion_of_case(arrays, "bg_only").scores().fp_foreground)


def test_predictions_of_no_class_are_dropped_as_in_the_reference_unless_asked_for(g7: G7) -> None:
    arrays, _ = g7
    confusion = confusion_of_case(arrays, "pred_has_255")
    assert confusion.unscored.sum() == 358
    dropped, counted = confusion.scores(), confusion.scores(count_unscored=True)
    assert counted.miou < dropped.miou
    # By hand: the union of a class grows by its pixels that were predicted as no class.
    diagonal = np.diag(confusion.matrix)
    union = confusion.matrix.sum(1) + confusion.matrix.sum(0) - diagonal + confusion.unscored
    assert counted.iou[3] == diagonal[3] / union[3]


@pytest.mark.parametrize("suffix", ["", "_crf"])
def test_masks_of_the_recorded_pipeline_give_its_confusion(decoded: Arrays, suffix: str) -> None:
    folder = GOLDEN / "g8b_sem_seg_given_edges"
    confusion = ConfusionMatrix(21)
    for image_id in IDS:
        with Image.open(folder / "sem_seg" / f"{image_id}{suffix}.png") as png:
            confusion.add(decoded[f"{image_id}/gt"], np.array(png))
    expected = np.load(folder / "eval_confusion.npz")["crf" if suffix else "rw"]
    assert_padded(confusion.matrix, expected)
    stdout = (folder / "eval_stdout.txt").read_text(encoding="utf-8")
    key = "'miou_crf': " if suffix else "'miou': "
    printed = float(stdout.split(key)[1].split("}")[0])
    assert confusion.scores().miou == pytest.approx(printed, abs=1e-15)


@pytest.mark.parametrize(("case", "key"), [("g8", "g8_miou"), ("g8_crf", "g8_crf_miou")])
def test_scores_of_recorded_matrices(g7: G7, case: str, key: str) -> None:
    arrays, expected = g7
    confusion = ConfusionMatrix(17)
    confusion.matrix += arrays[f"{case}/confusion"]
    assert confusion.scores().miou == pytest.approx(expected[key], abs=1e-15)


def test_sweep_gives_the_recorded_eval_cam(g7: G7, decoded: Arrays) -> None:
    arrays, expected = g7
    sweep = ThresholdSweep([0.5, 0.21, 0.05], 21)
    for image_id in IDS:
        record = np.load(GOLDEN / "plugged_cams" / f"{image_id}.npz")
        sweep.add(decoded[f"{image_id}/gt"], record["high_res"], record["keys"] + 1)
    assert_padded(sweep.confusion(1).matrix, arrays["eval_cam/confusion"])
    miou = sweep.confusion(1).scores().miou
    assert miou == pytest.approx(expected["eval_cam_miou"], abs=1e-15)
    assert sweep.best() == int(np.argmax([sweep.confusion(i).scores().miou for i in range(3)]))


def test_two_pixels_by_hand() -> None:
    confusion = ConfusionMatrix(2)
    confusion.add(np.array([[0, 1, 1, 255]], np.uint8), np.array([[0, 1, 0, 1]]))
    np.testing.assert_array_equal(confusion.matrix, [[1, 0], [1, 1]])
    scores = confusion.scores()
    np.testing.assert_array_equal(scores.iou, [0.5, 0.5])
    np.testing.assert_array_equal(scores.fp, [0.5, 0.0])
    np.testing.assert_array_equal(scores.fn, [0.0, 0.5])
    assert math.isnan(ConfusionMatrix(3).scores().miou)


def test_miou_over_some_classes() -> None:
    confusion = ConfusionMatrix(4)
    confusion.matrix += np.diag([3, 1, 0, 2])
    confusion.matrix[0, 3] = 2
    scores = confusion.scores()
    assert scores.miou == pytest.approx((3 / 5 + 1 + 2 / 4) / 3)
    assert scores.miou_over([1, 2, 3]) == pytest.approx((1 + 2 / 4) / 2)


def test_merged_matrices_equal_one_pass_and_survive_pickling() -> None:
    rng = np.random.default_rng(0)
    parts, whole = [ConfusionMatrix(5), ConfusionMatrix(5)], ConfusionMatrix(5)
    for image in range(4):
        gt = rng.choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), (7, 9))
        pred = rng.integers(0, 7, (7, 9))
        parts[image % 2].add(gt, pred)
        whole.add(gt, pred)
    merged = pickle.loads(pickle.dumps(parts[0]))
    merged.merge(parts[1])
    np.testing.assert_array_equal(merged.matrix, whole.matrix)
    np.testing.assert_array_equal(merged.unscored, whole.unscored)
    assert whole.unscored.sum() > 0


def test_mistakes_are_named_and_leave_the_counts_alone(g7: G7) -> None:
    gt = np.zeros((4, 5), np.uint8)
    confusion, sweep = ConfusionMatrix(3), ThresholdSweep([0.5], 3)
    cam = np.ones((1, 4, 5), np.float32)
    _, expected = g7
    with pytest.raises(ValueError, match="Shape of ground truth and prediction") as error:
        confusion.add(gt, np.zeros((5, 4), np.uint8))
    assert str(error.value).split(", got")[0] in expected["shape_mismatch"]
    with pytest.raises(ValueError, match="Shape of ground truth"):
        sweep.add(gt.T, cam, np.array([1]))
    with pytest.raises(UserError, match="holds class 3, but there are only 3 classes"):
        confusion.add(gt + np.uint8(3), gt)
    with pytest.raises(UserError, match="holds class 3"):
        sweep.add(gt + np.uint8(3), cam, np.array([1]))
    with pytest.raises(UserError, match="holds class 254"):
        sweep.add(gt + np.uint8(254), cam[:0], np.array([], np.int64))
    with pytest.raises(ValueError, match=r"must hold integers in 0\.\.255"):
        confusion.add(gt, np.full((4, 5), -1))
    with pytest.raises(ValueError, match="its type is float32"):
        confusion.add(gt, cam[0])
    with pytest.raises(ValueError, match="NaN"):
        sweep.add(gt, np.where(np.arange(5) == 2, np.nan, cam), np.array([1]))
    for class_ids in ([0], [3], [1, 2], [[1]]):
        with pytest.raises(ValueError, match=r"ascending class ids in 1\.\.2"):
            sweep.add(gt, cam, np.array(class_ids))
    with pytest.raises(ValueError, match="ascending"):
        sweep.add(gt, np.ones((2, 4, 5), np.float32), np.array([2, 1]))
    assert confusion.matrix.sum() == sweep.confusion(0).matrix.sum() == 0
    for num_classes in (0, 256):
        with pytest.raises(ValueError, match="num_classes"):
            ConfusionMatrix(num_classes)
    for thresholds in ([], [float("nan")]):
        with pytest.raises(ValueError, match="thresholds"):
            ThresholdSweep(thresholds, 3)
    with pytest.raises(ValueError, match="same thresholds"):
        sweep.merge(ThresholdSweep([0.4], 3))
    with pytest.raises(ValueError, match="Shape"):
        confusion.merge(ConfusionMatrix(4))


def random_image(
    rng: np.random.Generator, num_classes: int, max_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = tuple(rng.integers(1, 24, 2))
    gt = rng.choice(np.array([*range(num_classes), 255], np.uint8), shape)
    count = rng.integers(0, max_classes + 1)
    class_ids = np.sort(rng.choice(np.arange(1, num_classes), count, replace=False))
    # A coarse grid of values makes ties between classes and with thresholds common.
    cam = (rng.integers(-2, 24, (count, *shape)) / np.float32(20)).astype(np.float32)
    return gt, cam, class_ids


@pytest.mark.parametrize("seed", range(12))
def test_sweep_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(3, 23))
    grid = np.arange(-3, 25) / 20
    # Unsorted, repeated, closer than a cell, outside 0..1 and equal after rounding to float32.
    thresholds = [*rng.permutation(grid), 0.21, 0.21, 0.2100001, 0.2100002, 0.21 + 1e-12, -1, 9.0]
    sweep, other = ThresholdSweep(thresholds, num_classes), ThresholdSweep(thresholds, num_classes)
    expected = [ConfusionMatrix(num_classes) for _ in thresholds]
    for image in range(6):
        gt, cam, class_ids = random_image(rng, num_classes, min(4, num_classes - 1))
        (sweep, other)[image % 2].add(gt, cam, class_ids)
        for confusion, threshold in zip(expected, thresholds, strict=True):
            confusion.add(gt, reference_eval_cam(cam, class_ids, threshold))
    sweep.merge(pickle.loads(pickle.dumps(other)))
    for i, confusion in enumerate(expected):
        np.testing.assert_array_equal(sweep.confusion(i).matrix, confusion.matrix)


def test_a_tie_with_the_threshold_is_background_and_between_classes_the_first() -> None:
    sweep = ThresholdSweep([0.21, np.nextafter(np.float32(0.21), np.float32(0))], 4)
    cam = np.full((2, 1, 1), 0.21, np.float32)
    sweep.add(np.array([[1]], np.uint8), cam, np.array([1, 3]))
    assert sweep.confusion(0).matrix[1].tolist() == [1, 0, 0, 0]
    assert sweep.confusion(1).matrix[1].tolist() == [0, 1, 0, 0]
    assert sweep.best() == 1


def test_an_image_without_classes_is_all_background() -> None:
    sweep = ThresholdSweep([0.1, 0.9], 3)
    gt = np.array([[0, 2, 255]], np.uint8)
    sweep.add(gt, np.zeros((0, 1, 3), np.float32), np.array([], np.int64))
    for i in range(2):
        assert sweep.confusion(i).matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert ThresholdSweep([0.1], 3).best() == 0


@pytest.mark.slow
def test_a_hundred_thresholds_cost_at_most_a_third_more_than_one() -> None:
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 21, (375, 500)).astype(np.uint8)
    cam = rng.random((2, 375, 500), dtype=np.float32)

    def seconds(thresholds: Sequence[float]) -> float:
        sweep = ThresholdSweep(thresholds, 21)
        start = time.process_time()
        for _ in range(5):
            sweep.add(gt, cam, np.array([3, 9]))
        return time.process_time() - start

    rounds = [(seconds([0.21]), seconds([i / 100 for i in range(100)])) for _ in range(9)]
    one, hundred = np.min(rounds, axis=0)
    assert hundred <= 1.3 * one
