"""18 classes in one image, as COCO has: labels, walk, CRF and every dialect of CAM files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from misc.boundary_label import (
    make_boundary_label,
    make_confident_regions,
    mask_to_regions,
    regions_to_mask,
)
from misc.cam_files import read_cams, write_irn
from misc.crf import MASK_CRF, DenseCrf
from misc.pseudo_mask import scores_to_regions
from misc.random_walk import random_walk
from tests.helpers.drawn import SIZE, draw_mask
from tests.helpers.sets import write_map

CLASS_IDS = np.arange(3, 75, 4)  # 18 of 80
MASK = draw_mask(CLASS_IDS.tolist())
REGIONS = mask_to_regions(MASK, CLASS_IDS)
MAPS = 0.9 * (CLASS_IDS[:, None, None] == MASK).astype(np.float32)
IMAGE = np.stack([MASK * 3, 255 - MASK * 2, MASK * 7 % 251], axis=-1).astype(np.uint8)
COARSE = np.ascontiguousarray(MAPS[:, ::4, ::4])


def with_background(maps: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full_like(maps[:1], 0.3), maps])


KEYS = (CLASS_IDS - 1).tolist()
WITH_ZERO = [0, *CLASS_IDS.tolist()]
CONTENTS: dict[str, Any] = {
    "irn": {"keys": torch.tensor(KEYS), "cam": torch.tensor(COARSE), "high_res": MAPS},
    "amn": {"keys": KEYS, "cam": with_background(COARSE), "high_res": with_background(MAPS)},
    "sipe": {"keys": np.array(WITH_ZERO), "IS_CAM": with_background(MAPS)},
    "pot": {"keys": WITH_ZERO, "IS_CAM": with_background(MAPS), "IS_CAM1": with_background(MAPS)},
    "more": {"keys": KEYS[1:], "keys_gt": KEYS, "valid_lam": MAPS},
    "excel": {"keys_gt": KEYS, "valid_lam": with_background(MAPS)},
    "psa": dict(zip(KEYS, MAPS, strict=True)),
    "psa_crf": dict(zip(WITH_ZERO, with_background(MAPS), strict=True)),
    "toco": {"keys": np.array(KEYS), "high_res": MAPS},
    "clip_es": {"keys": np.array(KEYS[::-1]), "attn_highres": MAPS[::-1].astype(np.float16)},
}


@pytest.mark.parametrize("cam_format", CONTENTS)
def test_every_dialect_gives_all_of_them(tmp_path: Path, cam_format: str) -> None:
    box = np.empty((), object)
    box[()] = CONTENTS[cam_format]
    np.save(tmp_path / "a.npy", box, allow_pickle=True)
    cams = read_cams(tmp_path / "a.npy", SIZE, num_classes=80, cam_format=cam_format)
    assert cams.class_ids.tolist() == CLASS_IDS.tolist()
    np.testing.assert_allclose(cams.high_res, MAPS, atol=1e-3)
    with open(tmp_path / "b.npy", "wb") as file:
        write_irn(file, cams)
    again = read_cams(tmp_path / "b.npy", SIZE, num_classes=80)
    np.testing.assert_array_equal(again.high_res, cams.high_res)


def test_drs_and_pictures_give_all_of_them(tmp_path: Path) -> None:
    full = np.zeros((80, 320, 320), np.uint8)
    full[KEYS, 10:, :] = 230
    np.save(tmp_path / "a.npy", full)
    assert len(read_cams(tmp_path / "a.npy", SIZE, num_classes=80).class_ids) == 18
    paths = [tmp_path / f"a_{key}.png" for key in KEYS]
    for path, values in zip(paths, MAPS, strict=True):
        write_map(path, values)
    cams = read_cams(paths, SIZE, num_classes=80)
    np.testing.assert_allclose(cams.high_res, MAPS, atol=1 / 255)


def test_regions_and_ids_are_each_others_inverse() -> None:
    assert REGIONS.max() == 18
    np.testing.assert_array_equal(regions_to_mask(REGIONS, CLASS_IDS), MASK)


def test_confident_regions_and_boundary_labels_take_all_of_them() -> None:
    regions = make_confident_regions(IMAGE, MAPS, 0.3, 0.07)
    found = set(np.unique(regions).tolist()) - {0, 255}
    assert len(found) == 18
    codes = make_boundary_label(
        regions, 18, (MASK > 0).astype(np.float32), window_size=5, theta_scale=0.3, theta_diff=0.1,
        salbound_thres=0.5, sal_bg_thres=0.0,
    )  # fmt: skip
    assert {0, 50} <= set(np.unique(codes).tolist())


def test_walk_and_crf_keep_all_of_them() -> None:
    cams, boundary = torch.from_numpy(COARSE), torch.from_numpy(COARSE.max(0))
    walked = random_walk(cams, boundary)
    for k in range(18):
        alone = random_walk(cams[k : k + 1], boundary)
        torch.testing.assert_close(walked[k : k + 1], alone)
    regions = scores_to_regions(COARSE, SIZE, 0.5)
    assert set(np.unique(regions).tolist()) == set(range(19))
    smoothed = DenseCrf(IMAGE, MASK_CRF).from_labels(REGIONS, 19)
    agreement = float((smoothed == REGIONS).mean())
    assert set(np.unique(smoothed).tolist()) == set(range(19))
    assert agreement > 0.9
