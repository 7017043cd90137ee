"""The dense CRF against recorded outputs and small truths, with both backends."""

import importlib.util
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch

from misc.crf import (
    DEEPLAB_CRF,
    MASK_CRF,
    SEED_CRF,
    CrfParams,
    DenseCrf,
    crf_device,
    crf_has_threads,
)
from misc.crf.dense_crf import losing_probability
from misc.crf.mean_field import TorchMeanField
from misc.errors import UserError
from tests.helpers.paths import GOLDEN
from tests.helpers.pretended_device import pretending
from tests.helpers.tiny import needs_pydensecrf

VARIANTS = {
    "default": SEED_CRF,
    "sxy20": MASK_CRF,
    "t1": CrfParams(iterations=1),
    "nlabels21": SEED_CRF,
}
RECORDED = [
    (image_id, variant)
    for image_id in ("2007_000001", "2007_000010", "2007_000011")
    for variant in VARIANTS
    if variant != "nlabels21" or image_id == "2007_000001"
]
MAX_DIFFERING = {"pydensecrf": 0.0, "torch": 1e-4}
"""Share of pixels whose label may differ from the recorded one."""


@pytest.fixture(params=[pytest.param("pydensecrf", marks=needs_pydensecrf), "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def records() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "g6_crf.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)


@pytest.fixture
def probabilities() -> np.ndarray:
    values = np.random.default_rng(2).random((3, 12, 17), dtype=np.float32)
    return values / values.sum(0)


@pytest.mark.parametrize(("image_id", "variant"), RECORDED)
def test_labels_equal_the_recorded_ones(
    records: dict[str, np.ndarray], backend: str, image_id: str, variant: str
) -> None:
    num_labels = 21 if variant == "nlabels21" else len(records[f"{image_id}/keys"])
    crf = DenseCrf(records[f"{image_id}/image_rgb"], VARIANTS[variant], backend=backend)
    labels = [records[f"{image_id}/{side}/{variant}/in"] for side in ("fg", "bg")]
    expected = [records[f"{image_id}/{side}/{variant}/out"] for side in ("fg", "bg")]
    for one, other in zip(crf.from_labels_many(labels, num_labels), expected, strict=True):
        assert np.mean(one != other) <= MAX_DIFFERING[backend]


@pytest.mark.parametrize("image_id", ["2007_000001", "2007_000010"])
def test_marginals_equal_the_recorded_ones(
    records: dict[str, np.ndarray], backend: str, image_id: str
) -> None:
    """The second image has pixels in no multiple of four: the phantom at the origin counts."""
    crf = DenseCrf(records[f"{image_id}/image_rgb"], backend=backend)
    expected = records[f"{image_id}/fg/default/Q"]
    marginals = crf.marginals_from_labels(records[f"{image_id}/fg/default/in"], len(expected))
    np.testing.assert_allclose(marginals, expected, atol=1e-5)


def test_seed_labels_of_every_recorded_image(backend: str) -> None:
    record = np.load(GOLDEN / "g1_boundary_label/default/intermediate.npz")
    images = np.load(GOLDEN / "decoded_voc.npz")
    for image_id in sorted({key.split("/")[0] for key in record.files}):
        crf = DenseCrf(images[f"{image_id}/img"], backend=backend)
        num_labels = len(np.load(GOLDEN / f"plugged_cams/{image_id}.npz")["keys"]) + 1
        for side in ("fg", "bg"):
            labels = crf.from_labels(record[f"{image_id}/{side}_in"], num_labels)
            differing = np.mean(labels != record[f"{image_id}/{side}_crf"])
            assert differing <= MAX_DIFFERING[backend], image_id


@needs_pydensecrf
@pytest.mark.parametrize(
    "params",
    [CrfParams(bilateral_sxy=80.0, bilateral_srgb=13.0), DEEPLAB_CRF, CrfParams(bilateral_sxy=3.3)],
)
def test_backends_agree_on_probabilities(
    image: np.ndarray, probabilities: np.ndarray, params: CrfParams
) -> None:
    one, other = (
        DenseCrf(image, params, backend=backend).from_probabilities(probabilities)
        for backend in ("pydensecrf", "torch")
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


@needs_pydensecrf
@pytest.mark.parametrize("last_stands_for", [1, 17])
def test_backends_agree_on_a_label_that_stands_for_others(
    image: np.ndarray, probabilities: np.ndarray, last_stands_for: int
) -> None:
    unary = -torch.from_numpy(probabilities).log().flatten(1)[None]
    one, other = (
        DenseCrf(image, backend=backend)._field.infer(unary, last_stands_for=last_stands_for)
        for backend in ("pydensecrf", "torch")
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_label_that_stands_for_others_loses_to_one_that_agrees_with_itself(backend: str) -> None:
    crf = DenseCrf(np.full((12, 17, 3), 90, np.uint8), backend=backend)
    unary = -torch.tensor([0.4, 0.6]).log()[None, :, None].expand(1, 2, 12 * 17)
    assert (crf._field.infer(unary, last_stands_for=1).argmax(1) == 1).all()
    assert (crf._field.infer(unary, last_stands_for=9).argmax(1) == 0).all()


def test_many_labels_that_all_but_win_change_nothing(image: np.ndarray, backend: str) -> None:
    """17 of 21 labels are just below what can win, and have half of the mass together."""
    values = np.random.default_rng(5).random((21, 12, 17), dtype=np.float32)
    values[4:] = 0.0285
    values[:4] = 0.05 + values[:4]
    values[:4] *= (1 - values[4:].sum(0)) / values[:4].sum(0)
    crf = DenseCrf(image, DEEPLAB_CRF, backend=backend)
    expected = crf.from_probabilities(values).argmax(0)
    np.testing.assert_array_equal(crf.labels_from_probabilities(values), expected)
    assert len(np.unique(expected)) > 2


def test_what_loses_is_below_its_share_by_what_others_can_say() -> None:
    """exp(-R / L) / L, where R is 1.5 times both weights: 13 for seeds, 7 for DeepLab."""
    assert losing_probability(4, CrfParams(gaussian_compat=0, bilateral_compat=0)) == 0.25
    assert losing_probability(21, SEED_CRF) == pytest.approx(0.018815, abs=1e-6)
    assert losing_probability(21, DEEPLAB_CRF) == pytest.approx(0.028883, abs=1e-6)


@pytest.fixture
def many_labels() -> np.ndarray:
    """A softmax (9,12,17): labels 1, 4 and 5 share the pixels, the others have little of each."""
    values = np.random.default_rng(3).random((9, 12, 17), dtype=np.float32) / 100
    values[[1, 4, 5]] = 0.3 + 70 * values[[1, 4, 5]]
    return values / values.sum(0)


def test_labels_that_can_win_nowhere_are_one(
    image: np.ndarray, backend: str, many_labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is that of all labels, with the mass of the others, but without their time."""
    crf = DenseCrf(image, DEEPLAB_CRF, backend=backend)
    expected = crf.from_probabilities(many_labels).argmax(0)
    seen: list[tuple[tuple[int, ...], int]] = []
    infer = type(crf._field).infer

    def watched(field: Any, unary: torch.Tensor, *, last_stands_for: int) -> torch.Tensor:
        seen.append((tuple(unary.shape), last_stands_for))
        rest = np.delete(many_labels, [1, 4, 5], axis=0).sum(0).ravel()
        np.testing.assert_allclose((-unary[0, -1]).exp(), rest, rtol=1e-3)
        return infer(field, unary, last_stands_for=last_stands_for)

    monkeypatch.setattr(type(crf._field), "infer", watched)
    labels = crf.labels_from_probabilities(many_labels)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {1, 4, 5}
    np.testing.assert_array_equal(labels, expected)
    assert seen == [((1, 4, 12 * 17), 6)]


def test_where_all_labels_can_win_all_take_part(
    image: np.ndarray, backend: str, probabilities: np.ndarray
) -> None:
    crf = DenseCrf(image, backend=backend)
    expected = crf.from_probabilities(probabilities).argmax(0)
    np.testing.assert_array_equal(crf.labels_from_probabilities(probabilities), expected)
    as_tensor = crf.labels_from_probabilities(torch.from_numpy(probabilities))
    np.testing.assert_array_equal(as_tensor.numpy(), expected)


def test_a_label_that_can_win_at_one_pixel_takes_part(image: np.ndarray, backend: str) -> None:
    crf = DenseCrf(image, CrfParams(iterations=0), backend=backend)
    probabilities = np.zeros((4, 12, 17), np.float32)
    probabilities[3] = 1
    assert (crf.labels_from_probabilities(probabilities) == 3).all()
    probabilities[:, 3, 5] = 0, 0.4, 0.3, 0.3
    labels = crf.labels_from_probabilities(probabilities)
    assert labels[3, 5] == 1
    assert (labels == 3).sum() == labels.size - 1


def test_an_image_without_classes_is_all_background(image: np.ndarray, backend: str) -> None:
    labels = DenseCrf(image, backend=backend).from_labels(np.zeros((12, 17), np.uint8), 1)
    np.testing.assert_array_equal(labels, np.zeros((12, 17)))
    assert labels.dtype == np.uint8


def test_no_lattice_is_built_where_none_is_needed(
    image: np.ndarray, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image without classes has one label; its CRF would take as long as any other's."""

    def refuse(*_arguments: object, **_settings: object) -> None:
        raise AssertionError("builds a lattice")

    monkeypatch.setattr("misc.crf.dense_crf.TorchMeanField", refuse)
    monkeypatch.setattr("misc.crf.dense_crf._PydensecrfField", refuse)
    crf = DenseCrf(image, backend=backend)
    assert not crf.from_labels(np.zeros((12, 17), np.uint8), 1).any()
    assert (crf.from_probabilities(np.ones((1, 12, 17), np.float32)) == 1).all()
    background = np.full((21, 12, 17), 0.001, np.float32)
    background[0] = 0.98
    np.testing.assert_array_equal(crf.labels_from_probabilities(background), np.zeros((12, 17)))
    with pytest.raises(AssertionError, match="builds a lattice"):
        crf.from_labels(np.zeros((12, 17), np.uint8), 2)


def test_lattices_are_built_once(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []

    def counted(*arguments: Any, **settings: Any) -> TorchMeanField:
        built.append(arguments)
        return TorchMeanField(*arguments, **settings)

    monkeypatch.setattr("misc.crf.dense_crf.TorchMeanField", counted)
    crf = DenseCrf(image, backend="torch")
    for num_labels in (2, 3):
        crf.from_labels(np.zeros((12, 17), np.uint8), num_labels)
    assert len(built) == 1


def test_a_small_hole_in_a_uniform_image_is_filled(backend: str) -> None:
    labels = np.ones((12, 17), np.uint8)
    labels[5:7, 8] = 0
    crf = DenseCrf(np.full((12, 17, 3), 90, np.uint8), backend=backend)
    np.testing.assert_array_equal(crf.from_labels(labels, 2), np.ones((12, 17)))


def test_labels_move_to_the_edge_of_a_colour(backend: str) -> None:
    image = np.full((20, 40, 3), 30, np.uint8)
    image[:, 18:] = 200
    truth = (image[..., 0] == 200).astype(np.uint8)
    shifted = np.roll(truth, 3, axis=1)
    shifted[:, :3] = 0
    labels = DenseCrf(image, backend=backend).from_labels(shifted, 2)
    np.testing.assert_array_equal(labels, truth)


def test_unsure_pixels_take_the_label_of_their_colour(backend: str) -> None:
    """However many they are: as labels of their own they would stay what they are."""
    image = np.full((20, 40, 3), 30, np.uint8)
    image[:, 18:] = 200
    truth = (image[..., 0] == 200).astype(np.uint8)
    labels = np.full((20, 40), 255, np.uint8)
    labels[:, :4], labels[:, -4:] = 0, 1
    crf = DenseCrf(image, backend=backend)
    np.testing.assert_array_equal(crf.from_labels(labels, 2, unsure=255), truth)
    with pytest.raises(UserError, match="expected 0 to 1"):
        crf.from_labels(labels, 2)
    with pytest.raises(UserError, match="labels 0 to 2"):
        crf.from_labels(np.where(labels == 1, 2, labels), 2, unsure=255)
    empty = np.where(labels == 255, 255, 0).astype(np.uint8)  # of an image without classes
    np.testing.assert_array_equal(crf.from_labels(empty, 1, unsure=255), np.zeros((20, 40)))


def test_no_iterations_return_the_unary(
    image: np.ndarray, backend: str, probabilities: np.ndarray
) -> None:
    labels = np.random.default_rng(1).integers(0, 3, (12, 17))
    crf = DenseCrf(image, CrfParams(iterations=0), backend=backend)
    np.testing.assert_array_equal(crf.from_labels(labels, 3), labels)
    marginals = crf.marginals_from_labels(labels, 3, gt_prob=0.8)
    np.testing.assert_allclose(marginals.max(0), 0.8, atol=1e-6)
    np.testing.assert_allclose(marginals.min(0), 0.1, atol=1e-6)
    np.testing.assert_allclose(crf.from_probabilities(probabilities), probabilities, atol=1e-4)


def test_one_object_serves_different_numbers_of_labels(image: np.ndarray, backend: str) -> None:
    labels = np.random.default_rng(1).integers(0, 2, (12, 17))
    crf = DenseCrf(image, backend=backend)
    for num_labels in (2, 5, 2):
        alone = DenseCrf(image, backend=backend).marginals_from_labels(labels, num_labels)
        np.testing.assert_array_equal(crf.marginals_from_labels(labels, num_labels), alone)


def test_labellings_in_one_batch_equal_one_by_one(image: np.ndarray, backend: str) -> None:
    labels = list(np.random.default_rng(1).integers(0, 3, (3, 12, 17)))
    crf = DenseCrf(image, backend=backend)
    for one, labelling in zip(crf.from_labels_many(labels, 3), labels, strict=True):
        np.testing.assert_array_equal(one, crf.from_labels(labelling, 3))


def test_tensors_give_tensors(image: np.ndarray, backend: str, probabilities: np.ndarray) -> None:
    crf = DenseCrf(torch.from_numpy(image), backend=backend)
    marginals = crf.from_probabilities(torch.from_numpy(probabilities))
    np.testing.assert_array_equal(marginals.numpy(), crf.from_probabilities(probabilities))
    labels = torch.from_numpy(probabilities.argmax(0))
    assert crf.from_labels(labels, 3).dtype == torch.uint8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_labels(records: dict[str, np.ndarray]) -> None:
    crf = DenseCrf(records["2007_000010/image_rgb"], backend="torch", device="cuda")
    labels = crf.from_labels(records["2007_000010/fg/default/in"], 4)
    differing = np.mean(labels != records["2007_000010/fg/default/out"])
    assert differing <= MAX_DIFFERING["torch"]


def test_a_device_is_waited_for_once_a_lattice_and_for_the_labels_that_can_win(
    image: np.ndarray, many_labels: np.ndarray
) -> None:
    """However many CRFs follow; and a device gives the CPU's bytes."""
    of_labels = torch.from_numpy(many_labels.argmax(0))
    softmax = torch.from_numpy(many_labels)
    on_cpu = DenseCrf(image, DEEPLAB_CRF)
    lattice = ("to the CPU", "misc/crf/permutohedral.py:_checked_count")
    can_win = ("nonzero", "misc/crf/dense_crf.py:labels_from_probabilities")
    with pretending() as record:
        labels, probabilities = (
            each.to(record.device, non_blocking=True) for each in (of_labels, softmax)
        )
        crf = DenseCrf(image, DEEPLAB_CRF, device=record.device)
        strict, lenient = crf.from_labels_many([labels, labels], 9)
        assert record.waits == {lattice: 2}  # one for the position, one for the colour too
        likely = crf.labels_from_probabilities(probabilities)
        assert record.waits == {lattice: 2, can_win: 1}
        found = [each.cpu() for each in (strict, lenient, likely)]
    expected = [*on_cpu.from_labels_many([of_labels] * 2, 9)]
    expected.append(on_cpu.labels_from_probabilities(softmax))
    assert all(map(torch.equal, found, expected))


def test_arrays_may_be_read_only_and_not_contiguous(
    image: np.ndarray, backend: str, probabilities: np.ndarray
) -> None:
    expected = DenseCrf(image, backend=backend).from_probabilities(probabilities)
    turned = image.transpose(1, 0, 2).copy().transpose(1, 0, 2)
    turned_probabilities = probabilities.transpose(2, 1, 0).copy().transpose(2, 1, 0)
    turned.flags.writeable = False
    turned_probabilities.flags.writeable = False
    marginals = DenseCrf(turned, backend=backend).from_probabilities(turned_probabilities)
    np.testing.assert_array_equal(marginals, expected)


def test_bad_inputs_are_named(image: np.ndarray, backend: str) -> None:
    crf = DenseCrf(image, backend=backend)
    with pytest.raises(UserError, match=r"labels \(11, 17\) for an image of \(12, 17\)"):
        crf.from_labels(np.zeros((11, 17), np.uint8), 2)
    with pytest.raises(UserError, match="0 to 2, expected 0 to 1"):
        crf.from_labels(np.eye(12, 17, dtype=np.uint8) * 2, 2)
    with pytest.raises(UserError, match="-1 to 0"):
        crf.from_labels(-np.eye(12, 17, dtype=np.int64), 2)
    with pytest.raises(UserError, match="1 to 255 labels, got 0"):
        crf.from_labels(np.zeros((12, 17), np.uint8), 0)
    for method in (crf.from_probabilities, crf.labels_from_probabilities):
        with pytest.raises(UserError, match=r"probabilities \(2, 12, 16\)"):
            method(np.zeros((2, 12, 16), np.float32))
    with pytest.raises(UserError, match="1 to 255 labels, got 256"):
        crf.labels_from_probabilities(np.zeros((256, 12, 17), np.float32))
    with pytest.raises(UserError, match="uint8 RGB"):
        DenseCrf(image[..., 0], backend=backend)
    with pytest.raises(UserError, match="uint8 RGB"):
        DenseCrf(image.astype(np.float32), backend=backend)


def test_bad_backends_are_named(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="backend 'jax'"):
        DenseCrf(image, backend="jax")
    with pytest.raises(UserError, match="cannot run on cuda"):
        DenseCrf(image, backend="pydensecrf", device="cuda")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        DenseCrf(image, backend="pydensecrf")


def test_only_the_torch_backend_has_threads_and_goes_with_the_networks(backend: str) -> None:
    gpu = torch.device("cuda")
    assert crf_has_threads(backend) == (backend == "torch")
    assert crf_device(backend, gpu) == (gpu if backend == "torch" else torch.device("cpu"))


def test_the_numbers_are_the_published_ones() -> None:
    """xy and weight of the smooth kernel; xy, rgb and weight of the other; iterations."""
    assert astuple(SEED_CRF) == (3, 3, 50, 5, 10, 10)
    assert astuple(MASK_CRF) == (3, 3, 20, 5, 10, 10)
    assert astuple(DEEPLAB_CRF) == (1, 3, 67, 3, 4, 10)


def test_a_probability_of_zero_counts_as_one_in_a_hundred_thousand(
    image: np.ndarray, backend: str
) -> None:
    certain = np.zeros((2, 12, 17), np.float32)
    certain[0] = 1
    crf = DenseCrf(image, CrfParams(iterations=0), backend=backend)
    marginals = crf.from_probabilities(certain)
    np.testing.assert_allclose(marginals[1], 1e-5 / (1 + 1e-5), rtol=1e-3)
