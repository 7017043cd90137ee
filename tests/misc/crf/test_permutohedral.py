"""The lattice against its definition, and its filter against the Gaussian."""

import math

import pytest
import torch
from torch import Tensor

from misc.crf.permutohedral import (
    PermutohedralFilter,
    _elevate,
    _enclosing_simplices,
    _vertex_codes,
)
from misc.errors import UserError


@pytest.fixture(params=[1, 2, 5])
def features(request: pytest.FixtureRequest) -> Tensor:
    generator = torch.Generator().manual_seed(request.param)
    return torch.rand(request.param, 400, generator=generator) * 12 / request.param


def lattice_points(lower: Tensor, position: Tensor) -> Tensor:
    """Coordinates (d+1,N,d+1) of the vertices of remainder 0..d, by their definition."""
    count = len(lower)
    points = []
    for remainder in range(count):
        fallen = position < remainder
        points.append(lower.long() * count + remainder - count * fallen.long())
    return torch.stack(points)


def test_points_lie_in_the_hyperplane(features: Tensor) -> None:
    torch.testing.assert_close(
        _elevate(features).sum(0), torch.zeros(features.shape[1]), atol=1e-4, rtol=0
    )


def test_weights_are_barycentric(features: Tensor) -> None:
    """The vertices, weighted, give the point; no weight is negative; they sum to one."""
    lower, position, weights = _enclosing_simplices(features)
    vertices = lattice_points(lower, position)
    assert (vertices.sum(1) == 0).all()
    assert weights.min() > -1e-5
    torch.testing.assert_close(weights.sum(0), torch.ones(features.shape[1]))
    centre = (vertices * weights[:, None]).sum(0)
    torch.testing.assert_close(centre, _elevate(features), atol=1e-3, rtol=0)


def test_a_code_names_one_lattice_point_and_steps_lead_to_its_neighbours(features: Tensor) -> None:
    lower, position, _ = _enclosing_simplices(features)
    codes, steps, _ = _vertex_codes(lower, position)
    vertices = lattice_points(lower, position).permute(2, 0, 1).flatten(0, 1)
    codes = codes.flatten().long()
    point_of: dict[int, tuple[int, ...]] = {}
    for code, point in zip(codes.tolist(), map(tuple, vertices.tolist()), strict=True):
        assert point_of.setdefault(code, point) == point
    assert len(set(point_of.values())) == len(point_of)
    code_of = {point: code for code, point in point_of.items()}
    count = len(lower)
    for axis, step in enumerate(steps.tolist()):
        for point, code in code_of.items():
            neighbour = [value - 1 for value in point]
            neighbour[axis] += count
            assert point_of.get(code + step) == (
                tuple(neighbour) if tuple(neighbour) in code_of else None
            )


def test_filter_is_near_the_normalised_gaussian(features: Tensor) -> None:
    values = torch.rand(features.shape[1], 3, generator=torch.Generator().manual_seed(9))
    kernel = torch.exp(-0.5 * torch.cdist(features.T, features.T) ** 2)
    norm = kernel.sum(1, keepdim=True).rsqrt()
    expected = norm * (kernel @ (norm * values))
    error = (PermutohedralFilter(features)(values) - expected).abs()
    assert error.mean() < 0.03 * expected.mean()


def test_filter_is_linear_and_keeps_channels_apart(features: Tensor) -> None:
    values = torch.rand(features.shape[1], 2)
    lattice = PermutohedralFilter(features)
    both = lattice(values)
    torch.testing.assert_close(both[:, :1], lattice(values[:, :1].contiguous()))
    torch.testing.assert_close(lattice(2 * values), 2 * both)


def test_points_far_apart_do_not_mix() -> None:
    lattice = PermutohedralFilter(torch.tensor([[0.0, 100.0, 200.0, 300.0]]))
    torch.testing.assert_close(lattice(torch.eye(4)), torch.eye(4) * lattice(torch.eye(4)))


def test_the_filter_of_one_point_is_the_identity() -> None:
    lattice = PermutohedralFilter(torch.full((2, 1), math.pi))
    torch.testing.assert_close(lattice(torch.tensor([[3.0]])), torch.tensor([[3.0]]))


def test_a_lattice_too_fine_to_number_is_refused() -> None:
    with pytest.raises(UserError, match="standard deviations are too small"):
        PermutohedralFilter(torch.eye(5).repeat(1, 4) * 1e6)


def test_filters_where_torch_lacks_mkl(monkeypatch: pytest.MonkeyPatch, features: Tensor) -> None:
    values = torch.rand(features.shape[1], 3)
    expected = PermutohedralFilter(features)(values)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    torch.testing.assert_close(PermutohedralFilter(features)(values), expected)
