"""CAM files of half the numbers' size, and without the full-size maps."""

from pathlib import Path

import numpy as np
import pytest
import torch

from misc.cam_files import (
    CAM_DTYPES,
    Cams,
    cam_file_bytes,
    padded_size,
    read_cams,
    stride4_size,
    write_irn,
)
from misc.cam_files.maps import derive_high_res
from net.cam import combine_scales

SIZE = (75, 99)
CLASS_IDS = np.array([2, 9], np.int64)


@pytest.fixture(scope="module")
def cams() -> Cams:
    """CAMs as make_cam has them, of smooth random maps at stride 16 and two scales."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(20, h, w, generator=generator) for h, w in ((5, 7), (10, 13))]
    cam, high_res = combine_scales(maps, SIZE, CLASS_IDS.tolist())
    return Cams(CLASS_IDS, cam.numpy(), high_res.numpy())


def stored(path: Path, cams: Cams, dtype: str = "float32", *, high_res: bool = True) -> Cams:
    with open(path, "wb") as file:
        write_irn(file, cams, dtype, high_res=high_res)
    return read_cams(path, SIZE, num_classes=20)


@pytest.mark.parametrize("high_res", [True, False])
@pytest.mark.parametrize("dtype", CAM_DTYPES)
def test_files_are_as_long_as_is_said_and_read_back(
    tmp_path: Path, cams: Cams, dtype: str, high_res: bool
) -> None:
    path = tmp_path / "a.npy"
    again = stored(path, cams, dtype, high_res=high_res)
    expected = cam_file_bytes(2, SIZE, dtype, high_res=high_res)
    assert path.stat().st_size == pytest.approx(expected, rel=0.02)
    assert again.class_ids.tolist() == [2, 9]
    # A half has 11 bits.
    tolerance = 0 if dtype == "float32" else 2**-11
    np.testing.assert_allclose(again.cam, cams.cam, rtol=0, atol=tolerance)
    if high_res:
        np.testing.assert_allclose(again.high_res, cams.high_res, rtol=0, atol=tolerance)
    for part in ("cam", "high_res"):
        alone = read_cams(path, SIZE, num_classes=20, parts=[part])
        np.testing.assert_array_equal(getattr(alone, part), getattr(again, part))


def test_a_default_file_is_what_it_was(tmp_path: Path, cams: Cams) -> None:
    with open(tmp_path / "a.npy", "wb") as file:
        write_irn(file, cams)
    stored(tmp_path / "b.npy", cams, "float32", high_res=True)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")  # of old torch
def test_numpy_and_torch_read_halves(tmp_path: Path, cams: Cams) -> None:
    stored(tmp_path / "a.npy", cams, "float16")
    record = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert record["cam"].dtype == torch.float16
    assert record["high_res"].dtype == np.float16
    np.testing.assert_array_equal(record["high_res"], cams.high_res.astype(np.float16))
    stored(tmp_path / "b.npy", cams, high_res=False)
    assert set(np.load(tmp_path / "b.npy", allow_pickle=True).item()) == {"keys", "cam"}


def test_an_image_without_a_class_needs_no_maps(tmp_path: Path) -> None:
    nothing = np.zeros((0, 1, 1), np.float32)
    none = Cams(np.zeros(0, np.int64), nothing, nothing)
    again = stored(tmp_path / "a.npy", none, "float16", high_res=False)
    assert again.high_res.shape == (0, *SIZE)
    assert again.cam.shape == (0, *stride4_size(SIZE))


def test_full_size_maps_are_derived_as_the_network_enlarges_its_own(cams: Cams) -> None:
    assert padded_size(SIZE) == (80, 112)
    derived = derive_high_res(cams.cam, SIZE)
    assert derived.shape == cams.high_res.shape
    # The same division as the network's: by the maximum and 1e-5.
    np.testing.assert_allclose(derived.max(axis=(1, 2)), 1 / (1 + 1e-5), atol=2e-6)
    # A map that is linear in both directions is the same at any size, so nothing may be shifted.
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    small_y, small_x = (np.mgrid[:19, :25] + 0.5) * np.array([80 / 19, 112 / 25])[:, None, None]
    ramp = (small_y + 2 * small_x)[None].astype(np.float32)
    found = derive_high_res(ramp, SIZE)[0]
    expected = y + 2 * x
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(
        found[inner] / found[40, 50], expected[inner] / expected[40, 50], rtol=1e-4
    )


@pytest.mark.parametrize(
    ("dtype", "high_res", "most"), [("float16", True, 0.001), ("float32", False, 0.06)]
)
def test_masks_change_by_few_pixels_even_of_noise(
    tmp_path: Path, cams: Cams, dtype: str, high_res: bool, most: float
) -> None:
    # Noise has the steepest maps there can be; tests/step/test_disk_use.py has those of a network.
    again = stored(tmp_path / "a.npy", cams, dtype, high_res=high_res)
    masks = [
        np.concatenate([np.full((1, *SIZE), 0.5, np.float32), maps]).argmax(0)
        for maps in (cams.high_res, again.high_res)
    ]
    assert float((masks[0] != masks[1]).mean()) < most


@pytest.mark.parametrize(("walked", "edge"), [(True, 400), (False, 410)])
def test_walked_scores_are_enlarged_on_the_grid_of_the_boundary_network(
    tmp_path: Path, walked: bool, edge: int
) -> None:
    """Its cells are 4 pixels wide, while 125 cells of a CAM are the 512 pixels that 500 become."""
    cam = np.zeros((1, 94, 125), np.float32)
    cam[..., :100] = 0.5
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        cams = Cams(np.array([3]), cam, np.zeros((1, 0, 0), np.float32))
        write_irn(file, cams, high_res=False, walked=walked)
    read = read_cams(path, (375, 500), num_classes=20)
    assert read.high_res.max() == pytest.approx(1, abs=1e-4)
    (above,) = np.flatnonzero(np.diff((read.high_res[0, 200] > 0.5).astype(int)))
    assert abs(above + 1 - edge) <= 1
    np.testing.assert_array_equal(read.cam, cam)
