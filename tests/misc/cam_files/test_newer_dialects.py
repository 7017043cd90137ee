"""The dialects of 2023 to 2026: the right array, scale and classes, or a refusal."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from misc.cam_files import Cams, read_cams
from misc.errors import UserError
from tests.helpers.cam_writers import WRITERS, save

SIZE = (4, 8)
FLAT = np.ones(SIZE, np.float32)


def read(path: Path, cam_format: str = "auto", size: tuple[int, int] = SIZE, **more: Any) -> Cams:
    return read_cams(path, size, num_classes=20, cam_format=cam_format, **more)


def refused(path: Path, reason: str, cam_format: str = "auto", **more: Any) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        read(path, cam_format, **more)
    assert str(path) in str(caught.value)


def two_arrays(path: Path, background: float, seed: float, main: float) -> Path:
    """IS_CAM and IS_CAM1 of class 4 (key 5), both with the same background."""
    content = {
        "keys": np.array([0, 5]),
        "IS_CAM": np.stack([background * FLAT, seed * FLAT]),
        "IS_CAM1": np.stack([background * FLAT, main * FLAT]),
    }
    return save(path, content)


def test_of_pot_the_array_is_read_that_pot_itself_uses(tmp_path: Path) -> None:
    path = two_arrays(tmp_path / "a.npy", 0.1, 0.25, 0.75)
    for cam_format in ("auto", "pot"):
        cams = read(path, cam_format)
        assert cams.class_ids.tolist() == [5]
        assert (cams.high_res == 0.75).all()
    refused(path, "field IS_CAM1 too, which tells another format", "sipe")


def test_of_sfc_both_arrays_are_read_with_the_shares_of_labels_and_of_the_walk(
    tmp_path: Path,
) -> None:
    y = np.linspace(0, 1, SIZE[1], dtype=np.float32)[None].repeat(SIZE[0], 0)
    content = {
        "keys": np.array([5, 0]),  # the background need not come first
        "IS_CAM": np.stack([2 * FLAT, 0.5 * FLAT]),
        "IS_CAM1": np.stack([2 * y, 0.5 * FLAT]),
    }
    path = save(tmp_path / "a.npy", content)
    for cam_format in ("auto", "sfc"):
        cams = read(path, cam_format)
        assert cams.class_ids.tolist() == [5]
        np.testing.assert_allclose(cams.high_res[0], (y + 0.7) / 1.7, atol=1e-6)
        small = F.interpolate(
            torch.from_numpy((y + 0.3) / 1.3)[None, None], (1, 2), mode="bilinear"
        )
        np.testing.assert_allclose(cams.cam, (small / small.max())[0].numpy(), atol=1e-6)
    refused(path, "IS_CAM1 has values up to 2; they must be 0..1", "pot")


@pytest.mark.parametrize(
    ("background", "main", "expected"), [(0.39, 1.0, "pot"), (0.41, 1.01, "sfc"), (0.0, 2.0, "sfc")]
)
def test_the_values_tell_pot_from_sfc(
    tmp_path: Path, background: float, main: float, expected: str
) -> None:
    path = two_arrays(tmp_path / "a.npy", background, 0.5, main)
    np.testing.assert_array_equal(read(path).high_res, read(path, expected).high_res)


def test_where_they_do_not_both_are_named(tmp_path: Path) -> None:
    path = two_arrays(tmp_path / "a.npy", 0.45, 0.5, 0.9)
    refused(path, "as pot and sfc files have.*Pass --cam_format pot or --cam_format sfc")
    assert read(path, "pot").high_res.max() == np.float32(0.9)
    assert read(path, "sfc").high_res.max() == pytest.approx((0.45 + 0.7 * 0.25) / 1.7)


def test_a_pot_file_is_not_halved_because_sfc_was_named(tmp_path: Path) -> None:
    refused(two_arrays(tmp_path / "a.npy", 0.1, 0.5, 0.9), "Pass --cam_format pot", "sfc")


def test_sfc_has_its_own_limit(tmp_path: Path) -> None:
    path = two_arrays(tmp_path / "a.npy", 0.5, 1.0, 2.01)
    refused(path, "IS_CAM1 has values up to 2.01; they must be 0..2", "sfc")
    path = two_arrays(tmp_path / "b.npy", 0.5, np.nan, 2.0)
    refused(path, "IS_CAM has NaN", "sfc")
    path = two_arrays(tmp_path / "c.npy", 0.5, 1.0, -0.1)
    refused(path, "IS_CAM1 has negative values, down to -0.1", "sfc")


@pytest.mark.parametrize("cam_format", ["auto", "pot", "sfc"])
def test_pot_and_sfc_files_without_a_class_are_all_background(
    tmp_path: Path, cam_format: str
) -> None:
    only = {"keys": np.array([0]), "IS_CAM": FLAT[None], "IS_CAM1": FLAT[None]}
    assert read(save(tmp_path / "a.npy", only), cam_format).high_res.shape == (0, *SIZE)


@pytest.mark.parametrize("cam_format", ["auto", "pot", "sfc"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"IS_CAM1": np.stack([FLAT, FLAT])[:, 1:]}, r"shape \(2, 3, 8\)"),
        ({"IS_CAM1": np.stack([FLAT, FLAT, FLAT])}, "3 channels, not 2"),
        ({"IS_CAM1": None}, "no field IS_CAM1"),
        ({"keys": np.array([5, 6])}, "0, the background, exactly once"),
        ({"keys": np.array([0, 21])}, "unknown class 21"),
    ],
)
def test_broken_files_with_both_arrays_are_refused(
    tmp_path: Path, cam_format: str, changes: dict[str, Any], reason: str
) -> None:
    content = {"keys": np.array([0, 5]), "IS_CAM": np.stack([FLAT, 2 * FLAT])} | changes
    refused(save(tmp_path / "a.npy", content), reason, cam_format)


MORE: list[tuple[dict[str, Any], list[int]]] = [
    ({"keys": [2, 7], "keys_gt": [2]}, [3]),
    ({"keys": [], "keys_gt": [2]}, [3]),
    ({"keys": [7], "keys_gt": [2, 7]}, [8]),
    ({"keys": [2], "keys_gt": [2]}, [3]),
    ({"keys": np.array([2])}, [3]),
    ({"keys_gt": torch.tensor([2])}, [3]),
]


@pytest.mark.parametrize("cam_format", ["auto", "more"])
@pytest.mark.parametrize(("keys", "expected"), MORE, ids=range(len(MORE)))
def test_of_more_s_two_lists_of_classes_the_one_counts_that_the_maps_fit(
    tmp_path: Path, keys: dict[str, Any], expected: list[int], cam_format: str
) -> None:
    path = save(tmp_path / "a.npy", {**keys, "valid_lam": FLAT[None]})
    assert read(path, cam_format).class_ids.tolist() == expected


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (
            {"keys": [7], "keys_gt": [2]},
            r"keys \[7\] and keys_gt \[2\] both fit the 1 channels.*Save it with only that",
        ),
        ({"keys": [2, 7], "keys_gt": []}, r"1 channels, which keys \[2, 7\] and keys_gt \[\] do"),
        ({"keys": [20], "keys_gt": []}, "unknown class 20"),
        ({}, "none of the fields keys and keys_gt"),
    ],
)
def test_where_both_or_none_fit_it_is_refused(
    tmp_path: Path, keys: dict[str, Any], reason: str
) -> None:
    for cam_format in ("auto", "more"):
        path = save(tmp_path / "a.npy", {**keys, "valid_lam": FLAT[None]})
        refused(path, reason, cam_format)


def test_of_excel_row_0_is_dropped(tmp_path: Path) -> None:
    content = {"keys_gt": np.array([9, 2]), "valid_lam": np.stack([0 * FLAT, FLAT, 0.5 * FLAT])}
    path = save(tmp_path / "a.npy", content)
    for cam_format in ("auto", "excel"):
        cams = read(path, cam_format)
        assert cams.class_ids.tolist() == [3, 10]
        assert cams.high_res[:, 0, 0].tolist() == [0.5, 1]
    refused(path, r"3 channels, which keys_gt \[9, 2\] do not fit", "more")
    refused(save(path, {**content, "valid_lam": FLAT[None]}), "1 channels, not 3", "excel")


def fma(path: Path, **changes: Any) -> Path:
    cam = np.array([[[0, 1]], [[0.5, 0.5]]], np.float32)
    np.savez(path, **({"cam": cam, "fg_cls": np.array([8, 3])} | changes))
    return path


@pytest.mark.parametrize("save_with", [np.savez, np.savez_compressed])
def test_fma_s_grid_is_resized_to_the_image(tmp_path: Path, save_with: Any) -> None:
    cam = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    path = tmp_path / "a.npz"
    save_with(path, cam=cam, fg_cls=np.array([8, 3]), logits=np.zeros((1, 20)))
    for cam_format in ("auto", "fma"):
        cams = read(path, cam_format, (50, 67))
        assert cams.class_ids.tolist() == [4, 9]
        expected = F.interpolate(
            torch.from_numpy(cam[::-1].copy())[None], (50, 67), mode="bilinear"
        )
        np.testing.assert_allclose(cams.high_res, expected[0].numpy(), atol=1e-6)
        assert cams.cam.shape == (2, 13, 17)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fg_cls": np.array([8])}, "2 channels, not 1"),
        ({"fg_cls": np.array([8, 20])}, "unknown class 20"),
        ({"fg_cls": np.array([8.0, 3.0])}, "fg_cls are float64, not integers"),
        ({"cam": np.full((2, 1, 2), np.nan)}, "cam has NaN"),
        ({"cam": np.full((2, 1, 2), -0.5)}, "negative values, down to -0.5"),
        ({"cam": np.full((2, 1, 2), 1.5)}, "values up to 1.5"),
        ({"cam": np.zeros((2, 1, 2), np.uint8)}, "cam is uint8, not floating"),
        ({"cam": np.zeros((2, 8))}, "not maps"),
        (
            {"cam": np.zeros((2, 0, 4))},
            "height 0, width 4, which does not fit an image of height 4",
        ),
        ({"cam": np.zeros((2, 7, 4))}, "cam has height 7, width 4, which does not fit"),
        ({"cam": np.array(["a"])}, "its array cam: it has an array of type U1"),
    ],
)
def test_broken_fma_files_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    refused(fma(tmp_path / "a.npz", **changes), reason)


def test_fma_files_without_a_class_are_all_background(tmp_path: Path) -> None:
    path = fma(tmp_path / "a.npz", cam=np.zeros((0, 1, 2)), fg_cls=np.array([], int))
    assert read(path).high_res.shape == (0, *SIZE)


def test_the_name_of_a_file_tells_npz_from_npy(tmp_path: Path) -> None:
    path = fma(tmp_path / "a.npz")
    refused(path, "irn files are .npy", "irn")
    refused(path.rename(tmp_path / "a.npy"), "fma files are .npz", "fma")
    refused(tmp_path / "a.npy", r"zip archive \(.npz\), but its name says .npy")
    refused(
        save(tmp_path / "b.npy", {"keys": []}).rename(tmp_path / "b.npz"),
        "it does not end as np.savez ends one",
    )
    np.savez(tmp_path / "c.npz", keys=np.array([3]), high_res=FLAT[None])
    refused(tmp_path / "c.npz", "field fg_cls is missing")


def test_the_size_of_cti_s_input_needs_the_flag(tmp_path: Path) -> None:
    maps = np.random.default_rng(1).random((2, 56, 56)).astype(np.float32)
    path = save(tmp_path / "a.npy", {3: maps[0], 0: maps[1]})
    cams = read(path, "cti", (50, 67))
    assert cams.class_ids.tolist() == [1, 4]
    expected = F.interpolate(torch.from_numpy(maps[::-1].copy())[None], (50, 67), mode="bilinear")
    np.testing.assert_allclose(cams.high_res, expected[0].numpy(), atol=1e-6)
    refused(path, "or pass --cam_format cti for maps of the size of CTI's input", "psa")
    refused(save(path, {3: maps[0]}), "--cam_format cti")
    refused(save(path, {3: maps[0, :, :20]}), "height 56, width 20, which does not fit", "cti")


@pytest.mark.parametrize("field", ["msc_seg", "segs", "msc_segs"])
def test_scores_of_a_network_are_no_cams_and_the_remedy_is_named(
    tmp_path: Path, field: str
) -> None:
    path = save(tmp_path / "a.npy", {field: np.zeros((1, 21, *SIZE), np.float32)})
    refused(path, rf"scores of a segmentation network \({field}\).*-m misc.mask_files SRC DST")


@pytest.mark.parametrize("cam_format", WRITERS)
def test_auto_finds_the_dialect_of_every_writer(tmp_path: Path, cam_format: str) -> None:
    size = (192, 256)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    maps = np.stack([np.exp(-((x - 160) ** 2 + (y - c) ** 2) / 9000) for c in (60, 120)])
    WRITERS[cam_format](tmp_path, "a", [2, 11], maps)
    files = sorted(tmp_path.iterdir())
    source = files if cam_format == "oaa_png" else files[0]
    named = read_cams(source, size, num_classes=20, cam_format=cam_format)
    assert named.class_ids.tolist() == [3, 12]
    np.testing.assert_allclose(named.high_res, maps, atol=0.03)
    if cam_format in ("psa_crf", "cti"):
        with pytest.raises(UserError, match=f"--cam_format {cam_format}"):
            read_cams(source, size, num_classes=20)
        return
    auto = read_cams(source, size, num_classes=20)
    np.testing.assert_array_equal(auto.high_res, named.high_res)
