from typing import Any

import numpy as np
import pytest

from misc.cam_files import CamFolder
from misc.images import read_mask
from misc.saliency import read_saliency
from misc.wsss_bed import make_wsss_bed_mask
from tests.helpers.paths import GOLDEN

G9 = GOLDEN / "g9_wsss_bed"
LINES = (G9 / "list.txt").read_text(encoding="utf-8").splitlines()
RECORDED: dict[str, dict[str, Any]] = {
    "out_binary_ignore": {"act_thres": 0.1, "sal_thres": 0.2, "ignore": True},
    "out_soft": {"act_thres": 0, "sal_thres": 0, "ignore": False},
    "out_plain": {"act_thres": 0.3},
    "out_binary_high": {"act_thres": 0.5, "sal_thres": 0.5, "ignore": True},
}


@pytest.mark.parametrize("name", RECORDED)
def test_equals_the_published_code_pixel_by_pixel(name: str) -> None:
    folder = CamFolder(G9 / "activation", num_classes=20, cam_format="oaa_png")
    for line in LINES:
        image_id, *classes = line.split()
        saliency = read_saliency(G9 / "saliency" / f"{image_id}.png")
        cams = folder.read(image_id, saliency.shape, parts=["high_res"])
        assert cams.class_ids.tolist() == sorted(int(c) + 1 for c in classes)
        given = None if name == "out_plain" else saliency
        mask = make_wsss_bed_mask(cams.high_res, cams.class_ids, given, **RECORDED[name])
        recorded = read_mask(G9 / name / f"{image_id}.png")
        np.testing.assert_array_equal(mask, recorded, err_msg=f"{name} {image_id}")


def one_row(*maps: list[float]) -> np.ndarray:
    return np.array(maps, np.float32)[:, None, :]


def label(cam: np.ndarray, saliency: list[float] | None, **settings: float) -> list[int]:
    ids = np.arange(len(cam), dtype=np.int64) * 5 + 3
    given = None if saliency is None else np.array([saliency], np.float32)
    return make_wsss_bed_mask(cam, ids, given, **settings)[0].tolist()  # type: ignore[arg-type]


def test_salient_and_activated_pixels_get_their_strongest_class() -> None:
    cam = one_row([0.4, 0.4, 0.2, 0.1, 0], [0.3, 0.4, 0.6, 0.1, 0])
    assert label(cam, [1, 1, 1, 1, 1], act_thres=0.2) == [3, 3, 8, 255, 255]
    assert label(cam, [1, 0.3, 0.2, 1, 0], act_thres=0.2) == [3, 3, 0, 255, 0]
    assert label(cam, [1, 0.3, 0.2, 1, 0], act_thres=0.2, ignore=False) == [3, 3, 0, 0, 0]


def test_an_activation_of_the_threshold_counts_but_not_one_of_zero() -> None:
    assert label(one_row([0.5, 0.0]), [1, 1], act_thres=0.5) == [3, 255]
    assert label(one_row([0.5, 0.0]), [1, 1], act_thres=0, ignore=False) == [3, 0]


def test_soft_saliency_competes_with_the_activation() -> None:
    cam = one_row([0.6, 0.4, 0.25, 0.0, 0.3])
    masks = label(cam, [0.5, 0.5, 0.75, 0.0, 0.8], act_thres=0, sal_thres=0)
    assert masks == [3, 255, 255, 0, 3]  # 0.25 against 1 - 0.75 is a tie: background


def test_ties_of_soft_saliency_are_those_of_float32() -> None:
    levels = np.arange(256)
    cam = (levels / 255).astype(np.float32)[None, None]
    saliency = ((255 - levels) / 255).astype(np.float32)[None]
    ids = np.array([1])
    mask = make_wsss_bed_mask(cam, ids, saliency, act_thres=0, sal_thres=0, ignore=False)
    assert 0 < mask.sum() < 256


def test_without_saliency_the_threshold_is_the_background() -> None:
    cam = one_row([0.3, 0.31, 0.1], [0.2, 0.9, 0.29])
    assert label(cam, None, act_thres=0.3) == [0, 8, 0]


def test_an_image_without_class_has_none() -> None:
    cam = np.zeros((0, 1, 2), np.float32)
    assert label(cam, [1, 0], act_thres=0.1) == [255, 0]
    assert label(cam, None, act_thres=0) == [0, 0]


def test_rounding_above_one_is_one() -> None:
    cam = one_row([1.0005, 1.0001], [1.0, 1.001])
    assert label(cam, [0, 1], act_thres=0.1) == [0, 3]


def test_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="saliency"):
        label(one_row([1, 1]), [1], act_thres=0.1)
