"""Search paths, affinities and the transition against the reference's records and by definition."""

import numpy as np
import pytest
import torch

from misc.affinity import affinity_matrix, search_paths, transition_matrix
from tests.helpers.paths import GOLDEN

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden() -> Arrays:
    with np.load(GOLDEN / "g2_random_walk.npz") as file:
        return dict(file)


def random_boundary(h: int, w: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def affinity_by_definition(boundary: np.ndarray, beta: float, radius: int) -> np.ndarray:
    """Pair by pair: 1 - highest boundary within the box nearer than 1 to the line."""
    h, w = boundary.shape
    affinity = np.eye(h * w)
    for a in np.ndindex(h, w):
        for b in np.ndindex(h, w):
            dy, dx = b[0] - a[0], b[1] - a[1]
            if a == b or dy**2 + dx**2 >= radius**2:
                continue
            highest = max(
                boundary[y, x]
                for y in range(min(a[0], b[0]), max(a[0], b[0]) + 1)
                for x in range(min(a[1], b[1]), max(a[1], b[1]) + 1)
                if (dy * (x - a[1]) - dx * (y - a[0])) ** 2 < dy**2 + dx**2
            )
            affinity[a[0] * w + a[1], b[0] * w + b[1]] = (1 - highest) ** beta
    return affinity


def test_search_paths_equal_the_reference(golden: Arrays) -> None:
    paths = search_paths(5)
    assert [(path.dy, path.dx) for path in paths] == [tuple(d) for d in golden["path/search_dst"]]
    groups = [golden[f"path/search_paths_{i}"] for i in range(9)]
    expected = [{tuple(pixel) for pixel in path} for group in groups for path in group.tolist()]
    assert [set(path.pixels) for path in paths] == expected


def test_affinity_equals_the_reference(golden: Arrays) -> None:
    boundary = torch.from_numpy(golden["24x31_smooth/edge"][0])
    affinity = affinity_matrix(boundary, beta=1).to_dense().numpy()
    np.testing.assert_allclose(affinity, golden["24x31_smooth/dense_aff"], rtol=0, atol=1e-7)


def test_affinity_equals_the_references_list_of_pairs(golden: Arrays) -> None:
    """The reference pads by 5 to the left, right and below; pairs that touch padding are 0."""
    boundary = torch.from_numpy(golden["24x31_smooth/edge"][0])
    affinity = affinity_matrix(boundary, beta=1).to_dense().numpy()
    source = np.divmod(golden["24x31_smooth/src_indices"], 31 + 10)
    target = np.divmod(golden["24x31_smooth/dst_indices"], 31 + 10)
    pairs = np.stack(np.broadcast_arrays(source[0], source[1] - 5, target[0], target[1] - 5))
    inside = ((pairs >= 0) & (pairs < np.array([24, 31, 24, 31])[:, None, None])).all(0)
    listed = golden["24x31_smooth/sparse_aff"][0]
    assert (listed[~inside] == 0).all()
    ya, xa, yb, xb = pairs[:, inside]
    np.testing.assert_allclose(affinity[ya * 31 + xa, yb * 31 + xb], listed[inside], atol=1e-7)


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 1), (2, 3), (7, 9)])
def test_affinity_equals_its_definition(size: tuple[int, int], radius: int) -> None:
    """Also on grids smaller than the radius."""
    boundary = random_boundary(*size)
    affinity = affinity_matrix(boundary, beta=2.5, radius=radius).to_dense()
    expected = affinity_by_definition(boundary.numpy(), 2.5, radius)
    np.testing.assert_allclose(affinity, expected, rtol=1e-13)


def test_affinity_is_sparse_and_symmetric_with_ones_on_the_diagonal() -> None:
    affinity = affinity_matrix(random_boundary(20, 30))
    assert affinity.values().numel() < 69 * 600
    dense = affinity.to_dense()
    assert torch.equal(dense, dense.T)
    assert torch.equal(dense.diagonal(), torch.ones(600, dtype=torch.float64))


def test_structure_keeps_the_rules_of_csr() -> None:
    """Columns ascending and distinct within each row, which some products rely on."""
    affinity = affinity_matrix(torch.stack([random_boundary(8, 9), random_boundary(8, 9, 1)]))
    parts = affinity.crow_indices(), affinity.col_indices(), affinity.values()
    assert torch.sparse_csr_tensor(*parts, affinity.shape, check_invariants=True).shape[0] == 144


def test_several_images_lie_in_separate_blocks() -> None:
    boundaries = torch.stack([random_boundary(6, 7, seed) for seed in range(3)])
    together = affinity_matrix(boundaries).to_dense()
    alone = [affinity_matrix(boundary).to_dense() for boundary in boundaries]
    assert torch.equal(together, torch.block_diag(*alone))


def test_wall_has_no_affinity_but_to_itself() -> None:
    boundary = torch.zeros(5, 6)
    boundary[2, 3] = 1
    row = affinity_matrix(boundary).to_dense()[2 * 6 + 3]
    assert row.nonzero().tolist() == [[2 * 6 + 3]]


def test_columns_of_the_transition_sum_to_one() -> None:
    boundary = random_boundary(9, 11)
    boundary[2:5, 3:7] = 1
    transition = transition_matrix(boundary).to_dense().T
    np.testing.assert_allclose(transition.sum(0), 1, rtol=1e-14)
    affinity = affinity_matrix(boundary).to_dense()
    np.testing.assert_allclose(transition, affinity / affinity.sum(0), rtol=1e-14)


def test_made_in_inference_mode_and_used_outside() -> None:
    """The cached structure must not carry the mode of whoever came first."""
    boundary = random_boundary(11, 13)
    with torch.inference_mode():
        first = transition_matrix(boundary).to_dense()
    again = transition_matrix(boundary.requires_grad_())
    assert not again.requires_grad
    assert torch.equal(again.to_dense(), first)


@pytest.mark.parametrize(("setting", "value"), [("beta", 0), ("radius", 0)])
def test_settings_out_of_range_are_named(setting: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"needs .*{setting} "):
        affinity_matrix(torch.zeros(4, 5), **{setting: value})


@pytest.mark.parametrize("size", [(3000, 125, 125), (6000, 6000)])
def test_more_pixels_than_int32_can_number_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pass fewer images at once, or smaller ones"):
        affinity_matrix(torch.zeros(1).expand(size))
