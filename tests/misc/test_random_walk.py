"""The random walk against the reference's records, its definition and tiny truths."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from torch import Tensor

from misc.affinity import affinity_matrix, transition_matrix
from misc.random_walk import (
    CHEBYSHEV_TOLERANCE,
    METHODS,
    chebyshev_coefficients,
    random_walk,
    random_walk_many,
)
from tests.helpers.paths import GOLDEN

Arrays = dict[str, np.ndarray]
KINDS = [
    "24x31_random",
    "24x31_smooth",
    "40x50_random",
    "40x50_smooth",
    "40x50_sparse",
    "63x47_smooth",
]
# Of the maximum: what the reference's own float32 differs from float64, and ours from float64.
FLOAT32_TOLERANCE = 7e-5
FLOAT64_TOLERANCE = {"chebyshev": 1e-8, "exact": 1e-11}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads on so small grids would do little but wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def golden() -> Arrays:
    with np.load(GOLDEN / "g2_random_walk.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def photograph() -> dict[str, Tensor]:
    """Cam and boundary of a 500x375 image, and its walk in float64."""
    with np.load(GOLDEN / "g2_big_94x125_beta5.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def random_pair(h: int, w: int, classes: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(classes, h, w, generator=generator), torch.rand(h, w, generator=generator)


def relative_error(result: Tensor, expected: Tensor | np.ndarray) -> float:
    expected = np.asarray(expected, dtype=np.float64)
    return np.abs(np.asarray(result, dtype=np.float64) - expected).max() / expected.max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_walk_equals_the_reference(golden: Arrays, kind: str, method: str) -> None:
    cam = torch.from_numpy(golden[f"{kind}/cam"])
    boundary = torch.from_numpy(golden[f"{kind}/edge"][0])
    matches = [re.fullmatch(rf"{kind}/beta(\d+)_exp(\d)/rw_f64", name) for name in golden]
    settings = [(int(match[1]), int(match[2])) for match in matches if match]
    assert len(settings) >= 2
    for beta, exp_times in settings:
        record = f"{kind}/beta{beta}_exp{exp_times}"
        walked = random_walk(cam.double(), boundary, beta=beta, exp_times=exp_times, method=method)
        exact = golden[f"{record}/rw_f64"][:, 0]
        assert relative_error(walked, exact) < FLOAT64_TOLERANCE[method]
        walked = random_walk(cam, boundary, beta=beta, exp_times=exp_times, method=method)
        assert relative_error(walked, golden[f"{record}/rw_f32"][:, 0]) < FLOAT32_TOLERANCE


@pytest.mark.parametrize("method", METHODS)
def test_walk_of_a_whole_photograph(photograph: dict[str, Tensor], method: str) -> None:
    walked = random_walk(photograph["cam"].double(), photograph["edge"][0], method=method)
    exact = photograph["rw_f64_sparse"][:, 0]
    assert relative_error(walked, exact) < FLOAT64_TOLERANCE[method]
    assert relative_error(walked, photograph["rw_f32"][:, 0]) < FLOAT32_TOLERANCE


@pytest.mark.parametrize("number", range(1, 11))
def test_walk_of_the_references_masks(number: int) -> None:
    image_id = f"2007_{number:06d}"
    with np.load(GOLDEN / "plugged_cams" / f"{image_id}.npz") as file:
        cam = torch.from_numpy(file["cam"])
    with np.load(GOLDEN / "g8b_sem_seg_given_edges" / "sem_seg.npz") as file:
        boundary, expected = torch.from_numpy(file[f"{image_id}/edge"][0]), file[f"{image_id}/rw"]
    assert relative_error(random_walk(cam, boundary), expected[:, 0]) < FLOAT32_TOLERANCE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("radius", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 3), (12, 17)])
def test_walk_equals_powers_of_the_dense_transition(
    size: tuple[int, int], radius: int, method: str
) -> None:
    cam, boundary = random_pair(*size)
    affinity = affinity_matrix(boundary, beta=3, radius=radius).to_dense().numpy()
    transition = np.linalg.matrix_power(affinity / affinity.sum(0), 2**4)
    expected = (cam * (1 - boundary.double())).reshape(2, -1).numpy() @ transition
    walked = random_walk(cam.double(), boundary, beta=3, exp_times=4, radius=radius, method=method)
    np.testing.assert_allclose(walked.reshape(2, -1), expected, rtol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_wall_of_boundary_stops_the_walk(method: str) -> None:
    boundary = torch.zeros(12, 15)
    boundary[:, 7] = 1
    cam = torch.zeros(1, 12, 15)
    cam[:, :, :7] = 1
    walked = random_walk(cam, boundary, method=method)
    np.testing.assert_allclose(walked[:, :, :7], 1, rtol=1e-6)
    assert (walked[:, :, 7:] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_step_when_exp_times_is_zero(method: str) -> None:
    cam, boundary = random_pair(8, 9)
    walked = random_walk(cam.double(), boundary, exp_times=0, method=method)
    transition = transition_matrix(boundary).to_dense().T
    expected = (cam * (1 - boundary.double())).reshape(2, -1) @ transition
    np.testing.assert_allclose(walked.reshape(2, -1), expected, rtol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_all_zero_cam_stays_zero(method: str) -> None:
    walked = random_walk(torch.zeros(2, 9, 9), random_pair(9, 9)[1], method=method)
    assert (walked == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_wall_everywhere_gives_zeros_not_nan(method: str) -> None:
    walked = random_walk(random_pair(6, 6)[0], torch.ones(6, 6), method=method)
    assert (walked == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_equal_scores_stay_equal_without_boundary(method: str) -> None:
    walked = random_walk(torch.full((1, 10, 12), 0.7).double(), torch.zeros(10, 12), method=method)
    np.testing.assert_allclose(walked, torch.tensor(0.7).double(), rtol=1e-12)


def test_score_of_one_pixel_is_within_the_promised_error() -> None:
    """The hardest case: the result's maximum is some 1e-4 of the score's."""
    cam = torch.zeros(2, 94, 125, dtype=torch.float64)
    cam[0, 47, 62] = cam[1, 0, 0] = 1
    for boundary in (torch.zeros(94, 125), torch.full((94, 125), 0.5)):
        walked = random_walk(cam, boundary)
        exact = random_walk(cam, boundary, method="exact")
        for index in range(2):
            assert relative_error(walked[index], exact[index]) < 1e-7


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_result_has_the_dtype_and_shape_of_the_cam(dtype: torch.dtype) -> None:
    cam, boundary = random_pair(7, 5, classes=3)
    walked = random_walk(cam.to(dtype), boundary)
    assert walked.dtype == dtype
    assert walked.shape == cam.shape
    assert walked.is_contiguous()


def test_arguments_are_left_as_they_are_and_gradients_stay_out() -> None:
    cam, boundary = random_pair(7, 5)
    before = cam.clone(), boundary.clone()
    assert not random_walk(cam.requires_grad_(), boundary.requires_grad_()).requires_grad
    assert torch.equal(cam, before[0])
    assert torch.equal(boundary, before[1])


def test_image_without_classes() -> None:
    assert random_walk(torch.zeros(0, 6, 7), torch.zeros(6, 7)).shape == (0, 6, 7)
    assert random_walk_many([]) == []


@pytest.mark.parametrize("method", METHODS)
def test_many_images_walk_as_each_alone(method: str) -> None:
    """Different sizes and class counts, one of them without classes."""
    sizes = [(9, 14, 3), (14, 9, 1), (5, 6, 0), (9, 14, 2)]
    pairs = [random_pair(h, w, classes, seed) for seed, (h, w, classes) in enumerate(sizes)]
    together = random_walk_many(pairs, method=method, beta=4, exp_times=6)
    for pair, walked in zip(pairs, together, strict=True):
        alone = random_walk(*pair, method=method, beta=4, exp_times=6)
        assert walked.shape == alone.shape
        np.testing.assert_allclose(walked, alone, rtol=1e-6)


def test_no_more_images_are_joined_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(9, 14, 3), (14, 9, 1), (5, 6, 0), (9, 14, 2), (30, 30, 2), (9, 14, 2)]
    pairs = [random_pair(h, w, classes, seed) for seed, (h, w, classes) in enumerate(sizes)]
    together = random_walk_many(pairs)
    joined: list[int] = []

    def counted(walls: Tensor, **settings: Any) -> Tensor:
        joined.append(len(walls))
        return transition_matrix(walls, **settings)

    monkeypatch.setattr("misc.random_walk.transition_matrix", counted)
    monkeypatch.setattr("misc.random_walk.MAX_JOINED", 72 * 3 * 14 * 14)
    apart = random_walk_many(pairs)
    assert joined == [3, 1, 1, 1]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_repeats_exactly_whatever_the_number_of_threads() -> None:
    cam, boundary = random_pair(40, 50)
    results = []
    for count in (1, 2, 2):
        torch.set_num_threads(count)
        results.append(random_walk(cam.double(), boundary))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_cuda_equals_cpu(method: str) -> None:
    pairs = [random_pair(40, 50, 3, seed=1), random_pair(50, 40, 1, seed=2)]
    expected = random_walk_many(pairs, method=method)
    on_device = random_walk_many([(c.cuda(), b.cuda()) for c, b in pairs], method=method)
    for walked, reference in zip(on_device, expected, strict=True):
        assert walked.is_cuda
        assert relative_error(walked.cpu(), reference) < 1e-6


@pytest.mark.parametrize(
    ("cam", "boundary", "settings", "message"),
    [
        (torch.ones(1, 4, 5), torch.zeros(4, 6), {}, "of one size"),
        (torch.ones(4, 5), torch.zeros(4, 5), {}, "of one size"),
        (torch.ones(1, 4, 5), torch.zeros(1, 4, 5), {}, "of one size"),
        (torch.ones(1, 4, 5).int(), torch.zeros(4, 5), {}, "floating point"),
        (torch.ones(1, 4, 5), torch.zeros(4, 5), {"method": "dense"}, "method"),
        (torch.ones(1, 4, 5), torch.zeros(4, 5), {"exp_times": -1}, "exp_times"),
        (torch.ones(1, 4, 5), torch.zeros(4, 5), {"beta": 0}, "beta"),
        (torch.ones(1, 4, 5), torch.zeros(4, 5), {"radius": 0}, "radius"),
    ],
)
def test_bad_arguments_say_what_is_wrong(
    cam: Tensor, boundary: Tensor, settings: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        random_walk(cam, boundary, **settings)


@pytest.mark.parametrize("power", [1, 2, 4, 16, 256, 4096])
def test_chebyshev_sum_is_the_power(power: int) -> None:
    coefficients = chebyshev_coefficients(power)
    points = np.linspace(-1, 1, 2001)
    error = np.abs(chebyshev.chebval(points, coefficients) - points**power).max()
    assert error <= 2 * CHEBYSHEV_TOLERANCE + 1e-14
    assert np.isclose(sum(coefficients), 1, rtol=1e-14)


def test_chebyshev_sum_by_hand() -> None:
    assert chebyshev_coefficients(1) == [0, 1]
    assert chebyshev_coefficients(2) == [0.5, 0, 0.5]
    np.testing.assert_allclose(chebyshev_coefficients(4), [3 / 8, 0, 1 / 2, 0, 1 / 8])


def test_chebyshev_sum_is_short() -> None:
    assert len(chebyshev_coefficients(256)) <= 105
